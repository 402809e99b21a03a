//! Imports from store to store.

use std::thread::sleep;
use std::time::{Duration, Instant};

use downbeat_crypto::header_id;
use downbeat_protocol::Transaction;
use downbeat_storage::Write;

use crate::generate::{MADE_AT, Person, Plan, append, create, fill};
use crate::given::{Cast, Place};

const FROM: &str = "sled:from";

#[test]
fn a_store_comes_over_whole_into_any_kind_of_store() {
    let place = Place::new();
    place.make(FROM);
    let said = place.run_well(&["import", "--json", FROM, "sqlite:middle.db"]).json();
    assert_eq!(said["newCoValues"], Cast::CO_VALUES);
    assert_eq!(said["findings"], serde_json::json!([]));
    place.run_well(&["import", "sqlite:middle.db", "sled:to"]);
    assert_eq!(place.dump("sqlite:middle.db"), place.dump(FROM));
    assert_eq!(place.dump("sled:to"), place.dump(FROM));
    place.run_well(&["verify", "sqlite:middle.db"]);
    place.run_well(&["verify", "sled:to"]);
}

#[test]
fn a_native_file_can_be_written_and_read_by_every_tool() {
    let place = Place::new();
    let cast = place.make(FROM);
    let native = ["import", "--json", "--storage-format", "native"];
    place.run_well(&[&native[..], &[FROM, "sqlite:native.db"]].concat());
    let again = place.run_well(&[&native[..], &[FROM, "sqlite:native.db"]].concat()).json();
    assert_eq!(again["unchangedCoValues"], Cast::CO_VALUES);
    place.run_well(&["import", "sqlite:native.db", "sqlite:reference.db"]);
    for (name, format) in [("sqlite:native.db", "native"), ("sqlite:reference.db", "reference")] {
        assert_eq!(place.dump(name), place.dump(FROM), "{name}");
        let verified = place.run_well(&["verify", "--json", name]).json();
        assert_eq!(verified["coValues"], Cast::CO_VALUES, "{name}");
        assert_eq!(verified["findings"], serde_json::json!([]), "{name}");
        let stats = place.run_well(&["stats", "--json", name]).json();
        assert_eq!(stats["coValues"], Cast::CO_VALUES, "{name}");
        assert_eq!(stats["format"], format, "{name}");
        place.run_well(&["inspect", &cast.small.to_string(), name]);
    }
    place.run_well(&["export", "sqlite:native.db", "file"]);
    place.run_well(&["import", "--storage-format", "native", "file", "sqlite:other.db"]);
    assert_eq!(place.dump("sqlite:other.db"), place.dump(FROM));
}

#[test]
fn a_format_that_the_target_cannot_have_is_refused() {
    let place = Place::new();
    place.make(FROM);
    place.run_well(&["import", FROM, "sqlite:to.db"]);
    for (to, expected) in [
        ("sqlite:to.db", "to.db has the format `reference`, but `storage-format` is `native`"),
        (
            "sled:to",
            "`--storage-format` is only for a SQLite file, `sqlite:FILE`, and not for sled:to",
        ),
    ] {
        let said = place.run(&["import", "--storage-format", "native", FROM, to]);
        assert_eq!(said.code, 1, "{to}");
        assert!(said.err.contains(expected), "{to}: {}", said.err);
    }
    assert!(!place.path("to").exists());
}

#[test]
fn importing_again_changes_nothing() {
    let place = Place::new();
    place.make(FROM);
    place.run_well(&["import", FROM, "sled:to"]);
    let again = place.run_well(&["import", "--json", FROM, "sled:to"]).json();
    assert_eq!(again["unchangedCoValues"], Cast::CO_VALUES);
    assert_eq!(again["transactions"], 0);
}

#[test]
fn what_is_new_since_the_last_import_is_added() {
    let place = Place::new();
    let cast = place.make(FROM);
    place.run_well(&["import", FROM, "sled:to"]);
    let store = place.open(FROM);
    let mut log = cast.alice.log();
    log.write_private(Cast::LONG.0, Cast::LONG.1);
    let more = log.write_private(3, 200);
    let session = {
        let marker = downbeat_core::delete::transaction(cast.small, MADE_AT + 5);
        cast.alice.delete_log().write(vec![marker])
    };
    let writes = vec![
        Write::Append { id: cast.long, header: None, sessions: vec![more] },
        Write::Tombstone { id: cast.small, session },
    ];
    append(&store, place.runtime.handle(), writes);
    place.runtime.block_on(store.close()).unwrap();
    drop(store);
    let said = place.run_well(&["import", "--json", FROM, "sled:to"]).json();
    assert_eq!(said["transactions"], 4);
    assert_eq!(place.dump("sled:to"), place.dump(FROM));
}

#[test]
fn an_import_that_is_killed_goes_on_where_it_was() {
    let place = Place::new();
    let store = place.open(FROM);
    let plan = Plan { seed: 3, accounts: 5, co_values: 6_000, transactions: 5, changes_len: 60 };
    fill(&store, place.runtime.handle(), &plan, |_| {});
    place.runtime.block_on(store.close()).unwrap();
    drop(store);

    let mut kills = 0;
    let taken = loop {
        let mut import = place.command(&["import", "-q", "--json", FROM, "sled:to"]);
        let mut import = import.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        let patience = Duration::from_millis(300 + 200 * kills);
        while begun.elapsed() < patience && import.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(5));
        }
        if import.try_wait().unwrap().is_none() {
            import.kill().unwrap();
            import.wait().unwrap();
            kills += 1;
            continue;
        }
        let output = import.wait_with_output().unwrap();
        assert!(output.status.success());
        break serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
    };
    assert!(kills > 0, "it was done before it could be killed");
    let total = 6_000 + 10;
    let there = taken["unchangedCoValues"].as_u64().unwrap();
    assert_eq!(there + taken["newCoValues"].as_u64().unwrap(), total);
    assert!(there > 0 || kills < 3, "what was there before is not taken again");
    assert_eq!(place.dump("sled:to"), place.dump(FROM));
}

#[test]
fn what_does_not_hold_is_left_out_and_named() {
    let place = Place::new();
    place.make(FROM);
    let (alice, stranger) = (Person::new(7, 1), Person::new(7, 99));
    let store = place.open(FROM);
    let content = |number| {
        let header = alice.owned(8, number);
        (header_id(&header), header)
    };
    // A changed transaction.
    let (forged, header) = content(1);
    let mut log = alice.log();
    let good = log.write_private(2, 50);
    let mut bad = log.write_private(1, 50);
    bad.transactions = vec![Transaction::private("encrypted_Ux", "key_z1", MADE_AT, None)];
    let forge = vec![
        create(forged, &header, vec![good]),
        Write::Append { id: forged, header: None, sessions: vec![bad] },
    ];
    // The author's account is missing.
    let (unknown, header) = content(2);
    let orphan = create(unknown, &header, vec![stranger.log().write_private(1, 50)]);
    // The id belongs to another header.
    let (_, header) = content(3);
    let (wrong, _) = content(4);
    let misnamed = create(wrong, &header, Vec::new());
    // A deletion by an author without the right to delete.
    let (kept, header) = content(5);
    let bob = Person::new(7, 2);
    let marker = downbeat_core::delete::transaction(kept, MADE_AT + 1);
    let session = bob.delete_log().write(vec![marker]);
    let deleted = vec![create(kept, &header, Vec::new()), Write::Tombstone { id: kept, session }];
    let writes = [forge, vec![orphan, misnamed], deleted].concat();
    append(&store, place.runtime.handle(), writes);
    place.runtime.block_on(store.close()).unwrap();
    drop(store);

    let said = place.run(&["import", FROM, "sled:to"]);
    assert_eq!(said.code, 3, "{}", said.err);
    let line = |id: downbeat_protocol::CoValueId| {
        let lines = said.out.lines().filter(|line| line.starts_with(id.as_str()));
        let lines: Vec<_> = lines.collect();
        assert!(!lines.is_empty(), "{id} is not named in {}", said.out);
        lines.join("\n")
    };
    assert!(line(forged).contains("signature of transactions 2 to 3"), "{}", line(forged));
    assert!(line(unknown).contains(stranger.account.as_str()), "{}", line(unknown));
    assert!(line(wrong).contains("the header is that of"), "{}", line(wrong));
    assert!(line(kept).contains("not a valid deletion"), "{}", line(kept));

    let ids: Vec<_> = place.dump("sled:to").into_iter().map(|dumped| dumped.id).collect();
    assert!(ids.contains(&forged), "what held of it is there");
    assert!(!ids.contains(&wrong) && !ids.contains(&kept));
    place.run_well(&["verify", "sled:to"]);

    let verified = place.run(&["verify", "--json", FROM]);
    assert_eq!(verified.code, 3);
    let findings = verified.json()["findings"].as_array().unwrap().clone();
    for id in [forged, unknown, wrong, kept] {
        assert!(findings.iter().any(|finding| finding["coValue"] == id.as_str()), "{findings:?}");
    }
}

#[test]
fn a_log_that_went_another_way_in_the_target_is_left_as_it_is() {
    let place = Place::new();
    let cast = place.make(FROM);
    place.run_well(&["import", FROM, "sled:to"]);
    let fork = |name: &str, count| {
        let store = place.open(name);
        let mut log = cast.alice.log_number(77);
        let content = log.write_private(count, 70 + count);
        let write = Write::Append { id: cast.small, header: None, sessions: vec![content] };
        append(&store, place.runtime.handle(), vec![write]);
        place.runtime.block_on(store.close()).unwrap();
    };
    fork("sled:to", 1);
    fork(FROM, 2);
    let before = place.dump("sled:to");
    let said = place.run(&["import", FROM, "sled:to"]);
    assert_eq!(said.code, 3, "{} {}", said.out, said.err);
    assert!(said.out.contains("signature of transactions 1 to 2"), "{}", said.out);
    assert_eq!(place.dump("sled:to"), before);
}
