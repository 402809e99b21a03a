//! Verification of stores.

use crate::given::{Cast, Place};

#[test]
fn a_store_that_holds_is_said_to_hold() {
    let place = Place::new();
    place.make("sled:store");
    let said = place.run_well(&["verify", "--json", "sled:store"]).json();
    assert_eq!(said["coValues"], Cast::CO_VALUES);
    // Two accounts, two groups of two, the small one, the long one, and a deletion.
    assert_eq!(said["transactions"], 2 + 4 + 6 + Cast::LONG.0 as u64 + 1);
    assert_eq!(said["findings"], serde_json::json!([]));
}

#[test]
fn rows_that_were_changed_in_a_sqlite_file_are_found_and_the_rest_is_checked() {
    let place = Place::new();
    let cast = place.make("sled:from");
    place.run_well(&["import", "sled:from", "sqlite:store.db"]);
    let changed = rusqlite::Connection::open(place.path("store.db")).unwrap();
    // Without our checksums, like a file of the reference.
    changed.execute_batch("DROP TABLE IF EXISTS downbeat_extensions").unwrap();
    let rows = changed
        .execute(
            "UPDATE transactions SET tx = replace(tx, '1700000000002', '1700000000009')
             WHERE tx LIKE '%1700000000002%' AND length(tx) < 1000",
            [],
        )
        .unwrap();
    assert!(rows > 0);
    drop(changed);
    let said = place.run(&["verify", "--json", "sqlite:store.db"]);
    assert_eq!(said.code, 3, "{} {}", said.out, said.err);
    let findings = said.json()["findings"].as_array().unwrap().clone();
    assert!(
        findings.iter().any(|finding| finding["coValue"] == cast.small.as_str()),
        "{findings:?}"
    );
    assert_eq!(said.json()["coValues"], Cast::CO_VALUES);
}

#[test]
fn verifying_continues_after_columns_that_cannot_be_read() {
    let place = Place::new();
    let cast = place.make("sled:from");
    place.run_well(&["import", "sled:from", "sqlite:store.db"]);
    let changed = rusqlite::Connection::open(place.path("store.db")).unwrap();
    // An id that no query finds, text instead of a number, and damaged totals.
    for (statement, id) in [
        ("UPDATE coValues SET id = x'00' || id WHERE id = ?1", cast.empty),
        (
            "UPDATE sessions SET lastIdx = 'ten'
             WHERE coValue = (SELECT rowID FROM coValues WHERE id = ?1)",
            cast.small,
        ),
        ("UPDATE downbeat_totals SET transactions = 'many' WHERE ?1 <> ''", cast.small),
    ] {
        assert!(changed.execute(statement, [id.as_str()]).unwrap() > 0, "{statement}");
    }
    drop(changed);
    let said = place.run(&["verify", "--json", "sqlite:store.db"]);
    assert_eq!(said.code, 3, "{} {}", said.out, said.err);
    let report = said.json();
    assert_eq!(report["coValues"], Cast::CO_VALUES - 1, "all others are checked: {report}");
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["coValue"] == cast.small.as_str()), "{report}");
    let count =
        |finding: &serde_json::Value| finding["reason"].to_string().contains("totals say 8");
    assert!(findings.iter().any(count), "{report}");
    assert!(said.err.contains("with a damaged id"), "{}", said.err);
}

#[test]
fn texts_of_a_hostile_file_cannot_control_the_terminal() {
    let place = Place::new();
    let cast = place.make("sled:from");
    place.run_well(&["import", "sled:from", "sqlite:store.db"]);
    let hostile = "co_z1\n2026-01-01 ERROR forged\u{1b}[2J\u{9b}\u{202e}";
    let changed = rusqlite::Connection::open(place.path("store.db")).unwrap();
    changed.execute("UPDATE sessions SET sessionID = ?1 || rowID", [hostile]).unwrap();
    changed
        .execute("UPDATE coValues SET id = ?1 WHERE id = ?2", [hostile, cast.empty.as_str()])
        .unwrap();
    drop(changed);
    let file = place.path("hostile.ndjson");
    let line =
        format!("{{\"action\":\"content\",\"id\":{hostile:?},\"x\":\"\u{1b}[2J\u{202e}\"}}\n");
    place.run_well(&["export", "sled:from", "hostile.ndjson"]);
    crate::given::rewrite(&file, |text| {
        let (first, rest) = text.split_once('\n').unwrap();
        format!("{first}\n{line}{rest}")
    });
    for args in [
        &["verify", "sqlite:store.db"][..],
        &["verify", "--json", "sqlite:store.db"],
        &["inspect", cast.small.as_str(), "sqlite:store.db"],
        &["inspect", "--json", cast.small.as_str(), "sqlite:store.db"],
        &["import", "sqlite:store.db", "sled:to"],
        &["import", "hostile.ndjson", "sled:other"],
        &["import", "--json", "hostile.ndjson", "sled:other"],
        &["export", "sqlite:store.db", "out.ndjson"],
    ] {
        let said = place.run(args);
        for text in [&said.out, &said.err] {
            let bad = |c| downbeat_protocol::is_unprintable(c) && c != '\n';
            assert!(!text.contains(bad), "{args:?}: {text:?}");
            assert!(!text.contains("\n2026-01-01 ERROR forged"), "{args:?}: {text:?}");
        }
    }
}
