//! The durable notes of CoValues that upstreams have not acknowledged.

use downbeat_sync::{Action, Config};

use crate::authors::{Author, Log, Value};
use crate::upstream::{world_and_map, world_and_map_with};
use crate::world::World;

/// Maps with one transaction each, in the order of their ids.
pub(crate) fn many(count: usize) -> Vec<(Value, Log)> {
    let author = Author::new(3);
    let mut values: Vec<_> = (0..count)
        .map(|number| (Value::free(&format!("m{number}")), author.agent_log(9)))
        .collect();
    values.sort_by_key(|(value, _)| value.id);
    values
}

/// A world that has stored many values while its upstream was away, and has restarted since.
fn world_with_unsynced(count: usize, config: Config) -> (World, Vec<(Value, Log)>) {
    let mut world = World::with_config(config);
    world.add_upstream("core");
    let ann = world.connect("ann");
    let mut values = many(count);
    for (value, log) in &mut values {
        world.send(ann, value.whole(vec![log.write(&["[1]"])]));
    }
    assert_eq!(world.notes.len(), count);
    world.restart();
    (world, values)
}

#[test]
fn it_is_noted_before_the_content_is_stored_and_struck_out_when_it_is_acknowledged() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.slow_stores = true;
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    assert!(world.store.is_empty());
    assert!(world.is_noted("core", &map));
    world.catch_up();
    world.send(core, map.known_nothing());
    assert!(world.is_noted("core", &map));
    world.send(core, map.known(&[(&log, 1)]));
    assert!(!world.is_noted("core", &map));
}

#[test]
fn an_acknowledgement_of_a_part_strikes_nothing_out() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.send(core, map.known_nothing());
    world.send(ann, map.more(vec![log.write(&["[2]"])]));
    world.send(core, map.known(&[(&log, 1)]));
    assert!(world.is_noted("core", &map));
    world.send(core, map.known(&[(&log, 2)]));
    assert!(!world.is_noted("core", &map));
}

#[test]
fn each_upstream_has_notes_of_its_own() {
    let (mut world, map, mut log) = world_and_map();
    let one = world.connect_upstream("one");
    world.add_upstream("two");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.send(one, map.known_nothing());
    world.send(one, map.known(&[(&log, 1)]));
    assert!(!world.is_noted("one", &map) && world.is_noted("two", &map));
    let two = world.connect_upstream("two");
    world.skip_log();
    world.send(two, map.known_nothing());
    world.send(two, map.known(&[(&log, 1)]));
    world.expect(&[
        "two → KNOWN map nothing",
        "two ← CONTENT map header a:0+1",
        "two → KNOWN map header a:1",
    ]);
    assert!(world.notes.is_empty());
}

#[test]
fn after_a_restart_all_that_is_noted_is_compared_with_the_upstream_page_by_page() {
    let (mut world, values) = world_with_unsynced(250, Config::default());
    let core = world.connect_upstream("core");
    assert_eq!(world.pages[0], 4);
    assert_eq!(world.said().len(), 250);
    for (value, log) in &values {
        world.send(core, value.known_nothing());
        world.send(core, value.known(&[(log, 1)]));
    }
    assert!(world.notes.is_empty());
    assert_eq!(world.said().iter().filter(|line| line.contains("← CONTENT")).count(), 250);
}

#[test]
fn pages_are_not_read_further_than_loads_may_go() {
    let config = Config { loads_per_upstream: 150, ..Config::default() };
    let (mut world, values) = world_with_unsynced(450, config);
    let core = world.connect_upstream("core");
    assert_eq!(world.said().len(), 150);
    assert_eq!(world.pages[0], 2);
    for (value, log) in &values {
        world.send(core, value.known(&[(log, 1)]));
    }
    assert_eq!(world.said().iter().filter(|line| line.contains("← LOAD")).count(), 300);
    assert!(world.notes.is_empty());
}

#[test]
fn noted_values_reach_the_upstream_with_little_memory() {
    let config = Config { warm_co_values: 1, warm_chains: 1, ..Config::default() };
    let (mut world, values) = world_with_unsynced(20, config);
    let core = world.connect_upstream("core");
    for (value, _) in &values {
        world.send(core, value.known_nothing());
    }
    assert_eq!(world.said().iter().filter(|line| line.contains("← CONTENT")).count(), 20);
    for (value, log) in &values {
        world.send(core, value.known(&[(log, 1)]));
    }
    assert!(world.notes.is_empty(), "{} left", world.notes.len());
}

#[test]
fn a_note_is_struck_out_when_its_page_comes_after_the_acknowledgement() {
    let (mut world, map, mut log) = world_and_map();
    world.add_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.restart();
    world.slow_lists = true;
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load(&[(&log, 1)]));
    world.send(core, map.known(&[(&log, 1)]));
    world.catch_up();
    assert!(world.notes.is_empty());
}

#[test]
fn a_note_whose_page_comes_when_the_value_is_forgotten_again_is_compared_once_more() {
    let config = Config { warm_co_values: 0, ..Config::default() };
    let (mut world, map, mut log) = world_and_map_with(config);
    world.add_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.restart();
    world.slow_lists = true;
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load(&[(&log, 1)]));
    world.send(core, map.known(&[(&log, 1)]));
    assert!(world.is_noted("core", &map));
    world.skip_log();
    world.catch_up();
    world.send(core, map.known(&[(&log, 1)]));
    world.expect(&["core ← LOAD map header a:1", "core → KNOWN map header a:1"]);
    assert!(world.notes.is_empty());
}

#[test]
fn a_note_of_a_value_that_was_never_stored_is_removed_when_the_upstream_lacks_it_too() {
    let (mut world, map, _) = world_and_map();
    world.notes.insert(("core".into(), map.id));
    let core = world.connect_upstream("core");
    world.send(core, map.known_nothing());
    world.expect(&["core ← LOAD map nothing", "core → KNOWN map nothing"]);
    assert!(world.notes.is_empty());
}

#[test]
fn content_that_the_upstream_sends_counts_as_an_acknowledgement() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    let run = log.write(&["[1]"]);
    world.send(ann, map.whole(vec![run.clone()]));
    // The same content has come to the upstream another way.
    world.send(core, map.whole(vec![run]));
    assert!(world.notes.is_empty());
}

#[test]
fn only_the_chosen_upstreams_are_asked_given_content_and_noted() {
    let config = Config { upstreams_per_co_value: 1, ..Config::default() };
    let (mut world, map, mut log) = world_and_map_with(config);
    let names = ["one", "two", "three"];
    for name in names {
        world.connect_upstream(name);
    }
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    let mut said = world.said();
    said.retain(|line| !line.starts_with("ann"));
    assert_eq!(said.len(), 1, "{said:?}");
    let noted: Vec<_> = names.iter().filter(|name| world.is_noted(name, &map)).collect();
    assert!(said[0].starts_with(*noted[0]));
    assert_eq!(noted.len(), 1);
}

#[test]
fn content_that_is_forwarded_before_it_is_stored_is_noted() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.send(core, map.known(&[(&log, 1)]));
    world.slow_stores = true;
    world.send(ann, map.more(vec![log.write(&["[2]"])]));
    assert!(world.is_noted("core", &map));
    assert!(world.waiting.iter().any(|action| matches!(action, Action::Store(_))));
    assert!(world.said().contains(&"core ← CONTENT map a:1+1".to_owned()));
}
