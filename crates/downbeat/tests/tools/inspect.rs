//! Inspection of stores.

use serde_json::json;

use crate::given::{Cast, Place};

#[test]
fn a_covalue_is_shown_with_its_sessions_dependencies_and_roles() {
    let place = Place::new();
    let cast = place.make("sled:store");
    let shown = place.run_well(&["inspect", "--json", cast.small.as_str(), "sled:store"]).json();
    assert_eq!(shown["id"], cast.small.as_str());
    assert_eq!(shown["kind"], "owned by a group");
    assert_eq!(shown["deleted"], false);
    assert_eq!(shown["header"]["ruleset"]["group"], cast.alice.group.as_str());
    let sessions = shown["sessions"].as_array().unwrap();
    let of = |session: &downbeat_protocol::SessionId| {
        let found = sessions.iter().find(|found| found["session"] == session.as_str()).unwrap();
        (found["transactions"].as_u64().unwrap(), found["holds"].as_bool().unwrap())
    };
    assert_eq!(of(&cast.alice.session), (4, true));
    assert_eq!(of(&cast.bob.session), (2, true));
    let needs = shown["dependencies"].as_array().unwrap();
    for id in [cast.alice.account, cast.bob.account, cast.alice.group] {
        assert!(needs.contains(&json!({"id": id.as_str(), "stored": true})), "{needs:?}");
    }
    assert_eq!(shown["group"], cast.alice.group.as_str());
    let roles = shown["roles"].as_array().unwrap();
    let admin = json!({"member": cast.alice.account.as_str(), "role": "admin"});
    assert!(roles.contains(&admin), "{roles:?}");
    assert!(roles.contains(&json!({"member": "everyone", "role": "reader"})), "{roles:?}");
}

#[test]
fn the_table_says_the_same() {
    let place = Place::new();
    let cast = place.make("sled:store");
    let out = place.run_well(&["inspect", cast.long.as_str(), "sled:store"]).out;
    for part in ["60 transactions", cast.alice.session.as_str(), "admin", cast.alice.group.as_str()]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    let out = place.run_well(&["inspect", cast.deleted.as_str(), "sled:store"]).out;
    assert!(out.contains("deleted"), "{out}");
}

#[test]
fn the_figures_of_a_store_are_shown() {
    let place = Place::new();
    place.make("sled:store");
    let shown = place.run_well(&["stats", "--json", "sled:store"]).json();
    assert_eq!(shown["coValues"], Cast::CO_VALUES);
    assert_eq!(shown["deleted"], 1);
    let out = place.run_well(&["stats", "sled:store"]).out;
    assert!(out.contains("CoValues      8"), "{out}");
}

#[test]
fn without_a_name_the_store_of_the_default_data_directory_is_shown() {
    let place = Place::new();
    let said = place.run(&["stats"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("downbeat-data/downbeat.db does not exist"), "{}", said.err);
    assert!(!place.path("downbeat-data").exists());

    let cast = place.make("sled:from");
    place.run_well(&["import", "sled:from", "data:downbeat-data"]);
    let shown = place.run_well(&["stats", "--json"]).json();
    assert_eq!((&shown["format"], &shown["coValues"]), (&"native".into(), &Cast::CO_VALUES.into()));
    place.run_well(&["inspect", cast.small.as_str()]);
    place.run_well(&["verify"]);

    std::fs::remove_dir_all(place.path("downbeat-data")).unwrap();
    std::fs::rename(place.path("from"), place.path("downbeat-data")).unwrap();
    let shown = place.run_well(&["stats", "--json"]).json();
    assert_eq!((&shown["format"], &shown["coValues"]), (&().into(), &Cast::CO_VALUES.into()));
}
