//! Content between an edge and its upstreams, in both directions.

use crate::authors::{Author, Value, forged};
use crate::upstream::world_and_map;
use crate::world::World;

#[test]
fn new_content_goes_upstream_when_the_upstream_has_said_what_it_has() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.expect(&[
        "ann → CONTENT map header a:0+1",
        "core ← LOAD map header",
        "ann ← KNOWN map header a:1",
    ]);
    world.send(core, map.known_nothing());
    world.send(core, map.known(&[(&log, 1)]));
    world.send(ann, map.more(vec![log.write(&["[2]"])]));
    world.expect(&[
        "core → KNOWN map nothing",
        "core ← CONTENT map header a:0+1",
        "core → KNOWN map header a:1",
        "ann → CONTENT map a:1+1",
        "core ← CONTENT map a:1+1",
        "ann ← KNOWN map header a:2",
    ]);
}

#[test]
fn content_goes_upstream_without_dependencies_and_the_upstream_is_served_those_it_asks_for() {
    let admin = Author::new(1);
    let (group, mut log) = (Value::group("group", &admin), admin.account_log(1));
    let map = Value::owned("map", &group);
    let mut world = World::new();
    world.name(&map, "map");
    world.name(&group, "group");
    world.name(&admin.account, "account");
    world.name_log(&log, "a");
    let ann = world.connect("ann");
    for value in [&admin.account, &group] {
        world.send(ann, value.whole(Vec::new()));
    }
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.restart();
    let core = world.connect_upstream("core");
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 1)]));
    world.skip_log();
    world.send(core, map.known_nothing());
    world.send(core, group.load_nothing());
    world.send(core, admin.account.load_nothing());
    world.expect(&[
        "core → KNOWN map nothing",
        "core ← CONTENT map header a:0+1",
        "core → LOAD group nothing",
        "core ← CONTENT group header",
        "core → LOAD account nothing",
        "core ← CONTENT account header",
    ]);
}

#[test]
fn a_load_by_an_upstream_of_what_is_not_there_is_answered_and_not_sent_back() {
    let (mut world, map, _) = world_and_map();
    let core = world.connect_upstream("core");
    world.send(core, map.load_nothing());
    world.expect(&["core → LOAD map nothing", "core ← KNOWN map nothing"]);
    // Another upstream may have it.
    let other = world.connect_upstream("other");
    world.send(core, map.load_nothing());
    world.send(other, map.known_nothing());
    world.expect(&[
        "core → LOAD map nothing",
        "other ← LOAD map nothing",
        "other → KNOWN map nothing",
        "core ← KNOWN map nothing",
    ]);
}

#[test]
fn a_reconnected_upstream_is_sent_exactly_what_it_is_not_known_to_have() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.send(core, map.known_nothing());
    world.send(core, map.known(&[(&log, 1)]));
    // This gets lost with the connection.
    world.send(ann, map.more(vec![log.write(&["[2]"])]));
    world.disconnect(core);
    world.send(ann, map.more(vec![log.write(&["[3]"])]));
    world.skip_log();
    let core = world.connect_upstream("core");
    world.expect(&["core ← LOAD map header a:3"]);
    world.send(core, map.known(&[(&log, 1)]));
    world.expect(&["core → KNOWN map header a:1", "core ← CONTENT map a:1+2"]);
    world.send(core, map.known(&[(&log, 3)]));
    assert!(world.notes.is_empty());
}

#[test]
fn an_upstream_that_answers_a_reconnection_with_content_is_not_sent_what_it_has_acknowledged() {
    let (mut world, map, mut log) = world_and_map();
    let mut other = Author::new(2).agent_log(2);
    world.name_log(&other, "b");
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.send(core, map.known_nothing());
    world.send(core, map.known(&[(&log, 1)]));
    world.disconnect(core);
    let core = world.connect_upstream("core");
    world.skip_log();
    world.send(core, map.more(vec![other.write(&["[1]"])]));
    world.expect(&[
        "core → CONTENT map b:0+1",
        "ann ← CONTENT map b:0+1",
        "core ← KNOWN map header a:1 b:1",
    ]);
}

#[test]
fn an_upstream_that_has_lost_what_it_had_acknowledged_is_sent_it_again() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.send(ann, map.more(vec![log.write(&["[2]"])]));
    world.send(core, map.known_nothing());
    world.send(core, map.known(&[(&log, 2)]));
    world.disconnect(core);
    world.skip_log();
    let core = world.connect_upstream("core");
    world.send(core, map.known(&[(&log, 1)]));
    world.expect(&[
        "core ← LOAD map header a:2",
        "core → KNOWN map header a:1",
        "core ← CONTENT map a:1+1",
    ]);
}

#[test]
fn an_upstream_that_has_lost_everything_is_sent_everything() {
    let (mut world, map, _) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(Vec::new()));
    world.send(core, map.known_nothing());
    world.send(core, map.known(&[]));
    world.disconnect(core);
    world.skip_log();
    let core = world.connect_upstream("core");
    world.send(core, map.known_nothing());
    world.expect(&[
        "core ← LOAD map header",
        "core → KNOWN map nothing",
        "core ← CONTENT map header",
    ]);
}

#[test]
fn an_upstream_that_sends_something_unasked_for_is_asked_what_it_has_before_it_is_sent_anything() {
    let (mut world, map, mut log) = world_and_map();
    let mut other = Author::new(2).agent_log(2);
    world.name_log(&other, "b");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.disconnect(ann);
    world.restart();
    let core = world.connect_upstream("core");
    world.send(core, map.more(vec![other.write(&["[1]"])]));
    world.expect(&[
        "core → CONTENT map b:0+1",
        "core ← LOAD map header a:1",
        "core ← KNOWN map header a:1 b:1",
    ]);
    world.send(core, map.known(&[(&log, 1), (&other, 1)]));
    world.expect(&["core → KNOWN map header a:1 b:1"]);
    assert!(world.notes.is_empty());
}

#[test]
fn a_new_connection_to_an_upstream_takes_the_place_of_the_one_before() {
    let (mut world, map, mut log) = world_and_map();
    let old = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.skip_log();
    let new = world.connect_upstream("core");
    world.expect(&["core ← LOAD map nothing"]);
    world.disconnect(old);
    world.send(new, map.whole(vec![log.write(&["[1]"])]));
    world.expect(&[
        "core → CONTENT map header a:0+1",
        "ann ← CONTENT map header a:0+1",
        "core ← KNOWN map header a:1",
    ]);
    world.send(ann, map.more(vec![log.write(&["[2]"])]));
    world.expect(&[
        "ann → CONTENT map a:1+1",
        "core ← CONTENT map a:1+1",
        "ann ← KNOWN map header a:2",
    ]);
}

#[test]
fn a_correction_by_an_upstream_is_answered_with_what_it_lacks() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.send(core, map.known(&[(&log, 1)]));
    world.send(ann, map.more(vec![log.write(&["[2]"])]));
    world.skip_log();
    world.send(core, map.correction(&[]));
    world.expect(&["core → KNOWN CORRECTION map header", "core ← CONTENT map a:0+2"]);
}

#[test]
fn a_value_rejected_from_an_upstream_is_errored_for_that_upstream_only() {
    let (mut world, map, mut log) = world_and_map();
    let (bad, good) = (world.connect_upstream("bad"), world.connect_upstream("good"));
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.skip_log();
    let run = log.write(&["[1]"]);
    world.send(bad, map.whole(vec![forged(run.clone())]));
    world.send(good, map.whole(vec![run]));
    world.send(bad, map.more(vec![log.write(&["[2]"])]));
    assert_eq!(world.durable(&map, &log), 1);
    let said = world.said();
    assert!(said.contains(&"ann ← CONTENT map a:0+1".to_owned()), "{said:?}");
    assert!(said.contains(&"good ← KNOWN map header a:1".to_owned()), "{said:?}");
    assert_eq!(world.reports.len(), 2);
    assert!(world.reports.iter().all(|report| report.peer == bad));
    // About other CoValues it is listened to.
    let next = Value::free("next");
    world.name(&next, "next");
    world.send(bad, next.whole(Vec::new()));
    let said = world.said();
    assert!(said.contains(&"bad ← KNOWN next header".to_owned()), "{said:?}");
}

#[test]
fn an_upstream_whose_answer_is_another_covalue_counts_as_lacking_it() {
    let (mut world, map, _) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.skip_log();
    let impostor = Value { id: map.id, ..Value::free("another") };
    world.send(core, impostor.whole(Vec::new()));
    let said = world.said();
    assert_eq!(said[0], "core → CONTENT map header");
    assert!(said[1].starts_with("core ✗ the header hashes to"), "{said:?}");
    assert_eq!(said[2..], ["ann ← KNOWN map nothing"]);
    assert!(world.store.is_empty());
}

#[test]
fn an_upstream_that_claims_to_have_what_it_never_sends_counts_as_lacking_it_in_the_end() {
    let (mut world, map, log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.skip_log();
    world.send(core, map.known(&[(&log, 7)]));
    world.expect(&["core → KNOWN map header a:7"]);
    world.pass(60_000);
    world.expect(&["ann ← KNOWN map nothing"]);
}

#[test]
fn an_upstream_sends_content_that_does_not_follow_and_is_corrected() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.skip_log();
    let whole = log.clone().write(&["[1]", "[2]"]);
    log.write(&["[1]"]);
    world.send(core, map.more(vec![log.write(&["[2]"])]));
    world.expect(&["core → CONTENT map a:1+1", "core ← KNOWN CORRECTION map nothing"]);
    world.send(core, map.whole(vec![whole]));
    world.expect(&[
        "core → CONTENT map header a:0+2",
        "ann ← CONTENT map header a:0+2",
        "core ← KNOWN map header a:2",
    ]);
}
