//! CoValues with many sessions: acknowledgements that state few of them, and work that does not
//! grow with those that an event does not touch.

#[path = "../../benches/sessions/world.rs"]
mod scale;

use downbeat_crypto::sessions_hash;
use downbeat_protocol::{Message, Reconcile, SessionContent, SessionCounts, take_steps};
use downbeat_sync::PeerId;

use crate::authors::{Author, Log, Value};
use crate::world::World;
use scale::Size;

/// Sessions of the maps in the conversations.
const SESSIONS: u8 = 20;

struct Given {
    world: World,
    map: Value,
    logs: Vec<Log>,
    alice: PeerId,
}

/// A world in which alice has sent a map of 20 sessions.
fn given() -> Given {
    let author = Author::new(1);
    let map = Value::free("map");
    let mut logs: Vec<Log> = (1..=SESSIONS).map(|seed| author.agent_log(seed)).collect();
    let mut world = World::new();
    world.name(&map, "map");
    for (log, name) in logs.iter().zip('a'..) {
        world.name_log(log, &name.to_string());
    }
    let alice = world.connect("alice");
    world.send(alice, map.whole(write_all(&mut logs)));
    let said = world.said();
    let [_, .., last] = &said[..] else { panic!("{said:?}") };
    assert!(last.starts_with("alice ← KNOWN map header") && states(last) == 20, "{last}");
    Given { world, map, logs, alice }
}

fn write_all(logs: &mut [Log]) -> Vec<SessionContent> {
    logs.iter_mut().map(|log| log.write(&["[1]"])).collect()
}

/// The number of sessions in a line of the log.
fn states(line: &str) -> usize {
    line.matches(':').count()
}

#[test]
fn an_acknowledgement_of_one_session_of_many_states_that_one() {
    let Given { mut world, map, mut logs, alice } = given();
    world.send(alice, map.more(vec![logs[0].write(&["[2]"])]));
    world.expect(&["alice → CONTENT map a:1+1", "alice ← KNOWN map header a:2"]);

    // What others have written meanwhile is acknowledged to them.
    let bob = world.connect("bob");
    world.send(bob, map.load(&logs.iter().map(|log| (log, log.count)).collect::<Vec<_>>()));
    assert_eq!(states(&world.said()[1]), 20, "the answer to a LOAD states all");
    world.send(bob, map.more(vec![logs[1].write(&["[2]"])]));
    world.send(alice, map.more(vec![logs[2].write(&["[2]"]), logs[3].write(&["[2]"])]));
    let said = world.said();
    assert!(said.contains(&"bob ← KNOWN map header b:2".to_owned()), "{said:?}");
    assert!(said.contains(&"alice ← KNOWN map header c:2 d:2".to_owned()), "{said:?}");
}

#[test]
fn what_is_sent_once_more_is_acknowledged_once_more() {
    let Given { mut world, map, mut logs, alice } = given();
    let again = logs[0].write(&["[2]"]);
    world.send(alice, map.more(vec![again.clone()]));
    world.skip_log();
    world.send(alice, map.more(vec![again]));
    world.expect(&["alice → CONTENT map a:1+1", "alice ← KNOWN map header a:2"]);
}

#[test]
fn the_first_acknowledgement_on_a_connection_states_all_sessions() {
    let Given { mut world, map, mut logs, alice } = given();
    world.disconnect(alice);
    let alice = world.connect("alice");
    world.send(alice, map.more(vec![logs[0].write(&["[2]"])]));
    assert_eq!(states(world.said().last().unwrap()), 20);
    world.send(alice, map.more(vec![logs[0].write(&["[3]"])]));
    assert_eq!(states(world.said().last().unwrap()), 1);
}

/// A peer may take the KNOWN after a LOAD for all that the sender has.
#[test]
fn the_first_acknowledgement_after_our_load_states_all_sessions() {
    let Given { mut world, map, mut logs, alice } = given();
    let values = vec![(map.id, sessions_hash(&SessionCounts::new()))];
    world.send(alice, Message::Reconcile(Reconcile { id: "x".to_owned(), values }));
    assert!(world.said().last().unwrap().starts_with("alice ← LOAD map"));
    for expected in [20, 1] {
        world.send(alice, map.more(vec![logs[0].write(&["[2]"])]));
        let said = world.said();
        assert!(said[1].starts_with("alice ← KNOWN") && states(&said[1]) == expected, "{said:?}");
    }
}

#[test]
fn what_is_due_when_a_value_gets_many_sessions_is_not_left_out() {
    let author = Author::new(1);
    let map = Value::free("map");
    let mut logs: Vec<Log> = (1..=17).map(|seed| author.agent_log(seed)).collect();
    let mut world = World::new();
    let alice = world.connect("alice");
    world.send(alice, map.whole(write_all(&mut logs[..16])));
    world.stick(alice);
    for run in [logs[0].write(&["[2]"]), logs[1].write(&["[2]"]), logs[16].write(&["[1]"])] {
        world.send(alice, map.more(vec![run]));
    }
    world.skip_log();
    world.unstick(alice);
    let said = world.said();
    assert_eq!(said.iter().map(|line| states(line)).collect::<Vec<_>>(), [16, 17], "{said:?}");
}

#[test]
fn a_refused_session_is_acknowledged_with_what_is_here_of_it() {
    let Given { mut world, map, mut logs, alice } = given();
    let mut bad = logs[1].write(&["[2]"]);
    bad.last_signature = logs[0].write(&["[3]"]).last_signature;
    world.send(alice, map.more(vec![logs[2].write(&["[2]"]), bad]));
    let said = world.said();
    assert!(said.contains(&"alice ← KNOWN map header b:1 c:2".to_owned()), "{said:?}");
}

/// The work of an average write, in steps of comparisons and in allocated bytes.
fn work(size: Size) -> (u64, u64) {
    const WRITES: u64 = 50;
    let mut world = scale::World::new(size);
    for _ in 0..WRITES {
        world.write();
    }
    world.stated_to_author = 0;
    take_steps();
    let info = allocation_counter::measure(|| (0..WRITES).for_each(|_| world.write()));
    assert!(size.sessions < 20 || world.stated_to_author as u64 == WRITES);
    (take_steps() / WRITES, info.bytes_total / WRITES)
}

#[test]
fn a_write_costs_the_same_among_few_sessions_and_among_very_many() {
    for (subscribers, claimants) in [(0, 0), (20, 0), (20, 20)] {
        let [few, many, more] =
            [10, 500, 8_000].map(|sessions| work(Size { sessions, subscribers, claimants }));
        let peers = 1 + subscribers + claimants;
        let shown = format!("{few:?} {many:?} {more:?} with {peers} peers");
        println!("{shown}");
        // A path through a tree is longer in a larger one.
        assert!(more.0 < 100 * peers as u64, "steps: {shown}");
        assert!(more.1 < 2 * many.1 && more.1 < 3 * few.1, "bytes: {shown}");
    }
}

#[test]
fn a_new_author_costs_a_subscriber_the_same_after_few_others_and_after_many() {
    let mut world = scale::World::new(Size { sessions: 10, subscribers: 1, claimants: 0 });
    let mut cost = || allocation_counter::measure(|| world.add_author()).bytes_total;
    let few = (0..20).map(|_| cost()).min();
    let many = (0..500).map(|_| cost()).skip(480).min();
    assert!(many < few.map(|few| 2 * few), "{many:?} bytes, and {few:?} after few");
}

#[test]
fn a_comparison_of_many_sessions_is_made_once() {
    let mut world = scale::World::new(Size { sessions: 8_000, subscribers: 1, claimants: 0 });
    world.reconcile(1);
    let info = allocation_counter::measure(|| world.reconcile(1));
    assert!(info.bytes_total < 10_000, "{} bytes", info.bytes_total);
}

#[test]
fn a_statement_costs_its_length_whatever_the_peer_has_claimed_before() {
    for sessions in [1_000, 8_000] {
        let mut world = scale::World::new(Size { sessions, subscribers: 0, claimants: 1 });
        world.state_one(1);
        take_steps();
        let info = allocation_counter::measure(|| (0..10).for_each(|_| world.state_one(1)));
        let steps = take_steps();
        println!("{steps} steps, {} bytes", info.bytes_total);
        assert!(steps < 10 * 1_000, "{steps} steps");
        assert!(info.bytes_total < 10 * 10_000, "{} bytes", info.bytes_total);
    }
}
