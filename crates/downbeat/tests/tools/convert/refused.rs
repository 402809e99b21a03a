//! Conversions that are refused change nothing.

use std::fs;

use super::{Kept, NATIVE, files, make};
use crate::given::{Place, Said};

const FROM: &str = "sqlite:from.db";

fn convert(place: &Place, args: &[&str]) -> Said {
    place.run(&[&["convert", "-q"], args].concat())
}

fn assert_refused(said: &Said, expected: &str) {
    assert_eq!(said.code, 1, "{} {}", said.out, said.err);
    assert!(said.err.contains(expected), "{}", said.err);
}

#[test]
fn a_target_that_holds_something_else_is_left_alone() {
    let place = Place::new();
    make(&place, FROM);
    fs::write(place.path("file"), "mine").unwrap();
    fs::create_dir(place.path("directory")).unwrap();
    for to in ["sqlite:file", "sled:file", "sqlite:directory", "sled:directory"] {
        assert_refused(&convert(&place, &[FROM, to]), "exists already");
    }
    assert_eq!(fs::read_to_string(place.path("file")).unwrap(), "mine");
    // SQLite would add this log to a new file of the same name.
    fs::write(place.path("to.db-wal"), "old").unwrap();
    assert_refused(&convert(&place, &[FROM, "sqlite:to.db"]), "to.db-wal is left of an older");
    fs::write(place.path("other.db.unfinished"), "mine").unwrap();
    let said = convert(&place, &[FROM, "sqlite:other.db"]);
    assert_refused(&said, "other.db.unfinished belongs to no known conversion");
    for name in ["to.db", "other.db", "directory", "file"] {
        assert!(!place.path(&format!("{name}.conversion")).exists(), "{name}");
    }
}

#[test]
fn a_source_that_cannot_be_read_makes_no_target() {
    let place = Place::new();
    fs::write(place.path("text.db"), "no database, but longer than a header ".repeat(99)).unwrap();
    for (from, expected) in [
        ("sqlite:nowhere.db", "does not exist"),
        ("sled:nowhere", "does not exist"),
        ("sqlite:text.db", "no SQLite database"),
        ("memory", "name a store on disk"),
    ] {
        assert_refused(&convert(&place, &[from, "sled:to"]), expected);
    }
    assert_refused(&convert(&place, &["sled:from", "memory"]), "name a store on disk");
    assert_eq!(files(&place, "to"), [""; 0]);
}

#[test]
fn a_source_of_a_newer_version_is_refused_and_left_alone() {
    let place = Place::new();
    make(&place, "sled:from");
    for (format, version, expected) in [
        ("reference", 8, "version 8, and only up to 7"),
        ("native", 1_099, "version 99, and only up to"),
    ] {
        let name = format!("sqlite:{format}.db");
        place.run_well(&["convert", "-q", "--storage-format", format, "sled:from", &name]);
        let file = rusqlite::Connection::open(place.path(&format!("{format}.db"))).unwrap();
        file.pragma_update(None, "user_version", version).unwrap();
        drop(file);
        let before = fs::read(place.path(&format!("{format}.db"))).unwrap();
        let said = convert(&place, &[&name, "sled:to"]);
        assert_eq!(said.code, 1, "{}", said.err);
        assert!(said.err.contains("newer"), "{expected}: {}", said.err);
        assert_eq!(fs::read(place.path(&format!("{format}.db"))).unwrap(), before);
    }
    assert_eq!(files(&place, "to"), [""; 0]);
}

#[test]
fn a_source_in_use_is_refused() {
    let place = Place::new();
    make(&place, FROM);
    make(&place, "sled:from");
    for from in [FROM, "sled:from"] {
        let store = place.open(from);
        let said = convert(&place, &[from, "sled:to"]);
        assert_refused(&said, "in use");
        assert!(said.err.contains("stop that first"), "{}", said.err);
        place.runtime.block_on(store.close()).unwrap();
    }
    assert_eq!(files(&place, "to"), [""; 0]);
    convert(&place, &[FROM, "sled:to"]);
    assert_eq!(Kept::of(&place, "sled:to"), Kept::of(&place, FROM));
}

#[test]
fn the_same_store_and_a_wrong_format_are_refused() {
    let place = Place::new();
    make(&place, FROM);
    assert_refused(&convert(&place, &[FROM, "sqlite:./from.db"]), "the same store");
    let said = place.run(&[&NATIVE[..], &[FROM, "sled:to"]].concat());
    assert_refused(&said, "only for a SQLite file");
    assert_eq!(files(&place, "to"), [""; 0]);
}
