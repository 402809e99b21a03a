//! Wrong uses are refused with an explanation, and change nothing.

use crate::given::Place;

#[test]
fn a_store_that_is_not_there_is_not_made_by_reading() {
    let place = Place::new();
    for store in ["sled:nowhere", "sqlite:nowhere"] {
        for args in [
            vec!["verify", store],
            vec!["stats", store],
            vec!["inspect", "co_z1", store],
            vec!["export", store, "file"],
            vec!["import", store, "sled:to"],
        ] {
            let said = place.run(&args);
            assert_eq!(said.code, 1, "{args:?}: {}", said.err);
            assert!(said.err.contains("does not exist"), "{args:?}: {}", said.err);
        }
    }
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_store_that_is_in_use_is_named_with_what_to_do() {
    let place = Place::new();
    place.make("sled:store");
    let store = place.open("sled:store");
    for args in [vec!["verify", "sled:store"], vec!["export", "sled:store", "file"]] {
        let said = place.run(&args);
        assert_eq!(said.code, 1);
        assert!(said.err.contains("in use"), "{}", said.err);
        assert!(said.err.contains("stop that first"), "{}", said.err);
    }
    assert!(!place.path("file").exists());
    place.runtime.block_on(store.close()).unwrap();
}

#[test]
fn the_same_store_under_another_name_is_no_target() {
    let place = Place::new();
    place.make("sled:store");
    let said = place.run(&["import", "sled:store", "sled:./store/../store"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("the same"), "{}", said.err);
}

#[test]
fn a_wrong_command_line_is_told_from_a_failure() {
    let place = Place::new();
    for args in [
        vec!["inspect", "nonsense", "sled:store"],
        vec!["import", "sled:a"],
        vec!["import", "memory", "sled:a"],
        vec!["verify", "rocks:a"],
        vec!["verify", "--frob"],
    ] {
        assert_eq!(place.run(&args).code, 2, "{args:?}");
    }
}

#[test]
fn a_covalue_that_is_not_there_is_an_error() {
    let place = Place::new();
    place.make("sled:store");
    let said = place.run(&["inspect", "co_zNobody", "sled:store"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("co_zNobody is not in sled:store"), "{}", said.err);
}

#[test]
fn a_directory_as_a_file_is_explained() {
    let place = Place::new();
    place.make("sled:store");
    let said = place.run(&["import", "store", "sled:to"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("data:store"), "{}", said.err);
}

#[test]
fn help_has_examples_and_exit_codes() {
    let place = Place::new();
    for tool in ["convert", "import", "export", "verify", "inspect", "stats"] {
        let help = place.run_well(&[tool, "--help"]).out;
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    }
}
