//! Reconcile messages.

use downbeat_crypto::sessions_hash;
use downbeat_protocol::{CoValueId, Message, Reconcile, ShortHash};

use crate::authors::{Log, Value, counts_of};
use crate::load::world_with_map;

fn reconcile(id: &str, values: Vec<(CoValueId, ShortHash)>) -> Message {
    Message::Reconcile(Reconcile { id: id.to_owned(), values })
}

fn hash(counts: &[(&Log, u64)]) -> ShortHash {
    sessions_hash(&counts_of(counts))
}

#[test]
fn equal_values_are_acknowledged_at_once() {
    for warm in [true, false] {
        let (mut world, map, log) = world_with_map();
        if !warm {
            world.restart();
        }
        let alice = world.connect("alice");
        world.send(alice, reconcile("x", vec![(map.id, hash(&[(&log, 2)]))]));
        world.send(alice, reconcile("y", Vec::new()));
        world.expect(&[
            "alice → RECONCILE x map",
            "alice ← RECONCILE-ACK x",
            "alice → RECONCILE y",
            "alice ← RECONCILE-ACK y",
        ]);
    }
}

#[test]
fn different_values_are_loaded_and_acknowledged_when_they_came() {
    let (mut world, map, mut log) = world_with_map();
    let other = Value::free("other");
    world.name(&other, "other");
    world.restart();
    let alice = world.connect("alice");
    let run = log.write(&["[3]"]);
    world.send(
        alice,
        reconcile("x", vec![(map.id, hash(&[(&log, 3)])), (other.id, hash(&[(&log, 3)]))]),
    );
    world.send(alice, map.more(vec![run]));
    world.expect(&[
        "alice → RECONCILE x map other",
        "alice ← LOAD map header a:2",
        "alice ← LOAD other nothing",
        "alice → CONTENT map a:2+1",
        "alice ← KNOWN map header a:3",
    ]);
    world.send(alice, other.whole(Vec::new()));
    world.expect(&[
        "alice → CONTENT other header",
        "alice ← KNOWN other header",
        "alice ← RECONCILE-ACK x",
    ]);
}

#[test]
fn a_peer_that_is_behind_settles_a_reconcile_with_known() {
    let (mut world, map, log) = world_with_map();
    let alice = world.connect("alice");
    world.send(alice, reconcile("x", vec![(map.id, hash(&[(&log, 1)]))]));
    world.send(alice, map.known(&[(&log, 1)]));
    world.expect(&[
        "alice → RECONCILE x map",
        "alice ← LOAD map header a:2",
        "alice → KNOWN map header a:1",
        "alice ← CONTENT map a:1+1",
        "alice ← RECONCILE-ACK x",
    ]);
}

#[test]
fn the_acknowledgement_waits_until_what_came_is_verified_and_durable() {
    for slow_verifier in [true, false] {
        let (mut world, map, mut log) = world_with_map();
        let alice = world.connect("alice");
        let run = log.write(&["[3]"]);
        world.send(alice, reconcile("x", vec![(map.id, hash(&[(&log, 3)]))]));
        (world.slow_verifier, world.slow_stores) = (slow_verifier, true);
        world.send(alice, map.more(vec![run]));
        // A client says what it has as well.
        world.send(alice, map.known(&[(&log, 3)]));
        world.expect(&[
            "alice → RECONCILE x map",
            "alice ← LOAD map header a:2",
            "alice → CONTENT map a:2+1",
            "alice → KNOWN map header a:3",
        ]);
        world.catch_up();
        world.expect(&["alice ← KNOWN map header a:3", "alice ← RECONCILE-ACK x"]);
    }
}

#[test]
fn the_acknowledgement_waits_for_the_content_that_a_known_announces() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    let run = log.write(&["[3]"]);
    world.send(alice, reconcile("x", vec![(map.id, hash(&[(&log, 3)]))]));
    world.skip_log();
    world.send(alice, map.known(&[(&log, 3)]));
    world.expect(&["alice → KNOWN map header a:3"]);
    world.send(alice, map.more(vec![run]));
    world.expect(&[
        "alice → CONTENT map a:2+1",
        "alice ← KNOWN map header a:3",
        "alice ← RECONCILE-ACK x",
    ]);
}

#[test]
fn the_acknowledgement_waits_for_content_that_is_held() {
    let (mut world, map, _) = world_with_map();
    let author = crate::authors::Author::new(3);
    let account = author.account.clone();
    let mut log = author.account_log(1);
    let alice = world.connect("alice");
    world.send(alice, reconcile("x", vec![(map.id, hash(&[(&log, 1)]))]));
    world.send(alice, map.more(vec![log.write(&["[1]"])]));
    assert!(!world.said().iter().any(|line| line.contains("ACK")));
    world.send(alice, account.whole(Vec::new()));
    let said = world.said();
    assert!(said.contains(&"alice ← RECONCILE-ACK x".to_owned()), "{said:?}");
}

#[test]
fn the_acknowledgement_waits_for_the_look_up_after_another_writer() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    let run = log.write(&["[3]"]);
    world.send(alice, reconcile("x", vec![(map.id, hash(&[(&log, 3)]))]));
    world.conflict = true;
    world.send(alice, map.more(vec![run.clone()]));
    let said = world.said();
    assert!(said.contains(&"alice ← KNOWN CORRECTION map header a:2".to_owned()), "{said:?}");
    assert!(!said.iter().any(|line| line.contains("ACK")), "{said:?}");
    world.send(alice, map.more(vec![run]));
    let said = world.said();
    assert!(said.contains(&"alice ← RECONCILE-ACK x".to_owned()), "{said:?}");
}

#[test]
fn a_refused_value_does_not_delay_the_others_of_its_batch() {
    use downbeat_sync::{Event, Refusal};
    let (mut world, map, mut log) = world_with_map();
    let other = Value::free("other");
    world.name(&other, "other");
    let alice = world.connect("alice");
    log.write(&["[3]"]);
    let values = vec![(map.id, hash(&[(&log, 3)])), (other.id, hash(&[(&log, 3)]))];
    world.send(alice, reconcile("x", values.clone()));
    world.skip_log();
    let session = log.session.clone();
    world.event(Event::Refused { peer: alice, id: map.id, refusal: Refusal::Session(session) });
    world.send(alice, map.more(Vec::new()));
    assert!(!world.said().iter().any(|line| line.contains("ACK")));
    world.event(Event::Refused { peer: alice, id: other.id, refusal: Refusal::Content });
    world.expect(&["alice ← KNOWN other nothing", "alice ← RECONCILE-ACK x"]);
    // What was refused as a whole is not asked for again.
    world.send(alice, reconcile("y", vec![values[1]]));
    world.expect(&["alice → RECONCILE y other", "alice ← RECONCILE-ACK y"]);
}
