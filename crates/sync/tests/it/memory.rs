//! The memory that peers and CoValues take is counted as it is, and bounded.

use downbeat_crypto::sessions_hash;
use downbeat_protocol::{
    Known, KnownState, Message, Reconcile, SessionCounts, SessionId, ShortHash,
};
use downbeat_sync::cost::{CLAIMED_SESSION_BYTES, SUBSCRIPTION_BYTES};
use downbeat_sync::{Config, MemoryUse, Overuse, PeerId, Rejection};

use crate::authors::{Author, Value, counts_of, credit};
use crate::load::world_with_map;
use crate::world::World;

/// Counts of sessions that do not exist.
fn invented(from: u64, count: u64) -> SessionCounts {
    let session = |number: u64| {
        let digits = format!("{number:b}").replace('0', "a");
        SessionId::parse(&format!("co_z1_session_z{digits}")).unwrap()
    };
    (from..from + count).map(|number| (session(number), 1)).collect()
}

fn load(value: &Value, sessions: SessionCounts) -> Message {
    Message::Load(KnownState { id: value.id, header: true, sessions })
}

fn known(value: &Value, sessions: SessionCounts, is_correction: bool) -> Message {
    let state = KnownState { id: value.id, header: true, sessions };
    Message::Known(Known { state, is_correction, as_dependency_of: None })
}

fn claims(world: &World) -> u64 {
    world.machine.memory().claims / CLAIMED_SESSION_BYTES
}

#[test]
fn a_claim_is_charged_for_the_sessions_that_are_not_here() {
    let (mut world, map, log) = world_with_map();
    let alice = world.connect("alice");
    world.send(alice, map.load(&[(&log, 2)]));
    assert_eq!(claims(&world), 0);
    world.send(alice, load(&map, invented(0, 1_000)));
    assert_eq!(claims(&world), 1_001);
    // The same again costs nothing more, and other sessions do.
    world.send(alice, known(&map, invented(0, 1_000), false));
    world.send(alice, known(&map, invented(500, 500), false));
    assert_eq!(claims(&world), 1_001);
    world.send(alice, known(&map, invented(1_000, 500), false));
    assert_eq!(claims(&world), 1_501);
    // What the peer takes back is not charged any longer.
    world.send(alice, known(&map, counts_of(&[(&log, 2)]), true));
    assert_eq!(claims(&world), 0);
}

#[test]
fn a_claim_on_an_unknown_value_is_charged_until_the_peer_leaves() {
    let mut world = World::new();
    let alice = world.connect("alice");
    for name in ["one", "two", "three"] {
        world.send(alice, load(&Value::free(name), invented(0, 100)));
    }
    assert_eq!(claims(&world), 303);
    assert_eq!(world.machine.memory().subscriptions, 3 * SUBSCRIPTION_BYTES);
    world.disconnect(alice);
    let MemoryUse { subscriptions, claims, held, batches, .. } = world.machine.memory();
    assert_eq!([subscriptions, claims, held, batches], [0; 4]);
}

#[test]
fn a_peer_that_keeps_too_much_is_closed_and_not_heard_any_more() {
    let bound = 100 * CLAIMED_SESSION_BYTES;
    let mut world = World::with_config(Config { bytes_per_peer: bound, ..Config::default() });
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(bob, load(&Value::free("small"), invented(0, 10)));
    assert_eq!(world.closed, []);
    world.send(alice, load(&Value::free("large"), invented(0, 200)));
    let [(peer, Overuse::Peer { bytes })] = world.closed[..] else { panic!("{:?}", world.closed) };
    assert!(peer == alice && bytes > bound);
    // It is closed once, and what it still sends is dropped.
    world.skip_log();
    let content = Value::free("other").whole(Vec::new());
    world.send(alice, content.clone());
    world.send(alice, load(&Value::free("large"), invented(0, 200)));
    assert_eq!((world.closed.len(), world.store.len()), (1, 0));
    assert_eq!(world.released[&alice], credit(&content));
    world.disconnect(alice);
    assert_eq!(claims(&world), 11);
}

#[test]
fn the_peer_that_keeps_most_goes_first_when_all_together_keep_too_much() {
    let peer_bytes = 1_000 * CLAIMED_SESSION_BYTES;
    let mut world = World::with_config(Config { peer_bytes, ..Config::default() });
    let small: Vec<PeerId> = (0..10).map(|_| world.connect("small")).collect();
    for peer in &small {
        world.send(*peer, load(&Value::free("map"), invented(0, 40)));
    }
    let large = world.connect("large");
    for number in 0..10 {
        world.send(large, load(&Value::free(&number.to_string()), invented(0, 100)));
    }
    let [(closed, Overuse::AllClients { .. })] = world.closed[..] else {
        panic!("{:?}", world.closed)
    };
    assert_eq!(closed, large);
    // While it is being closed, the others have room.
    for peer in &small {
        world.send(*peer, known(&Value::free("map"), invented(0, 50), false));
    }
    assert_eq!(world.closed.len(), 1);
}

#[test]
fn only_the_claims_of_an_upstream_are_bounded() {
    let bound = 4 * SUBSCRIPTION_BYTES;
    let config = Config { bytes_per_peer: bound, peer_bytes: bound, ..Config::default() };
    let mut world = World::with_config(config);
    let up = world.connect_upstream("up");
    let alice = world.connect("alice");
    for number in 0..10 {
        let content = Value::free(&number.to_string()).whole(Vec::new());
        world.send(up, content);
    }
    assert!(world.machine.memory().subscriptions > bound);
    // Clients do not pay for it.
    world.send(alice, Value::free("map").load_nothing());
    assert_eq!(world.closed, []);
    let few = bound / CLAIMED_SESSION_BYTES - 2;
    world.send(up, known(&Value::free("few"), invented(0, few), false));
    assert_eq!(world.closed, []);
    world.send(up, known(&Value::free("more"), invented(0, few), false));
    let [(closed, Overuse::Peer { bytes })] = world.closed[..] else {
        panic!("{:?}", world.closed)
    };
    assert!(closed == up && bytes > bound);
    world.disconnect(up);
    assert_eq!(claims(&world), 0);
}

#[test]
fn large_headers_count_as_what_they_take() {
    const META: usize = 12 << 10;
    let warm_bytes = 16 * META as u64;
    let mut world = World::with_config(Config { warm_bytes, ..Config::default() });
    let alice = world.connect("alice");
    for number in 0..100 {
        let value = Value::with_meta(&number.to_string(), META);
        world.send(alice, value.whole(Vec::new()));
        let MemoryUse { entries, headers, .. } = world.machine.memory();
        assert!(entries + headers <= warm_bytes);
    }
    assert_eq!((world.store.len(), world.reports.len()), (100, 0));
    assert!(world.machine.memory().headers > warm_bytes / 2);
}

#[test]
fn dropped_content_is_charged_until_it_is_corrected() {
    let (mut world, map, _) = world_with_map();
    let author = Author::new(1);
    let alice = world.connect("alice");
    world.send(alice, map.known_nothing());
    world.stick(alice);
    for seed in 10..40 {
        let mut log = author.agent_log(seed);
        log.write(&["[1]"]);
        world.send(alice, map.more(vec![log.write(&["[2]"])]));
    }
    assert_eq!(claims(&world), 30);
    world.unstick(alice);
    // The first correction was sent just before.
    assert_eq!(claims(&world), 30);
    world.pass(1_000);
    assert_eq!(claims(&world), 0);
}

#[test]
fn dropped_content_is_charged_until_the_peer_loads_again() {
    let (mut world, map, log) = world_with_map();
    let author = Author::new(1);
    let alice = world.connect("alice");
    world.send(alice, map.known_nothing());
    world.stick(alice);
    for seed in 10..40 {
        let mut log = author.agent_log(seed);
        log.write(&["[1]"]);
        world.send(alice, map.more(vec![log.write(&["[2]"])]));
    }
    assert_eq!(claims(&world), 30);
    world.send(alice, map.load(&[(&log, 2)]));
    assert_eq!(claims(&world), 0);
}

#[test]
fn dropped_content_that_waited_for_a_verification_is_charged() {
    let (mut world, map, log) = world_with_map();
    let alice = world.connect("alice");
    world.stick(alice);
    world.send(alice, map.load(&[(&log, 2)]));
    world.slow_verifier = true;
    let mut own = log.clone();
    world.send(alice, map.more(vec![own.write(&["[3]"])]));
    own.write(&["[4]"]);
    world.send(alice, map.more(vec![own.write(&["[5]"])]));
    assert_eq!(claims(&world), 0);
    world.catch_up();
    assert_eq!(claims(&world), 2);
    world.unstick(alice);
    assert_eq!(claims(&world), 0);
}

#[test]
fn a_claim_is_charged_until_the_peer_has_sent_what_it_claims() {
    let (mut world, map, log) = world_with_map();
    let mut own = log.clone();
    let alice = world.connect("alice");
    let content = map.more(vec![own.write(&["[3]"])]);
    world.send(alice, map.load(&[(&own, 3)]));
    assert_eq!(claims(&world), 2);
    world.send(alice, content);
    assert_eq!((world.durable(&map, &log), claims(&world)), (3, 0));
}

#[test]
fn a_claim_of_less_is_charged_as_well_because_it_shares_no_memory() {
    let author = Author::new(1);
    let map = Value::free("map");
    let mut logs: Vec<_> = (1..=100).map(|seed| author.agent_log(seed)).collect();
    let mut world = World::new();
    let alice = world.connect("alice");
    let runs = logs.iter_mut().map(|log| log.write(&["[1]", "[2]"])).collect();
    world.send(alice, map.whole(runs));
    let bob = world.connect("bob");
    world.stick(bob);
    let less: Vec<_> = logs.iter().map(|log| (log, 1)).collect();
    world.send(bob, map.load(&less));
    assert_eq!(claims(&world), 101);
    let all: Vec<_> = logs.iter().map(|log| (log, 2)).collect();
    world.send(bob, map.load(&all));
    assert_eq!(claims(&world), 0);
}

#[test]
fn a_peer_that_is_one_edit_behind_is_charged_nothing() {
    let (mut world, map, mut log) = world_with_map();
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(bob, map.load(&[(&log, 2)]));
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.send(alice, map.more(vec![log.write(&["[4]"])]));
    world.send(bob, map.known(&[(&log, 3)]));
    assert_eq!(claims(&world), 0);
    world.send(bob, map.known(&[(&log, 5)]));
    assert_eq!(claims(&world), 2);
    world.send(bob, map.known(&[(&log, 4)]));
    assert_eq!(claims(&world), 2);
    world.send(alice, map.more(vec![log.write(&["[5]"])]));
    world.send(bob, map.known(&[(&log, 5)]));
    assert_eq!(claims(&world), 0);
}

#[test]
fn a_large_claim_is_charged_for_sessions_that_are_here_as_well() {
    let author = Author::new(1);
    let map = Value::free("map");
    let mut logs: Vec<_> = (1..=100).map(|seed| author.agent_log(seed)).collect();
    let mut world = World::new();
    let alice = world.connect("alice");
    let runs = logs.iter_mut().map(|log| log.write(&["[1]"])).collect();
    world.send(alice, map.whole(runs));
    let bob = world.connect("bob");
    let counts = |count| logs.iter().map(|log| (log, count)).collect::<Vec<_>>();
    world.send(bob, map.load(&counts(1)));
    assert_eq!(claims(&world), 0);
    world.send(bob, map.known(&counts(2)));
    assert_eq!(claims(&world), 101);
    world.send(bob, map.known(&counts(3)));
    assert_eq!(claims(&world), 101);
}

#[test]
fn a_reconcile_batch_is_charged_until_it_is_acknowledged() {
    let (mut world, map, log) = world_with_map();
    let alice = world.connect("alice");
    let values = vec![(map.id, sessions_hash(&counts_of(&[(&log, 2)]))); 50];
    let batch = |values| Message::Reconcile(Reconcile { id: "x".repeat(1_000), values });
    world.slow_loads = true;
    world.restart();
    let alice_again = world.connect("alice");
    world.send(alice_again, batch(values));
    assert!(world.machine.memory().batches > 1_000 + 50 * 51);
    world.catch_up();
    assert_eq!(world.machine.memory().batches, 0);
    assert_eq!(world.machine.subscriptions(alice), 0);
}

#[test]
fn equal_values_leave_no_subscriptions_behind() {
    const VALUES: usize = 2_000;
    let mut world = World::new();
    let author = world.connect("author");
    let values: Vec<Value> = (0..VALUES).map(|number| Value::free(&number.to_string())).collect();
    for value in &values {
        world.send(author, value.whole(Vec::new()));
    }
    let hash: ShortHash = sessions_hash(&SessionCounts::new());
    let alice = world.connect("alice");
    world.skip_log();
    let entries = values.iter().map(|value| (value.id, hash)).collect();
    world.send(alice, Message::Reconcile(Reconcile { id: "x".to_owned(), values: entries }));
    assert_eq!(world.said().last().unwrap(), "alice ← RECONCILE-ACK x");
    assert_eq!(world.machine.subscriptions(alice), 0);
    // One that the peer is subscribed to stays so.
    world.send(alice, values[0].known(&[]));
    world.send(
        alice,
        Message::Reconcile(Reconcile { id: "y".to_owned(), values: vec![(values[0].id, hash)] }),
    );
    assert_eq!(world.machine.subscriptions(alice), 1);
}

#[test]
fn a_group_that_names_very_many_unknown_values_opens_some_at_a_time() {
    let author = Author::new(1);
    let group = Value::group("group", &author);
    let keys: Vec<String> =
        (0..14_000).map(|number| Value::free(&number.to_string()).id.to_string()).collect();
    let mut world = World::new();
    let alice = world.connect("alice");
    world.send(alice, author.account.whole(Vec::new()));
    world.skip_log();
    world.send(alice, group.whole(vec![author.agent_log(1).set_keys(&keys)]));
    assert!(world.machine.warm_co_values() <= 1_100, "{}", world.machine.warm_co_values());
    let asked = world.said().iter().filter(|line| line.starts_with("alice ← LOAD")).count();
    assert_eq!(asked, 1_000);
    let held = world.machine.memory().held;
    assert!(held > 1_000 * 256, "{held}");
    world.pass(60_000);
    assert_eq!(world.machine.held_bytes(), 0);
    assert_eq!(world.reports.len(), 1);
}

#[test]
fn the_dependencies_that_a_peer_may_wait_for_are_bounded() {
    let config = Config { dependencies_per_peer: 5_000, ..Config::default() };
    let mut world = World::with_config(config);
    let author = Author::new(1);
    let alice = world.connect("alice");
    for number in 0..10_u32 {
        let group = Value::group(&format!("group {number}"), &author);
        let key = |member: u32| Value::free(&format!("{number} {member}")).id.to_string();
        let keys: Vec<String> = (0..1_200).map(key).collect();
        let run = author.agent_log(1).set_keys(&keys);
        world.send(alice, group.whole(vec![run]));
    }
    // Each group waits for 1,000.
    assert_eq!(world.reports.len(), 5);
    assert!(world.reports.iter().all(|report| report.rejection == Rejection::HeldTooMuch));
    world.disconnect(alice);
    world.pass(60_000);
    assert_eq!(world.machine.held_bytes(), 0);
}
