//! Salvaging and compacting stores.

use std::fs;

use crate::given::{Cast, Place};

/// The length of the longest file of a store.
fn len(place: &Place, file: &str) -> u64 {
    fs::metadata(place.path(file)).unwrap().len()
}

#[test]
fn a_store_that_sled_does_not_open_is_salvaged_whole() {
    let place = Place::new();
    place.make("sled:store");
    let expected = place.dump("sled:store");
    // A flipped bit, and files of sled that are gone.
    let path = place.path("store/db");
    let mut bytes = fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[used / 3] ^= 4;
    fs::write(&path, &bytes).unwrap();
    fs::remove_file(place.path("store/conf")).unwrap();
    fs::write(place.path("store/format"), "?").unwrap();
    assert_eq!(place.run(&["verify", "sled:store"]).code, 1);

    for target in ["sled:salvaged", "sqlite:salvaged.db"] {
        let said = place.run_well(&["salvage", "--json", "sled:store", target]).json();
        assert_eq!(said["newCoValues"], Cast::CO_VALUES);
        assert_eq!(said["findings"], serde_json::json!([]));
        assert!(place.dump(target) == expected, "{target}");
    }
    assert!(fs::read(&path).unwrap() == bytes, "the damaged store is not changed");
    // Again: nothing is left to do.
    let said = place.run_well(&["salvage", "--json", "sled:store", "sled:salvaged"]).json();
    assert_eq!(said["newCoValues"], 0);
}

#[test]
fn missing_content_is_listed_and_the_rest_is_salvaged() {
    let place = Place::new();
    place.make("sled:store");
    let path = place.path("store/db");
    let mut bytes = fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    // The second half of the log is gone.
    bytes[used / 2..].fill(0);
    fs::write(&path, &bytes).unwrap();
    let said = place.run(&["salvage", "--json", "sled:store", "sqlite:salvaged.db"]);
    assert_eq!(said.code, 3, "{} {}", said.out, said.err);
    assert!(!said.json()["findings"].as_array().unwrap().is_empty());
    place.run_well(&["verify", "sqlite:salvaged.db"]);
}

#[test]
fn what_is_no_damaged_store_is_not_salvaged() {
    let place = Place::new();
    let said = place.run(&["salvage", "sled:missing", "sled:to"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("is not a Downbeat store"), "{}", said.err);
    assert!(!place.path("to").exists(), "no target is created");
    place.make("sled:store");
    let said = place.run(&["salvage", "sled:store", "sled:store"]);
    assert!(said.err.contains("the same store"), "{}", said.err);
    let said = place.run(&["salvage", "sqlite:a.db", "sled:to"]);
    assert!(said.err.contains("downbeat import"), "{}", said.err);
    let open = place.open("sled:store");
    let said = place.run(&["salvage", "sled:store", "sled:to"]);
    assert!(said.err.contains("stop that first"), "{}", said.err);
    place.runtime.block_on(open.close()).unwrap();
}

#[test]
fn compacting_keeps_all_content() {
    let place = Place::new();
    for (store, file) in [("sled:store", "store/db"), ("sqlite:store.db", "store.db")] {
        place.make(store);
        let expected = place.dump(store);
        let before = len(&place, file);
        let said = place.run_well(&["compact", "--json", store]).json();
        assert!(said["bytesBefore"].as_u64().unwrap() >= before, "{said}");
        assert!(said["bytesAfter"].as_u64().unwrap() > 0, "{said}");
        assert!(place.dump(store) == expected, "{store}");
        let said = place.run_well(&["compact", store]);
        assert!(said.out.contains("compacted"), "{}", said.out);

        let open = place.open(store);
        let said = place.run(&["compact", store]);
        assert_eq!(said.code, 1);
        assert!(said.err.contains("stop that first"), "{}", said.err);
        place.runtime.block_on(open.close()).unwrap();
    }
    for bad in ["sled:missing", "sqlite:missing.db", "memory"] {
        assert_eq!(place.run(&["compact", bad]).code, 1, "{bad}");
    }
}

/// A limit on the length of files stands for a full disk: both are found before sled meets them.
#[cfg(unix)]
#[test]
fn without_room_the_store_stays_as_it_was() {
    let place = Place::new();
    place.make("sled:store");
    let expected = place.dump("sled:store");
    let binary = env!("CARGO_BIN_EXE_downbeat");
    // In KiB: longer than the log, and shorter than the copy may become.
    let limit = len(&place, "store/db") / 1_024 + 1_024;
    let script = format!("ulimit -f {limit}; exec {binary} compact sled:store");
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let said = crate::given::Said::of(&output);
    assert_eq!(said.code, 1, "{} {}", said.out, said.err);
    assert!(said.err.contains("which is as it was"), "{}", said.err);
    assert!(!place.path("store/compacting").exists());
    assert!(place.dump("sled:store") == expected);
}
