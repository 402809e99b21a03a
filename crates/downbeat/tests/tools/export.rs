//! Portable files: an import restores the exported content.

use std::io::Write as _;
use std::process::Stdio;

use crate::given::{Cast, Place, Said, rewrite};

const FROM: &str = "sled:from";

#[test]
fn what_went_through_a_file_is_what_it_was() {
    let place = Place::new();
    place.make(FROM);
    for (file, flag) in [("a.ndjson", None), ("b.ndjson.zst", None), ("c", Some("--zstd"))] {
        let args: Vec<_> = ["export", FROM, file].into_iter().chain(flag).collect();
        place.run_well(&args);
        let to = format!("sled:to-{file}");
        place.run_well(&["import", file, &to]);
        assert_eq!(place.dump(&to), place.dump(FROM));
        place.run_well(&["verify", &to]);
    }
    let first = std::fs::read(place.path("b.ndjson.zst")).unwrap();
    assert_eq!(&first[..4], [0x28, 0xb5, 0x2f, 0xfd], "it is compressed");
}

#[test]
fn a_file_is_messages_of_the_protocol_between_two_lines() {
    let place = Place::new();
    let cast = place.make(FROM);
    place.run_well(&["export", FROM, "file"]);
    let text = std::fs::read_to_string(place.path("file")).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], serde_json::json!({"downbeat": "export", "version": 1}));
    let end = lines.last().unwrap();
    assert_eq!(end["downbeat"], "end");
    assert_eq!(end["coValues"], Cast::CO_VALUES);
    assert_eq!(end["messages"], lines.len() - 2);
    let messages = &lines[1..lines.len() - 1];
    assert!(messages.iter().all(|message| message["action"] == "content"));
    let at = |id: downbeat_protocol::CoValueId| {
        messages.iter().position(|message| message["id"] == id.as_str()).unwrap()
    };
    assert!(at(cast.bob.account) < at(cast.alice.group), "accounts come before groups");
    assert!(at(cast.bob.group) < at(cast.small), "and groups before the rest");
}

#[test]
fn standard_streams_carry_a_store_from_one_process_to_the_next() {
    let place = Place::new();
    place.make(FROM);
    let exported = place.command(&["export", FROM, "-"]).output().unwrap();
    assert!(exported.status.success());
    let mut import = place
        .command(&["import", "-", "sled:to"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    import.stdin.take().unwrap().write_all(&exported.stdout).unwrap();
    assert!(import.wait().unwrap().success());
    assert_eq!(place.dump("sled:to"), place.dump(FROM));
}

#[test]
fn the_lines_of_a_file_may_come_in_any_order_of_covalues() {
    let place = Place::new();
    place.make(FROM);
    place.run_well(&["export", FROM, "file"]);
    rewrite(&place.path("file"), |text| {
        let lines: Vec<_> = text.lines().collect();
        // Messages of one CoValue stay in order.
        let mut groups: Vec<Vec<&str>> = Vec::new();
        for line in &lines[1..lines.len() - 1] {
            match groups.last_mut() {
                Some(group) if group[0][..60] == line[..60] => group.push(line),
                _ => groups.push(vec![line]),
            }
        }
        groups.reverse();
        let lines = [vec![lines[0]], groups.concat(), vec![lines[lines.len() - 1]]].concat();
        lines.join("\n") + "\n"
    });
    place.run_well(&["import", "file", "sled:to"]);
    assert_eq!(place.dump("sled:to"), place.dump(FROM));
}

#[test]
fn importing_a_file_again_changes_nothing() {
    let place = Place::new();
    place.make(FROM);
    place.run_well(&["export", FROM, "file"]);
    place.run_well(&["import", "file", "sled:to"]);
    let again = place.run_well(&["import", "--json", "file", "sled:to"]).json();
    assert_eq!((&again["newCoValues"], &again["transactions"]), (&0.into(), &0.into()));
    assert_eq!(place.dump("sled:to"), place.dump(FROM));
}

#[test]
fn a_file_that_is_cut_off_is_an_error_with_its_line_and_what_was_taken() {
    let place = Place::new();
    place.make(FROM);
    place.run_well(&["export", FROM, "file"]);
    rewrite(&place.path("file"), |text| {
        let keep: Vec<_> = text.lines().take(5).collect();
        keep.join("\n") + "\n"
    });
    let said = place.run(&["import", "file", "sled:to"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("cut off after line 5"), "{}", said.err);
    assert!(said.err.contains("4 new CoValues"), "{}", said.err);
    assert_eq!(place.dump("sled:to").len(), 4);
}

#[test]
fn a_compressed_file_that_is_cut_off_is_an_error() {
    let place = Place::new();
    place.make(FROM);
    place.run_well(&["export", FROM, "file.zst"]);
    let bytes = std::fs::read(place.path("file.zst")).unwrap();
    std::fs::write(place.path("file.zst"), &bytes[..bytes.len() * 3 / 4]).unwrap();
    let said = place.run(&["import", "file.zst", "sled:to"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("in line") || said.err.contains("cut off"), "{}", said.err);
    assert!(place.run(&["verify", "sled:to"]).code == 0, "what was taken holds");
}

fn import_changed(place: &Place, change: impl FnOnce(&str) -> String) -> Said {
    place.make(FROM);
    place.run_well(&["export", FROM, "file"]);
    rewrite(&place.path("file"), change);
    place.run(&["import", "file", "sled:to"])
}

#[test]
fn a_forged_transaction_is_left_out_and_named() {
    let place = Place::new();
    let said = import_changed(&place, |text| text.replacen("1700000000002", "1700000000009", 1));
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.out.contains("signature"), "{}", said.out);
    assert!(said.out.contains("line "), "{}", said.out);
    place.run_well(&["verify", "sled:to"]);
}

#[test]
fn a_line_that_is_no_message_is_left_out_and_the_others_are_taken() {
    let place = Place::new();
    let said = import_changed(&place, |text| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let last = lines.len() - 2;
        lines[last] = lines[last].replace("\"after\"", "\"after");
        lines.join("\n")
    });
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.out.contains("not JSON"), "{}", said.out);
    assert_eq!(place.dump("sled:to").len(), Cast::CO_VALUES - 1);
}

#[test]
fn what_is_no_export_is_refused() {
    let place = Place::new();
    std::fs::write(place.path("file"), "no such thing\n").unwrap();
    let said = place.run(&["import", "file", "sled:to"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("is no export"), "{}", said.err);
}

#[test]
fn a_file_is_not_overwritten_unless_that_is_wanted() {
    let place = Place::new();
    place.make(FROM);
    std::fs::write(place.path("file"), "precious").unwrap();
    let said = place.run(&["export", FROM, "file"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("--force"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(place.path("file")).unwrap(), "precious");
    place.run_well(&["export", "--force", FROM, "file"]);
}
