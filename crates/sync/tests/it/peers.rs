//! Peers that are slow, leave, or come back; and the order of what they are sent.

use downbeat_protocol::SessionCounts;
use downbeat_sync::{Config, Event, Progress, Rejection, Stored, Verified};

use crate::authors::{Author, Value};
use crate::load::world_with_map;
use crate::world::World;

#[test]
fn updates_for_a_slow_peer_become_one_message() {
    let (mut world, map, mut log) = world_with_map();
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(bob, map.load(&[(&log, 2)]));
    world.stick(bob);
    for _ in 0..10 {
        world.send(alice, map.more(vec![log.write(&["[3]"])]));
    }
    world.skip_log();
    world.unstick(bob);
    world.expect(&["bob ← CONTENT map a:2+1", "bob ← CONTENT map a:3+9"]);
}

#[test]
fn acknowledgements_for_a_slow_peer_become_one_message() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    world.stick(alice);
    for _ in 0..10 {
        world.send(alice, map.more(vec![log.write(&["[3]"])]));
    }
    world.skip_log();
    world.unstick(alice);
    world.expect(&["alice ← KNOWN map header a:3", "alice ← KNOWN map header a:12"]);
}

#[test]
fn urgent_values_go_first() {
    let author = Author::new(1);
    let mut world = World::new();
    let (file, map) = (Value::file("file"), Value::free("map"));
    world.name(&file, "file");
    world.name(&map, "map");
    world.name(&author.account, "account");
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    for value in [&file, &map, &author.account] {
        world.send(alice, value.whole(Vec::new()));
    }
    world.stick(bob);
    world.send(bob, Value::free("nothing").load_nothing());
    for value in [&file, &map, &author.account] {
        world.send(bob, value.load_nothing());
    }
    world.skip_log();
    world.unstick(bob);
    assert_eq!(
        world.said()[1..],
        ["bob ← CONTENT account header", "bob ← CONTENT map header", "bob ← CONTENT file header"]
    );
}

#[test]
fn a_long_value_is_sent_in_turns_and_announced_once() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    for _ in 0..3 {
        world.send(alice, map.more(vec![log.write(&["[3]"])]));
    }
    world.disconnect(alice);
    world.runs_per_turn = 1;
    let bob = world.connect("bob");
    world.skip_log();
    world.send(bob, map.load_nothing());
    world.expect(&[
        "bob → LOAD map nothing",
        "bob ← CONTENT map header a:0+2 until a:5",
        "bob ← CONTENT map a:2+1",
        "bob ← CONTENT map a:3+1",
        "bob ← CONTENT map a:4+1",
    ]);
    // What comes after that is a sequence of its own.
    let alice = world.connect("alice");
    world.stick(bob);
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.skip_log();
    world.unstick(bob);
    world.expect(&[
        "bob ← CONTENT map a:5+1",
        "bob ← CONTENT map a:6+1 until a:8",
        "bob ← CONTENT map a:7+1",
    ]);
}

#[test]
fn sessions_that_a_turn_did_not_get_to_are_sent_with_the_next() {
    let (mut world, map, log) = world_with_map();
    let mut other = Author::new(2).agent_log(2);
    world.name_log(&other, "b");
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(alice, map.more(vec![other.write(&["[1]"])]));
    world.runs_per_turn = 1;
    world.skip_log();
    world.send(bob, map.load_nothing());
    let said = world.said().concat();
    assert!(said.contains("a:0+2") && said.contains("b:0+1"), "{said}");
    let _ = log;
}

#[test]
fn an_edit_goes_between_the_pieces_of_a_file() {
    let (mut world, map, mut log) = world_with_map();
    let (file, mut bytes) = (Value::file("file"), Author::new(2).agent_log(2));
    world.name(&file, "file");
    world.name_log(&bytes, "b");
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(alice, file.whole(vec![bytes.write(&["[1]"])]));
    world.send(alice, file.more(vec![bytes.write(&["[2]"])]));
    world.send(bob, map.load(&[(&log, 2)]));
    world.runs_per_turn = 1;
    world.stick(bob);
    world.send(bob, file.load_nothing());
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.skip_log();
    world.unstick(bob);
    world.expect(&[
        "bob ← CONTENT file header b:0+1 until b:2",
        "bob ← CONTENT map a:2+1",
        "bob ← CONTENT file b:1+1",
    ]);
}

#[test]
fn a_load_in_the_middle_of_a_sequence_starts_another() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.send(alice, map.more(vec![log.write(&["[4]"])]));
    world.runs_per_turn = 1;
    let bob = world.connect("bob");
    world.stick(bob);
    world.send(bob, map.load_nothing());
    world.skip_log();
    world.read_one_turn(bob);
    world.expect(&["bob ← CONTENT map header a:0+2 until a:4"]);
    world.send(bob, map.load(&[(&log, 1)]));
    world.unstick(bob);
    world.expect(&[
        "bob → LOAD map header a:1",
        "bob ← CONTENT map a:2+1",
        "bob ← CONTENT map a:1+1 until a:4",
        "bob ← CONTENT map a:2+1",
        "bob ← CONTENT map a:3+1",
    ]);
}

#[test]
fn a_peer_that_reconnects_in_the_middle_is_sent_the_rest() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.runs_per_turn = 1;
    let bob = world.connect("bob");
    world.stick(bob);
    world.send(bob, map.load_nothing());
    world.read_one_turn(bob);
    world.disconnect(bob);
    world.skip_log();
    let bob = world.connect("bob again");
    world.send(bob, map.load(&[(&log, 2)]));
    world.expect(&["bob again → LOAD map header a:2", "bob again ← CONTENT map a:2+1"]);
}

#[test]
fn an_author_who_comes_back_before_its_content_is_durable_is_acknowledged_in_the_end() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    world.slow_stores = true;
    let run = log.write(&["[3]"]);
    world.send(alice, map.more(vec![run.clone()]));
    world.disconnect(alice);
    let alice = world.connect("alice");
    world.send(alice, map.load(&[(&log, 3)]));
    world.send(alice, map.more(vec![run]));
    world.skip_log();
    world.catch_up();
    world.expect(&["alice ← KNOWN map header a:3"]);
}

#[test]
fn a_peer_may_leave_at_any_moment_and_what_it_sent_is_kept() {
    for moment in 0..4 {
        let (mut world, map, mut log) = world_with_map();
        world.restart();
        let (alice, bob) = (world.connect("alice"), world.connect("bob"));
        (world.slow_loads, world.slow_verifier, world.slow_stores) = (true, true, true);
        world.send(alice, map.more(vec![log.write(&["[3]"])]));
        world.send(alice, map.more(vec![log.write(&["[4]"])]));
        world.send(bob, map.load_nothing());
        world.stick(bob);
        for step in 0..4 {
            if step == moment {
                world.disconnect(alice);
                world.disconnect(bob);
            }
            if !world.waiting.is_empty() {
                world.catch_up_one(|_| true);
            }
        }
        world.catch_up();
        assert_eq!(world.durable(&map, &log), 4);
        assert_eq!(world.machine.peers(), 0);
    }
}

#[test]
fn messages_and_completions_without_a_question_are_ignored() {
    let (mut world, map, log) = world_with_map();
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 2)]));
    world.disconnect(bob);
    world.skip_log();
    let id = map.id;
    let unknown = Value::free("unknown").id;
    for id in [id, unknown] {
        world.event(Event::Loaded { id, result: Ok(None) });
        world.event(Event::Stored(Stored { id, durable: SessionCounts::new(), conflict: true }));
        world.event(Event::Verified(Verified {
            id,
            session: log.session.clone(),
            accepted: Vec::new(),
            chain: None,
            rejection: Some(Rejection::Unreadable),
        }));
        world.event(Event::TurnDone {
            peer: bob,
            progress: vec![Progress {
                id,
                epoch: 0,
                header: true,
                started: true,
                reached: SessionCounts::new(),
                stalled: false,
            }],
        });
    }
    world.event(Event::Disconnected(bob));
    world.machine.handle(0, Event::Received { peer: bob, message: map.load_nothing() });
    world.settle();
    world.expect(&[]);
    let carol = world.connect("carol");
    world.send(carol, map.load(&[(&log, 2)]));
    world.expect(&["carol → LOAD map header a:2", "carol ← KNOWN map header a:2"]);
}

#[test]
fn a_peer_has_so_many_subscriptions_and_no_more() {
    let mut world = World::with_config(Config { subscriptions_per_peer: 2, ..Config::default() });
    let alice = world.connect("alice");
    for name in ["one", "two", "three", "two"] {
        world.send(alice, Value::free(name).whole(Vec::new()));
    }
    assert_eq!(world.store.len(), 2);
    assert_eq!(world.reports.len(), 1);
    assert_eq!(world.reports[0].rejection, Rejection::TooManySubscriptions);
}

#[test]
fn unreadable_content_is_sent_with_the_next_change() {
    let (mut world, map, mut log) = world_with_map();
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    let hidden = world.hide(&map);
    world.send(bob, map.load_nothing());
    world.show(&map, hidden);
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    let said = world.said();
    assert!(said.contains(&"bob ← CONTENT map header a:0+3".to_owned()), "{said:?}");
}

#[test]
fn more_values_than_one_turn_takes_are_all_sent() {
    let mut world = World::new();
    let bob = world.connect("bob");
    for number in 0..200 {
        world.send(bob, Value::free(&number.to_string()).whole(Vec::new()));
    }
    let carol = world.connect("carol");
    world.stick(carol);
    for number in 0..200 {
        world.send(carol, Value::free(&number.to_string()).load_nothing());
    }
    world.skip_log();
    world.unstick(carol);
    assert_eq!(world.said().iter().filter(|line| line.contains("← CONTENT")).count(), 200);
}
