//! Content that the runtime refuses. Peers must not send it again and again, and the rest of the
//! CoValue must go on.

use downbeat_protocol::{DecodeError, MalformedSession, Message};
use downbeat_sync::{Event, PeerId, Refusal};

use crate::authors::{Author, Value, forged};
use crate::load::world_with_map;
use crate::world::World;

fn refuse(world: &mut World, peer: PeerId, value: &Value, refusal: Refusal) {
    world.event(Event::Refused { peer, id: value.id, refusal });
}

#[test]
fn pieces_behind_a_refused_header_are_not_corrected() {
    let mut world = World::new();
    let (map, mut log) = (Value::free("map"), Author::new(1).agent_log(1));
    world.name(&map, "map");
    world.name_log(&log, "a");
    let ann = world.connect("ann");
    let first = log.write(&["[1]"]);
    refuse(&mut world, ann, &map, Refusal::Content);
    world.expect(&["ann ← KNOWN map nothing"]);
    world.send(ann, map.more(vec![log.write(&["[2]"])]));
    world.expect(&["ann → CONTENT map a:1+1"]);
    // Any answer to a LOAD would make the client send it.
    world.send(ann, map.load(&[(&log, 2)]));
    world.expect(&["ann → LOAD map header a:2"]);
    // It may be taken later.
    world.send(ann, map.whole(vec![first]));
    world.expect(&["ann → CONTENT map header a:0+1", "ann ← KNOWN map header a:1"]);
    world.send(ann, map.more(vec![log.write(&["[3]"])]));
    world.expect(&["ann → CONTENT map a:2+1", "ann ← KNOWN CORRECTION map header a:1"]);
}

#[test]
fn pieces_behind_a_header_of_another_value_are_not_corrected() {
    let (mut world, _, mut log) = world_with_map();
    let (real, fake) = (Value::free("real"), Value::free("fake"));
    world.name(&real, "real");
    let alice = world.connect("alice");
    let mixed = Value { id: real.id, header: fake.header };
    world.send(alice, mixed.whole(vec![log.write(&["[1]"])]));
    world.skip_log();
    world.send(alice, real.more(vec![log.write(&["[2]"])]));
    world.expect(&["alice → CONTENT real a:3+1"]);
}

#[test]
fn gaps_behind_a_refused_session_are_not_corrected_and_others_are() {
    let (mut world, map, mut log) = world_with_map();
    let mut other = Author::new(2).agent_log(2);
    world.name_log(&other, "b");
    let alice = world.connect("alice");
    world.send(alice, map.load(&[(&log, 2)]));
    world.skip_log();
    let refused = log.write(&["[3]"]);
    refuse(&mut world, alice, &map, Refusal::Session(log.session.clone()));
    world.send(alice, map.more(vec![log.write(&["[4]"])]));
    world.expect(&["alice → CONTENT map a:3+1", "alice ← KNOWN map header a:2"]);
    world.send(alice, map.load(&[(&log, 4)]));
    world.expect(&["alice → LOAD map header a:4"]);
    other.write(&["[1]"]);
    world.send(alice, map.more(vec![other.write(&["[2]"])]));
    world.expect(&["alice → CONTENT map b:1+1", "alice ← KNOWN CORRECTION map header a:2"]);
    // What builds on what is stored is taken, and from then on gaps are corrected again.
    world.send(alice, map.more(vec![refused]));
    world.skip_log();
    log.write(&["[5]"]);
    world.pass(1_000);
    world.send(alice, map.more(vec![log.write(&["[6]"])]));
    world.expect(&["alice → CONTENT map a:5+1", "alice ← KNOWN CORRECTION map header a:3"]);
}

#[test]
fn a_claim_of_refused_content_beside_lost_content_is_corrected() {
    let (mut world, map, mut log) = world_with_map();
    let other = Author::new(2).agent_log(2);
    world.name_log(&other, "b");
    let alice = world.connect("alice");
    log.write(&["[3]"]);
    refuse(&mut world, alice, &map, Refusal::Session(log.session.clone()));
    world.send(alice, map.load(&[(&log, 3), (&other, 1)]));
    world.expect(&["alice → LOAD map header a:3 b:1", "alice ← KNOWN CORRECTION map header a:2"]);
}

#[test]
fn a_malformed_session_does_not_spoil_the_value() {
    let (mut world, map, mut log) = world_with_map();
    let bob = world.connect("bob");
    let alice = world.connect("alice");
    let mut other = Author::new(2).agent_log(2);
    world.name_log(&other, "b");
    world.send(alice, map.load(&[(&log, 2)]));
    let Message::Content(mut content) = map.more(vec![log.write(&["[3]"])]) else { return };
    content.sessions.clear();
    content.malformed.push(MalformedSession {
        session: log.session.to_string(),
        error: DecodeError::Missing("lastSignature"),
    });
    world.send(alice, Message::Content(content));
    world.skip_log();
    // What comes behind it is not corrected, and what others write still comes.
    world.send(alice, map.more(vec![log.write(&["[4]"])]));
    world.expect(&["alice → CONTENT map a:3+1", "alice ← KNOWN map header a:2"]);
    world.send(bob, map.more(vec![other.write(&["[1]"])]));
    world.expect(&[
        "bob → CONTENT map b:0+1",
        "alice ← CONTENT map b:0+1",
        "bob ← CONTENT map a:0+2",
        "bob ← KNOWN map header a:2 b:1",
    ]);
    // So does what the client writes in another session.
    world.send(alice, map.more(vec![other.write(&["[2]"])]));
    assert_eq!(world.durable(&map, &other), 2);
    assert_eq!(world.reports.len(), 1);
}

#[test]
fn a_sender_of_bad_content_still_receives_and_is_reported_once_more() {
    let (mut world, map, mut log) = world_with_map();
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(alice, map.load(&[(&log, 2)]));
    world.send(alice, map.more(vec![forged(log.clone().write(&["[666]"]))]));
    world.skip_log();
    for _ in 0..3 {
        world.send(alice, map.more(vec![forged(log.clone().write(&["[666]"]))]));
    }
    assert_eq!(world.reports.len(), 2);
    world.skip_log();
    world.send(bob, map.more(vec![log.write(&["[3]"])]));
    let said = world.said();
    assert!(said.contains(&"alice ← CONTENT map a:2+1".to_owned()), "{said:?}");
    world.send(alice, map.load_nothing());
    world.expect(&["alice → LOAD map nothing", "alice ← CONTENT map header a:0+3"]);
}

#[test]
fn content_refused_on_an_earlier_connection_is_not_asked_for() {
    let mut world = World::new();
    let (map, log) = (Value::free("map"), Author::new(1).agent_log(1));
    world.name(&map, "map");
    world.name_log(&log, "a");
    let ann = world.connect("ann");
    refuse(&mut world, ann, &map, Refusal::Earlier);
    world.send(ann, map.load(&[(&log, 2)]));
    world.expect(&["ann → LOAD map header a:2"]);
    // A client that has lost it gets its answer.
    world.send(ann, map.load_nothing());
    world.expect(&["ann → LOAD map nothing", "ann ← KNOWN map nothing"]);
}
