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
