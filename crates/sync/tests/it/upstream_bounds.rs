//! How much is asked of an upstream at a time, and how much is kept for it.

use std::collections::BTreeSet;

use downbeat_sync::Config;

use crate::authors::{Author, Value};
use crate::upstream::{world_and_map, world_and_map_with};
use crate::upstream_unsynced::many;
use crate::world::World;

fn two_loads() -> Config {
    Config { loads_per_upstream: 2, ..Config::default() }
}

#[test]
fn no_more_loads_are_under_way_than_may_be_and_answers_and_time_make_room() {
    let mut world = World::with_config(two_loads());
    let ann = world.connect("ann");
    let mut values = many(7);
    for (number, (value, log)) in values.iter_mut().enumerate() {
        world.name(value, &format!("m{number}"));
        world.name_log(log, "a");
        world.send(ann, value.whole(vec![log.write(&["[1]"])]));
    }
    world.skip_log();
    let core = world.connect_upstream("core");
    world.expect(&["core ← LOAD m0 header a:1", "core ← LOAD m1 header a:1"]);
    world.send(core, values[0].0.known(&[(&values[0].1, 1)]));
    world.expect(&["core → KNOWN m0 header a:1", "core ← LOAD m2 header a:1"]);
    world.pass(60_000);
    world.expect(&["core ← LOAD m3 header a:1", "core ← LOAD m4 header a:1"]);
    // A late answer makes no room that is not there.
    world.send(core, values[1].0.known(&[(&values[1].1, 1)]));
    world.expect(&["core → KNOWN m1 header a:1"]);
    world.pass(60_000);
    world.pass(60_000);
    world.expect(&["core ← LOAD m5 header a:1", "core ← LOAD m6 header a:1"]);
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn content_makes_room_for_the_next_load_too() {
    let mut world = World::with_config(Config { loads_per_upstream: 1, ..Config::default() });
    let mut other = Author::new(5).agent_log(5);
    world.name_log(&other, "b");
    let ann = world.connect("ann");
    let values = many(2);
    for (number, (value, _)) in values.iter().enumerate() {
        world.name(value, &format!("m{number}"));
        world.send(ann, value.whole(Vec::new()));
    }
    world.skip_log();
    let core = world.connect_upstream("core");
    world.send(core, values[0].0.more(vec![other.write(&["[1]"])]));
    world.expect(&[
        "core ← LOAD m0 header",
        "core → CONTENT m0 b:0+1",
        "core ← LOAD m1 header",
        "ann ← CONTENT m0 b:0+1",
        "core ← KNOWN m0 header b:1",
    ]);
}

#[test]
fn urgent_loads_and_those_for_dependencies_do_not_wait_for_room() {
    let admin = Author::new(1);
    let (map, mut log) = (Value::free("map"), admin.account_log(1));
    let mut world = World::with_config(two_loads());
    world.name(&map, "map");
    world.name_log(&log, "a");
    world.name(&admin.account, "account");
    let ann = world.connect("ann");
    let values = many(5);
    for (value, _) in &values {
        world.send(ann, value.whole(Vec::new()));
    }
    let core = world.connect_upstream("core");
    world.skip_log();
    world.send(ann, map.load_nothing());
    world.expect(&["ann → LOAD map nothing", "core ← LOAD map nothing"]);
    world.send(core, map.whole(vec![log.write(&["[1]"])]));
    world.expect(&["core → CONTENT map header a:0+1", "core ← LOAD account nothing"]);
}

#[test]
fn content_of_an_upstream_that_was_given_up_is_asked_for_again() {
    let admin = Author::new(1);
    let (mut world, map, _) = world_and_map_with(Config::default());
    let mut log = admin.account_log(1);
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    // The account that signs it never comes.
    world.send(core, map.whole(vec![log.write(&["[1]"])]));
    world.pass(60_000);
    world.skip_log();
    world.send(ann, map.load_nothing());
    world.expect(&["ann → LOAD map nothing", "core ← LOAD map nothing"]);
}

#[test]
fn no_load_is_left_waiting_when_its_upstream_reconnects() {
    let mut world = World::with_config(two_loads());
    let ann = world.connect("ann");
    let values = many(5);
    for (value, _) in &values {
        world.send(ann, value.whole(Vec::new()));
    }
    let core = world.connect_upstream("core");
    world.disconnect(core);
    world.skip_log();
    let core = world.connect_upstream("core");
    for (value, _) in &values {
        world.send(core, value.known(&[]));
    }
    assert_eq!(world.said().iter().filter(|line| line.contains("← LOAD")).count(), 5);
}

#[test]
fn upstream_subscriptions_to_forgotten_unwatched_values_are_dropped() {
    let (mut world, map, mut log) =
        world_and_map_with(Config { warm_co_values: 0, ..Config::default() });
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.send(core, map.known(&[(&log, 1)]));
    assert_eq!(world.machine.subscriptions(core), 1);
    world.disconnect(ann);
    let bob = world.connect("bob");
    for (value, _) in many(20) {
        world.send(bob, value.whole(Vec::new()));
        world.send(core, value.known(&[]));
    }
    assert_eq!(world.machine.subscriptions(core), 20);
    world.disconnect(bob);
    assert_eq!(world.machine.subscriptions(core), 0);
    // A peer that comes back to it gets the changes since then.
    world.skip_log();
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 1)]));
    let said = world.said();
    assert!(said.contains(&"core ← LOAD map header a:1".to_owned()), "{said:?}");
    world.send(core, map.more(vec![log.write(&["[2]"])]));
    assert!(world.said().contains(&"bob ← CONTENT map a:1+1".to_owned()));
}

#[test]
fn a_load_that_was_never_answered_leaves_nothing_behind() {
    let config = Config { warm_co_values: 0, ..Config::default() };
    let (mut world, map, log) = world_and_map_with(config);
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load(&[(&log, 0)]));
    world.pass(60_000);
    world.disconnect(ann);
    let bob = world.connect("bob");
    world.send(bob, map.whole(Vec::new()));
    world.send(core, map.known(&[]));
    world.disconnect(bob);
    let bob = world.connect("bob");
    world.send(bob, map.load(&[]));
    world.disconnect(bob);
    assert_eq!(world.machine.subscriptions(core), 1);
    world.pass(60_000);
    assert_eq!(world.machine.subscriptions(core), 0);
    assert_eq!(world.machine.warm_co_values(), 0);
}

#[test]
fn timeouts_of_forgotten_values_make_room_for_waiting_loads() {
    let config = Config { warm_co_values: 0, ..two_loads() };
    let mut world = World::with_config(config);
    let ann = world.connect("ann");
    for (value, _) in many(6) {
        world.send(ann, value.whole(Vec::new()));
    }
    world.skip_log();
    let _core = world.connect_upstream("core");
    for rounds in 1..=3 {
        let loads = world.said().iter().filter(|line| line.contains("← LOAD")).count();
        assert_eq!(loads, 2, "round {rounds}");
        world.pass(60_000);
    }
}

#[test]
fn upstream_subscriptions_to_forgotten_unsynced_values_are_kept() {
    let (mut world, map, mut log) =
        world_and_map_with(Config { warm_co_values: 1, ..Config::default() });
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.disconnect(ann);
    let bob = world.connect("bob");
    for (value, _) in many(20) {
        world.send(bob, value.load_nothing());
        world.send(core, value.known_nothing());
    }
    world.disconnect(bob);
    world.skip_log();
    world.send(core, map.known_nothing());
    world.send(core, map.known(&[(&log, 1)]));
    world.expect(&[
        "core → KNOWN map nothing",
        "core ← CONTENT map header a:0+1",
        "core → KNOWN map header a:1",
    ]);
    assert!(world.notes.is_empty());
}

#[test]
fn for_an_absent_upstream_only_watched_or_warm_values_are_kept() {
    let config = Config { warm_co_values: 2, ..Config::default() };
    let (mut world, map, mut log) = world_and_map_with(config);
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.send(core, map.known(&[(&log, 1)]));
    world.disconnect(core);
    let bob = world.connect("bob");
    for (value, _) in many(50) {
        world.send(bob, value.whole(Vec::new()));
    }
    world.disconnect(bob);
    assert_eq!(world.notes.len(), 50);
    #[cfg(feature = "faults")]
    assert!(world.machine.noted_in_memory() <= 3, "{}", world.machine.noted_in_memory());
    world.disconnect(ann);
    // All of them reach the upstream all the same.
    let core = world.connect_upstream("core");
    for (value, _) in many(50) {
        world.send(core, value.known_nothing());
        world.send(core, value.known(&[]));
    }
    assert!(world.notes.is_empty(), "{} left", world.notes.len());
}

#[test]
fn an_upstream_is_told_nothing_that_its_load_has_told_it() {
    let (mut world, map, mut log) = world_and_map();
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    let core = world.connect_upstream("core");
    world.skip_log();
    world.send(core, map.known(&[(&log, 1)]));
    world.send(core, map.known(&[(&log, 1)]));
    world.expect(&["core → KNOWN map header a:1", "core → KNOWN map header a:1"]);
}

#[test]
fn notes_beyond_the_bound_are_in_storage_only() {
    let mut world = World::with_config(Config { warm_co_values: 0, ..Config::default() });
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    let values = many(3_000);
    for (value, _) in &values {
        world.send(ann, value.whole(Vec::new()));
    }
    world.disconnect(ann);
    world.pass(60_000);
    assert_eq!(world.notes.len(), 3_000);
    #[cfg(feature = "faults")]
    assert!(world.machine.noted_in_memory() <= 1_100, "{}", world.machine.noted_in_memory());
    assert!(world.machine.subscriptions(core) <= 1_100, "{}", world.machine.subscriptions(core));
    // When it begins to, all of them are looked up again.
    for _ in 0..20 {
        let noted: BTreeSet<_> = world.notes.iter().map(|(_, id)| *id).collect();
        for (value, _) in values.iter().filter(|(value, _)| noted.contains(&value.id)) {
            world.send(core, value.known(&[]));
        }
    }
    assert!(world.notes.is_empty(), "{} notes", world.notes.len());
    #[cfg(feature = "faults")]
    assert_eq!(world.machine.noted_in_memory(), 0);
}

#[test]
fn loads_for_clients_that_left_are_dropped() {
    let config = Config { warm_co_values: 0, loads_per_upstream: 2, ..Config::default() };
    let mut world = World::with_config(config);
    let core = world.connect_upstream("core");
    let values = many(1_500);
    for _ in 0..3 {
        let eve = world.connect("eve");
        for (value, _) in &values {
            world.send(eve, value.load_nothing());
        }
        #[cfg(feature = "faults")]
        assert!(world.machine.loads_to(core) >= 1_500);
        world.disconnect(eve);
        assert_eq!(world.machine.warm_co_values(), 0);
        #[cfg(feature = "faults")]
        assert_eq!(world.machine.loads_to(core), 0);
        assert_eq!(world.machine.subscriptions(core), 0);
    }
}

#[test]
fn waiting_loads_are_bounded_by_the_watched_values() {
    let config = Config { warm_co_values: 0, loads_per_upstream: 0, ..Config::default() };
    let mut world = World::with_config(config);
    let core = world.connect_upstream("core");
    for _ in 0..5 {
        let ann = world.connect("ann");
        for (value, _) in many(1_000) {
            world.send(ann, value.whole(Vec::new()));
            world.send(core, value.known(&[]));
            world.send(ann, value.load(&[]));
        }
        world.disconnect(ann);
    }
    #[cfg(feature = "faults")]
    assert!(world.machine.loads_to(core) <= 2_100, "{}", world.machine.loads_to(core));
}
