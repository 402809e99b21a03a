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
fn what_is_the_same_on_both_sides_is_acknowledged_at_once() {
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
fn what_differs_is_loaded_and_acknowledged_when_it_came() {
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
