//! Content that the runtime refuses and does not pass on: the machine only gets an event.

use downbeat_sync::{Event, Refusal};

use crate::upstream::world_and_map;

#[test]
fn a_client_gets_not_found_and_upstreams_are_not_asked() {
    let (mut world, map, _) = world_and_map();
    let (core, ann) = (world.connect_upstream("core"), world.connect("ann"));
    world.event(Event::Refused { peer: ann, id: map.id, refusal: Refusal::Load });
    world.expect(&["ann ← KNOWN map nothing"]);
    // What was not wanted then may be wanted later.
    world.send(ann, map.load_nothing());
    world.expect(&["ann → LOAD map nothing", "core ← LOAD map nothing"]);
    world.send(core, map.known_nothing());
    world.expect(&["core → KNOWN map nothing", "ann ← KNOWN map nothing"]);
}

#[test]
fn an_upstream_counts_as_not_having_it_and_waiting_peers_are_answered() {
    let (mut world, map, mut log) = world_and_map();
    let (core, ann) = (world.connect_upstream("core"), world.connect("ann"));
    world.send(ann, map.load_nothing());
    world.skip_log();
    world.event(Event::Refused { peer: core, id: map.id, refusal: Refusal::Content });
    world.expect(&["ann ← KNOWN map nothing"]);
    // It comes all the same where it is wanted.
    world.send(core, map.whole(vec![log.write(&["[1]"])]));
    assert_eq!(world.durable(&map, &log), 1);
}
