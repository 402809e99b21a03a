//! Complete conversions.

use super::{Kept, NATIVE, files, make};
use crate::given::{Cast, Place};

const FROM: &str = "sled:from";

#[test]
fn everything_is_kept_on_the_way_through_all_kinds_of_stores() {
    let place = Place::new();
    let cast = make(&place, FROM);
    let kept = Kept::of(&place, FROM);
    assert_eq!(kept.notes.len(), 4);
    assert!(kept.cuts.iter().any(|(id, extensions, runs)| {
        *id == cast.long && extensions.len() == Cast::LONG.0 && runs.len() < extensions.len()
    }));
    let format = |format| ["convert", "-q", "--storage-format", format];
    for (args, from, to) in [
        (&format("native")[..], FROM, "sqlite:native.db"),
        (&format("reference"), "sqlite:native.db", "sqlite:reference.db"),
        (&format("native"), "sqlite:reference.db", "sqlite:again.db"),
        (&["convert", "-q"], "sqlite:again.db", "sled:to"),
        (&["convert", "-q"], "sled:to", "sqlite:default.db"),
        (&["convert", "-q", "--verify"], "sqlite:default.db", "sled:checked"),
    ] {
        place.run_well(&[args, &[from, to]].concat());
        assert_eq!(Kept::of(&place, to), kept, "{from} to {to}");
        assert_eq!(Kept::of(&place, from), kept, "{from} is as it was");
        place.run_well(&["verify", "-q", to]);
    }
    for (name, format) in [("native.db", "native"), ("reference.db", "reference")] {
        let stats = place.run_well(&["stats", "--json", &format!("sqlite:{name}")]).json();
        assert_eq!(stats["format"], format);
    }
    // Nothing else is left of a conversion.
    assert_eq!(files(&place, "to"), ["to"]);
    assert_eq!(files(&place, "again.db"), ["again.db", "again.db-reserve"]);
}

#[test]
fn the_result_says_what_was_copied() {
    let place = Place::new();
    make(&place, FROM);
    let said = place.run_well(&[&NATIVE[..], &[FROM, "sqlite:to.db"]].concat()).json();
    assert_eq!(said["newCoValues"], Cast::CO_VALUES);
    assert_eq!(said["unchangedCoValues"], 0);
    assert_eq!(said["findings"], serde_json::json!([]));
    assert_eq!(said["complete"], true);
    let said = place.run_well(&["convert", FROM, "sled:other/place/"]);
    assert!(said.err.contains("converted 8 CoValues and "), "{}", said.err);
    assert_eq!(Kept::of(&place, "sled:other/place"), Kept::of(&place, FROM));
}

#[test]
fn an_empty_store_becomes_an_empty_store() {
    let place = Place::new();
    place.runtime.block_on(place.open(FROM).close()).unwrap();
    place.run_well(&[&NATIVE[..], &[FROM, "sqlite:to.db"]].concat());
    assert!(place.dump("sqlite:to.db").is_empty());
}

#[test]
fn hidden_content_that_is_not_erased_yet_is_not_copied() {
    let place = Place::new();
    let cast = place.make(FROM);
    place.run_well(&[&NATIVE[..], &[FROM, "sqlite:to.db"]].concat());
    assert_eq!(place.dump("sqlite:to.db"), place.dump(FROM));
    let store = place.open("sqlite:to.db");
    place.runtime.block_on(async {
        assert!(store.load(cast.deleted).await.unwrap().unwrap().deleted);
        assert_eq!(store.erasable(None, 9).await.unwrap(), []);
        let sessions = store.stats().await.unwrap().sessions;
        assert_eq!(sessions, 8, "accounts, groups, two of `small`, `long`, and the deletion");
        store.close().await.unwrap();
    });
}
