//! Upstreams: what is asked of them, and what comes of their answers.

use downbeat_sync::Config;

use crate::authors::{Author, Log, Value};
use crate::world::World;

/// An empty world, and a map `map` with its session `a` that no peer has sent yet.
pub(crate) fn world_and_map() -> (World, Value, Log) {
    world_and_map_with(Config::default())
}

pub(crate) fn world_and_map_with(config: Config) -> (World, Value, Log) {
    let mut world = World::with_config(config);
    let (map, log) = (Value::free("map"), Author::new(1).agent_log(1));
    world.name(&map, "map");
    world.name_log(&log, "a");
    (world, map, log)
}

#[test]
fn a_value_that_storage_lacks_comes_from_the_upstream_and_is_served_to_all_that_wait() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let (ann, bob) = (world.connect("ann"), world.connect("bob"));
    world.send(ann, map.load_nothing());
    world.send(bob, map.load_nothing());
    world.expect(&["ann → LOAD map nothing", "core ← LOAD map nothing", "bob → LOAD map nothing"]);
    world.send(core, map.whole(vec![log.write(&["[1]", "[2]"])]));
    world.expect(&[
        "core → CONTENT map header a:0+2",
        "ann ← CONTENT map header a:0+2",
        "bob ← CONTENT map header a:0+2",
        "core ← KNOWN map header a:2",
    ]);
    assert_eq!(world.durable(&map, &log), 2);
    assert!(world.notes.is_empty());
    // What is there is not asked for again.
    let cid = world.connect("cid");
    world.send(cid, map.load_nothing());
    world.expect(&["cid → LOAD map nothing", "cid ← CONTENT map header a:0+2"]);
}

#[test]
fn a_value_that_the_upstream_lacks_is_not_found_and_not_asked_for_again_for_a_time() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let (ann, bob) = (world.connect("ann"), world.connect("bob"));
    world.send(ann, map.load_nothing());
    world.send(bob, map.load_nothing());
    world.skip_log();
    world.send(core, map.known_nothing());
    world.expect(&[
        "core → KNOWN map nothing",
        "ann ← KNOWN map nothing",
        "bob ← KNOWN map nothing",
    ]);
    world.pass(120_000);
    world.expect(&[]);
    // It would have sent it if it had got it.
    world.send(ann, map.load_nothing());
    world.expect(&["ann → LOAD map nothing", "ann ← KNOWN map nothing"]);
    world.pass(180_000);
    world.send(ann, map.load_nothing());
    world.send(core, map.known_nothing());
    world.expect(&[
        "ann → LOAD map nothing",
        "core ← LOAD map nothing",
        "core → KNOWN map nothing",
        "ann ← KNOWN map nothing",
    ]);
    // A client that did not get it before gets it when it comes.
    world.send(core, map.whole(vec![log.write(&["[1]"])]));
    world.expect(&[
        "core → CONTENT map header a:0+1",
        "ann ← CONTENT map header a:0+1",
        "bob ← CONTENT map header a:0+1",
        "core ← KNOWN map header a:1",
    ]);
}

#[test]
fn the_first_upstream_that_has_it_wins_and_the_other_is_given_what_it_lacks() {
    let (mut world, map, mut log) = world_and_map();
    let (one, two) = (world.connect_upstream("one"), world.connect_upstream("two"));
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.expect(&["ann → LOAD map nothing", "one ← LOAD map nothing", "two ← LOAD map nothing"]);
    world.send(one, map.known_nothing());
    world.expect(&["one → KNOWN map nothing"]);
    world.send(two, map.whole(vec![log.write(&["[1]"])]));
    world.expect(&[
        "two → CONTENT map header a:0+1",
        "ann ← CONTENT map header a:0+1",
        "one ← CONTENT map header a:0+1",
        "two ← KNOWN map header a:1",
    ]);
    assert!(world.is_noted("one", &map) && !world.is_noted("two", &map));
    world.send(one, map.known(&[(&log, 1)]));
    assert!(world.notes.is_empty());
    world.expect(&["one → KNOWN map header a:1"]);
}

#[test]
fn a_value_that_all_upstreams_lack_is_not_found() {
    let (mut world, map, _) = world_and_map();
    let (one, two) = (world.connect_upstream("one"), world.connect_upstream("two"));
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.send(two, map.known_nothing());
    world.skip_log();
    world.send(one, map.known_nothing());
    world.expect(&["one → KNOWN map nothing", "ann ← KNOWN map nothing"]);
}

#[test]
fn an_upstream_that_does_not_answer_in_time_counts_as_lacking_it_and_may_answer_late() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.skip_log();
    assert_eq!(world.machine.deadline(), Some(60_000));
    world.pass(59_999);
    world.expect(&[]);
    world.pass(1);
    world.expect(&["ann ← KNOWN map nothing"]);
    assert_eq!(world.machine.deadline(), None);
    world.send(core, map.whole(vec![log.write(&["[1]"])]));
    world.expect(&[
        "core → CONTENT map header a:0+1",
        "ann ← CONTENT map header a:0+1",
        "core ← KNOWN map header a:1",
    ]);
}

#[test]
fn an_upstream_that_is_away_is_not_waited_for_and_asked_when_it_comes() {
    let (mut world, map, mut log) = world_and_map();
    world.add_upstream("core");
    world.pass(2_000);
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.expect(&["ann → LOAD map nothing", "ann ← KNOWN map nothing"]);
    world.pass(59_000);
    let core = world.connect_upstream("core");
    world.expect(&["core ← LOAD map nothing"]);
    // The client is subscribed.
    world.send(core, map.whole(vec![log.write(&["[1]"])]));
    world.expect(&[
        "core → CONTENT map header a:0+1",
        "ann ← CONTENT map header a:0+1",
        "core ← KNOWN map header a:1",
    ]);
}

#[test]
fn an_upstream_is_waited_for_shortly_after_the_start() {
    let (mut world, map, mut log) = world_and_map();
    world.add_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.expect(&["ann → LOAD map nothing"]);
    world.pass(1_900);
    let core = world.connect_upstream("core");
    world.expect(&["core ← LOAD map nothing"]);
    // It has as long to answer as any.
    world.pass(59_000);
    world.send(core, map.whole(vec![log.write(&["[1]"])]));
    world.expect(&[
        "core → CONTENT map header a:0+1",
        "ann ← CONTENT map header a:0+1",
        "core ← KNOWN map header a:1",
    ]);
}

#[test]
fn an_upstream_that_does_not_come_soon_after_the_start_is_given_up() {
    let (mut world, map, _) = world_and_map();
    world.add_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.pass(1_999);
    world.expect(&["ann → LOAD map nothing"]);
    world.pass(1);
    world.expect(&["ann ← KNOWN map nothing"]);
}

#[test]
fn an_upstream_that_leaves_without_an_answer_is_asked_again_when_it_comes_back() {
    let (mut world, map, _) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.skip_log();
    world.disconnect(core);
    world.expect(&["ann ← KNOWN map nothing"]);
    world.pass(10_000);
    let core = world.connect_upstream("core");
    world.expect(&["core ← LOAD map nothing"]);
    world.send(core, map.known_nothing());
    world.expect(&["core → KNOWN map nothing"]);
}

#[test]
fn one_of_two_upstreams_that_is_away_holds_up_no_answer() {
    let (mut world, map, _) = world_and_map();
    world.add_upstream("away");
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.skip_log();
    world.send(core, map.known_nothing());
    world.expect(&["core → KNOWN map nothing", "ann ← KNOWN map nothing"]);
}

#[test]
fn values_that_clients_watch_are_watched_upstream_and_updates_flow_both_ways() {
    let (mut world, map, mut log) = world_and_map();
    let mut other = Author::new(2).agent_log(2);
    world.name_log(&other, "b");
    let (ann, bob) = (world.connect("ann"), world.connect("bob"));
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.send(bob, map.load(&[(&log, 1)]));
    world.skip_log();
    // Also after a restart.
    world.restart();
    let core = world.connect_upstream("core");
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 1)]));
    world.send(core, map.known(&[(&log, 1)]));
    world.expect(&[
        "bob → LOAD map header a:1",
        "bob ← KNOWN map header a:1",
        "core ← LOAD map header a:1",
        "core → KNOWN map header a:1",
    ]);
    world.send(core, map.more(vec![other.write(&["[1]"])]));
    world.expect(&[
        "core → CONTENT map b:0+1",
        "bob ← CONTENT map b:0+1",
        "core ← KNOWN map header a:1 b:1",
    ]);
    world.send(bob, map.more(vec![log.write(&["[2]"])]));
    world.expect(&[
        "bob → CONTENT map a:1+1",
        "core ← CONTENT map a:1+1",
        "bob ← KNOWN map header a:2 b:1",
    ]);
    world.send(core, map.known(&[(&log, 2), (&other, 1)]));
    assert!(world.notes.is_empty());
    let _ = ann;
}

#[test]
fn dependencies_are_watched_upstream_as_well() {
    let admin = Author::new(1);
    let (group, mut log) = (Value::group("group", &admin), admin.account_log(1));
    let map = Value::owned("map", &group);
    let mut world = World::new();
    world.name_log(&log, "a");
    world.name(&map, "map");
    world.name(&group, "group");
    world.name(&admin.account, "account");
    let ann = world.connect("ann");
    for value in [&admin.account, &group] {
        world.send(ann, value.whole(Vec::new()));
    }
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.restart();
    let _core = world.connect_upstream("core");
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    let mut said = world.said();
    said.retain(|line| line.starts_with("core"));
    said.sort();
    assert_eq!(
        said,
        ["core ← LOAD account header", "core ← LOAD group header", "core ← LOAD map header a:1",]
    );
}

#[test]
fn a_dependency_is_asked_of_an_upstream_that_comes_after_its_sender_has_left() {
    let admin = Author::new(1);
    let (map, mut log) = (Value::free("map"), admin.account_log(1));
    let mut world = World::new();
    world.name(&map, "map");
    world.name_log(&log, "a");
    world.name(&admin.account, "account");
    world.add_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.disconnect(ann);
    world.expect(&["ann → CONTENT map header a:0+1", "ann ← LOAD account nothing"]);
    let core = world.connect_upstream("core");
    let said = world.said();
    assert!(said.contains(&"core ← LOAD account nothing".to_owned()), "{said:?}");
    world.send(core, admin.account.whole(Vec::new()));
    assert_eq!(world.durable(&map, &log), 1);
}

#[test]
fn an_upstream_that_lacks_a_dependency_of_its_own_content_is_asked_for_it_once() {
    let admin = Author::new(1);
    let (map, mut log) = (Value::free("map"), admin.account_log(1));
    let mut world = World::new();
    world.name(&map, "map");
    world.name_log(&log, "a");
    world.name(&admin.account, "account");
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.send(core, map.whole(vec![log.write(&["[1]"])]));
    world.send(core, admin.account.known_nothing());
    world.expect(&[
        "ann → LOAD map nothing",
        "core ← LOAD map nothing",
        "core → CONTENT map header a:0+1",
        "core ← LOAD account nothing",
        "core → KNOWN account nothing",
    ]);
    world.send(core, admin.account.whole(Vec::new()));
    world.expect(&[
        "core → CONTENT account header",
        "core ← KNOWN account header",
        "ann ← CONTENT account header",
        "ann ← CONTENT map header a:0+1",
        "core ← KNOWN map header a:1",
    ]);
}

#[test]
fn content_that_a_client_brings_meanwhile_answers_the_waiting_peers() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let (ann, bob) = (world.connect("ann"), world.connect("bob"));
    world.send(ann, map.load_nothing());
    world.skip_log();
    world.send(bob, map.whole(vec![log.write(&["[1]"])]));
    world.expect(&[
        "bob → CONTENT map header a:0+1",
        "ann ← CONTENT map header a:0+1",
        "bob ← KNOWN map header a:1",
    ]);
    world.send(core, map.known_nothing());
    world.expect(&["core → KNOWN map nothing", "core ← CONTENT map header a:0+1"]);
    world.pass(60_000);
    world.expect(&[]);
}
