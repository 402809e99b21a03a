//! What one message or event causes is done in portions, so that it does not delay others.

use downbeat_protocol::{CoValueId, KnownState, Message, Reconcile, ShortHash};
use downbeat_sync::{Action, Config, Event, Machine, PeerId, PeerRole};

use crate::authors::{Author, Value};
use crate::world::World;

const ALICE: PeerId = PeerId(1);
const BOB: PeerId = PeerId(2);

fn machine() -> Machine {
    let mut machine = Machine::new(Config::default());
    for peer in [ALICE, BOB] {
        machine.handle(0, Event::Connected { peer, role: PeerRole::Client });
    }
    machine
}

fn id(number: u32) -> CoValueId {
    let mut hash = [1; 19];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    CoValueId::from_short_hash(&hash)
}

fn poll(machine: &mut Machine) -> Vec<Action> {
    let mut actions = Vec::new();
    machine.poll(&mut actions);
    actions
}

/// Answers that storage does not have any of these.
fn answer(machine: &mut Machine, actions: Vec<Action>) -> Vec<CoValueId> {
    let mut looked_up = Vec::new();
    for action in actions {
        match action {
            Action::Load(id) => {
                looked_up.push(id);
                machine.handle(0, Event::Loaded { id, result: Ok(None) });
            }
            Action::Turn { peer, .. } => {
                machine.handle(0, Event::TurnDone { peer, progress: Vec::new() });
            }
            Action::AwaitTurn(_) => {}
            other => panic!("{other:?}"),
        }
    }
    looked_up
}

#[test]
fn another_peer_is_served_between_the_entries_of_a_reconcile_message() {
    const ENTRIES: u32 = 5_000;
    let mut machine = machine();
    let values = (0..ENTRIES).map(|number| (id(number), ShortHash::from_bytes([7; 19]))).collect();
    let message = Message::Reconcile(Reconcile { id: "x".to_owned(), values });
    machine.handle(0, Event::Received { peer: ALICE, message });
    let first = poll(&mut machine);
    assert!(first.len() <= 256, "{}", first.len());
    // Nothing more is looked up for her before these are answered.
    assert!(poll(&mut machine).is_empty());

    let wanted = id(ENTRIES);
    let message = Message::Load(KnownState::empty(wanted));
    machine.handle(0, Event::Received { peer: BOB, message });
    let looked_up = poll(&mut machine);
    assert!(matches!(looked_up[..], [Action::Load(id)] if id == wanted), "{looked_up:?}");

    let mut all = answer(&mut machine, first).len();
    for _ in 0..ENTRIES {
        if machine.deadline().is_none() {
            break;
        }
        let actions = poll(&mut machine);
        assert!(actions.len() <= 600, "{} actions", actions.len());
        all += answer(&mut machine, actions).len();
    }
    assert_eq!(all, ENTRIES as usize);
}

#[test]
fn the_reconcile_messages_of_two_peers_go_on_side_by_side() {
    let mut machine = machine();
    for (peer, from) in [(ALICE, 0), (BOB, 1_000)] {
        let values =
            (from..from + 1_000).map(|number| (id(number), ShortHash::from_bytes([7; 19])));
        let reconcile = Reconcile { id: "x".to_owned(), values: values.collect() };
        machine.handle(0, Event::Received { peer, message: Message::Reconcile(reconcile) });
    }
    let actions = poll(&mut machine);
    let looked_up = answer(&mut machine, actions);
    let of_bob =
        looked_up.iter().filter(|found| (1_000..2_000).any(|number| id(number) == **found));
    assert!(of_bob.count() >= 100);
}

#[test]
fn very_many_subscribers_all_get_what_is_new_even_if_some_leave_meanwhile() {
    const SUBSCRIBERS: usize = 3_000;
    let mut world = World::new();
    let (map, mut log) = (Value::free("map"), Author::new(1).agent_log(1));
    let author = world.connect("author");
    world.send(author, map.whole(vec![log.write(&["[1]"])]));
    let readers: Vec<PeerId> = (0..SUBSCRIBERS).map(|_| world.connect("reader")).collect();
    for reader in &readers {
        world.send(*reader, map.load_nothing());
    }
    for leaver in readers.iter().step_by(10) {
        world.disconnect(*leaver);
    }
    world.skip_log();
    world.send(author, map.more(vec![log.write(&["[2]"])]));
    world.send(author, map.more(vec![log.write(&["[3]"])]));
    let received = world.said().iter().filter(|line| line.contains("← CONTENT")).count();
    assert_eq!(received, 2 * (SUBSCRIBERS - SUBSCRIBERS / 10));
}

#[test]
fn the_subscriptions_of_a_peer_that_left_are_removed_in_portions() {
    const SUBSCRIPTIONS: u32 = 5_000;
    let mut machine = machine();
    for number in 0..SUBSCRIPTIONS {
        let state = KnownState::empty(id(number));
        machine.handle(0, Event::Received { peer: ALICE, message: Message::Load(state) });
        let actions = poll(&mut machine);
        answer(&mut machine, actions);
        let actions = poll(&mut machine);
        answer(&mut machine, actions);
    }
    machine.handle(0, Event::Disconnected(ALICE));
    assert_eq!(machine.peers(), 1);
    let mut polls = 0;
    while machine.deadline().is_some() {
        assert!(poll(&mut machine).is_empty());
        polls += 1;
    }
    assert_eq!(polls, SUBSCRIPTIONS.div_ceil(1_024) - 1);
}

#[test]
fn entries_beyond_the_bound_are_forgotten_without_another_event() {
    const ENTRIES: u32 = 5_000;
    let mut machine = Machine::new(Config { warm_co_values: 10, ..Config::default() });
    machine.handle(0, Event::Connected { peer: ALICE, role: PeerRole::Client });
    for number in 0..ENTRIES {
        let message = Message::Load(KnownState::empty(id(number)));
        machine.handle(0, Event::Received { peer: ALICE, message });
    }
    machine.handle(0, Event::Disconnected(ALICE));
    // All are answered before the machine is polled.
    let actions = poll(&mut machine);
    assert_eq!(answer(&mut machine, actions).len(), ENTRIES as usize);
    assert_eq!(machine.warm_co_values(), ENTRIES as usize);
    for _ in 0..ENTRIES {
        if machine.deadline().is_none() {
            break;
        }
        assert!(poll(&mut machine).is_empty());
    }
    assert_eq!(machine.warm_co_values(), 10);
}
