//! `downbeat bench start`: starts of the server on an existing store.

use serde_json::Value;

use crate::generate::{Person, create};
use crate::given::Place;

/// The arguments for the server in the directory.
fn start<'a>(load: &'a str, server: &'a str) -> Vec<&'a str> {
    let mut args = vec!["bench", "start", "--json", "--starts", "2", "--load", load, "--", server];
    args.extend(["serve", "--port", "0", "--storage", "sled:store", "--log", "error"]);
    args
}

#[test]
fn every_start_is_measured_until_a_stored_covalue_has_come() {
    let place = Place::new();
    let person = Person::new(1, 0);
    let header = person.owned(1, 0);
    let id = downbeat_crypto::header_id(&header);
    let store = place.open("sled:store");
    let mut writes = person.writes().to_vec();
    writes.push(create(id, &header, vec![person.log().write_private(3, 100)]));
    crate::generate::append(&store, place.runtime.handle(), writes);
    place.runtime.block_on(store.close()).unwrap();

    let server = env!("CARGO_BIN_EXE_downbeat");
    let said = place.run_well(&start(id.as_str(), server));
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["operations"], 2);
    let [listening, answered] =
        ["listening", "latency"].map(|stage| report[stage]["p50"].as_f64().unwrap());
    assert!(0.0 < listening && listening < answered, "{report}");
    assert!(report["server"]["resident_after"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn a_covalue_that_the_store_lacks_is_an_error() {
    let place = Place::new();
    let person = Person::new(1, 0);
    let said = place.run(&start(person.account.as_str(), env!("CARGO_BIN_EXE_downbeat")));
    assert_eq!(said.code, 1);
    assert!(said.err.contains("is not there"), "{}", said.err);
}
