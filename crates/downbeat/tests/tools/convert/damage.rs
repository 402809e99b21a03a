//! Damaged and invalid content in the source.

use downbeat_protocol::Transaction;
use downbeat_storage::Write;

use super::{Kept, NATIVE, make};
use crate::generate::{MADE_AT, append};
use crate::given::{Dumped, Place, Said};

/// Changes a SQLite file.
fn change(place: &Place, file: &str, statement: &str, id: &str) {
    let changed = rusqlite::Connection::open(place.path(file)).unwrap();
    assert!(changed.execute(statement, [id]).unwrap() > 0, "{statement}");
}

fn assert_named(said: &Said, id: &str, reason: &str) {
    assert_eq!(said.code, 3, "{} {}", said.out, said.err);
    let named = said.out.lines().any(|line| line.starts_with(id) && line.contains(reason));
    assert!(named, "{id}: {reason} is not in {}", said.out);
}

/// The content without one CoValue.
fn without(content: Vec<Dumped>, id: downbeat_protocol::CoValueId) -> Vec<Dumped> {
    content.into_iter().filter(|dumped| dumped.id != id).collect()
}

#[test]
fn damage_in_a_session_costs_only_the_rest_of_it() {
    let place = Place::new();
    let cast = make(&place, "sled:from");
    let whole = Kept::of(&place, "sled:from");
    for (format, statement) in [
        (
            "reference",
            "UPDATE transactions SET tx = replace(tx, 'encrypted_U', 'encrypted_V')
            WHERE idx = 30 AND ses IN (SELECT s.rowID FROM sessions s
                JOIN coValues c ON c.rowID = s.coValue WHERE c.id = ?1)",
        ),
        (
            "native",
            "UPDATE log SET record = CAST(replace(record, 'encrypted_U', 'encrypted_V') AS BLOB)
            WHERE place & 0xffffffff = 31 AND place >> 32 IN (SELECT s.ses FROM sessions s
                JOIN coValues c ON c.rowID = s.coValue WHERE c.id = ?1)",
        ),
    ] {
        let (file, to) = (format!("{format}.db"), format!("sled:of-{format}"));
        let from = format!("sqlite:{file}");
        place.run_well(&["convert", "-q", "--storage-format", format, "sled:from", &from]);
        change(&place, &file, statement, cast.long.as_str());
        let said = place.run(&["convert", "-q", &from, &to]);
        assert_named(&said, cast.long.as_str(), "");
        assert_eq!(said.out.lines().count(), 1, "{}", said.out);
        let found = Kept::of(&place, &to);
        assert_eq!(found.notes, whole.notes);
        let store = place.open(&to);
        let stored = place.runtime.block_on(store.load(cast.long)).unwrap().unwrap();
        assert_eq!(stored.sessions[0].count, 30, "{format}: the part before the damage");
        place.runtime.block_on(store.close()).unwrap();
        let whole = without(place.dump("sled:from"), cast.long);
        assert_eq!(without(place.dump(&to), cast.long), whole, "{format}");
    }
}

#[test]
fn damage_of_a_covalue_costs_only_this_covalue() {
    let place = Place::new();
    let cast = make(&place, "sled:from");
    place.run_well(&[&NATIVE[..], &["sled:from", "sqlite:from.db"]].concat());
    let statement = "UPDATE coValues SET header = CAST(replace(header, 'comap', 'colist') AS BLOB)
        WHERE id = ?1";
    change(&place, "from.db", statement, cast.empty.as_str());
    // The tombstone, without which the CoValue would come back to life.
    let statement = "UPDATE log SET record = CAST(record || 'x' AS BLOB)
        WHERE place >> 32 IN (SELECT s.ses FROM sessions s
            JOIN coValues c ON c.rowID = s.coValue WHERE c.id = ?1)";
    change(&place, "from.db", statement, cast.deleted.as_str());
    let said = place.run(&["convert", "-q", "sqlite:from.db", "sled:to"]);
    assert_named(&said, cast.empty.as_str(), "header");
    assert_named(&said, cast.deleted.as_str(), "marked as deleted");
    let whole = without(without(place.dump("sled:from"), cast.empty), cast.deleted);
    assert_eq!(place.dump("sled:to"), whole);
}

#[test]
fn a_covalue_that_cannot_be_listed_is_reported() {
    let place = Place::new();
    let cast = make(&place, "sled:from");
    place.run_well(&["convert", "-q", "sled:from", "sqlite:from.db"]);
    let statement = "UPDATE coValues SET id = x'00' || id WHERE id = ?1";
    change(&place, "from.db", statement, cast.empty.as_str());
    let said = place.run(&["convert", "-q", "sqlite:from.db", "sled:to"]);
    assert_named(&said, "the store lists 7 CoValues, but its totals say 8", "");
    assert_eq!(place.dump("sled:to"), without(place.dump("sled:from"), cast.empty));
}

#[test]
fn signatures_are_checked_on_request() {
    let place = Place::new();
    let cast = make(&place, "sled:from");
    let store = place.open("sled:from");
    let mut log = cast.alice.log_number(5);
    let good = log.write_private(2, 50);
    let mut bad = log.write_private(1, 50);
    bad.transactions = vec![Transaction::private("encrypted_Ux", "key_z1", MADE_AT, None)];
    let write = |content| Write::Append { id: cast.empty, header: None, sessions: vec![content] };
    append(&store, place.runtime.handle(), vec![write(good), write(bad)]);
    place.runtime.block_on(store.close()).unwrap();
    drop(store);
    place.run_well(&[&NATIVE[..], &["sled:from", "sqlite:all.db"]].concat());
    assert_eq!(Kept::of(&place, "sqlite:all.db"), Kept::of(&place, "sled:from"));
    let args = ["convert", "-q", "--verify", "sled:from", "sqlite:valid.db"];
    let said = place.run(&args);
    assert_named(&said, cast.empty.as_str(), "signature of transactions 2 to 3");
    assert_eq!(said.out.lines().count(), 1, "{}", said.out);
    place.run_well(&["verify", "-q", "sqlite:valid.db"]);
    let store = place.open("sqlite:valid.db");
    let stored = place.runtime.block_on(store.load(cast.empty)).unwrap().unwrap();
    assert_eq!(stored.sessions[0].count, 2);
    place.runtime.block_on(store.close()).unwrap();
}
