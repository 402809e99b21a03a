//! Machines that are each other's upstreams.

use crate::authors::{Author, Value};
use crate::machines::Ring;

#[test]
fn a_load_of_an_unknown_value_ends() {
    for size in [2, 3] {
        let mut ring = Ring::of(size);
        let map = Value::free("map");
        ring.worlds[0].name(&map, "map");
        let ann = ring.worlds[0].connect("ann");
        ring.worlds[0].send(ann, map.load_nothing());
        ring.run();
        ring.pass(59_999);
        assert!(!ring.worlds[0].said().contains(&"ann ← KNOWN map nothing".to_owned()));
        ring.pass(1);
        assert!(ring.worlds[0].said().contains(&"ann ← KNOWN map nothing".to_owned()));
        ring.pass(60_000);
        for world in &ring.worlds {
            assert_eq!(world.machine.deadline(), None);
        }
        assert_eq!(ring.run(), 0);
    }
}

#[test]
fn a_load_that_comes_round_too_late_to_be_waited_for_ends_where_it_began() {
    let mut ring = Ring::of(3);
    let map = Value::free("map");
    for world in &mut ring.worlds {
        world.name(&map, "map");
    }
    let ann = ring.worlds[0].connect("ann");
    ring.worlds[0].send(ann, map.load_nothing());
    // The first machine has given up when its LOAD comes back to it.
    assert!(ring.carry(0) && ring.carry(1));
    ring.worlds[0].pass(60_000);
    ring.worlds[0].expect(&[
        "ann → LOAD map nothing",
        "w1 ← LOAD map nothing",
        "ann ← KNOWN map nothing",
    ]);
    ring.run();
    let said = ring.worlds[0].said();
    assert_eq!(said, ["w2 → LOAD map nothing", "w2 ← KNOWN map nothing", "w1 → KNOWN map nothing"]);
    for world in &mut ring.worlds[1..] {
        let loads = world.said().iter().filter(|line| line.contains(" ← LOAD")).count();
        assert_eq!(loads, 1);
    }
}

#[test]
fn a_value_of_one_machine_is_read_at_all_and_no_message_goes_round_for_ever() {
    for size in [2, 3] {
        let mut ring = Ring::of(size);
        let (map, mut log) = (Value::free("map"), Author::new(1).agent_log(1));
        for world in &mut ring.worlds {
            world.name(&map, "map");
            world.name_log(&log, "a");
        }
        let ann = ring.worlds[0].connect("ann");
        ring.worlds[0].send(ann, map.whole(vec![log.write(&["[1]"])]));
        ring.run();
        for number in 1..size {
            let bob = ring.worlds[number].connect("bob");
            ring.worlds[number].send(bob, map.load_nothing());
            ring.run();
            let said = ring.worlds[number].said();
            assert!(said.contains(&"bob ← CONTENT map header a:0+1".to_owned()), "{said:?}");
        }
        // From there on each machine hears of a change from one or both of its neighbours.
        for round in 2..5 {
            ring.contents = 0;
            ring.worlds[0].send(ann, map.more(vec![log.write(&["[2]"])]));
            ring.run();
            assert!(ring.contents <= 2 * size, "{} contents", ring.contents);
            for world in &mut ring.worlds {
                assert_eq!(world.durable(&map, &log), round);
                assert!(world.notes.is_empty());
                assert_eq!(world.reports, []);
            }
        }
        ring.pass(120_000);
        assert_eq!(ring.run(), 0);
    }
}

#[test]
fn edits_at_all_machines_of_a_ring_reach_all() {
    let mut ring = Ring::of(3);
    let map = Value::free("map");
    let mut logs: Vec<_> = (1..4).map(|seed| Author::new(seed).agent_log(seed)).collect();
    let clients: Vec<_> = ring.worlds.iter_mut().map(|world| world.connect("client")).collect();
    for round in 1..4 {
        for ((world, client), log) in ring.worlds.iter_mut().zip(&clients).zip(&mut logs) {
            let run = log.write(&["[1]"]);
            let message = if round == 1 { map.whole(vec![run]) } else { map.more(vec![run]) };
            world.send(*client, message);
        }
        ring.run();
        for world in &ring.worlds {
            assert!(logs.iter().all(|log| world.durable(&map, log) == round));
            assert!(world.notes.is_empty());
        }
    }
}

#[test]
fn in_a_row_an_unknown_value_is_not_found_at_once() {
    let mut row = Ring::row(3);
    let map = Value::free("map");
    row.worlds[0].name(&map, "map");
    let ann = row.worlds[0].connect("ann");
    row.worlds[0].send(ann, map.load_nothing());
    row.run();
    row.worlds[0].expect(&[
        "ann → LOAD map nothing",
        "w1 ← LOAD map nothing",
        "w1 → KNOWN map nothing",
        "ann ← KNOWN map nothing",
    ]);
}

#[test]
fn edits_cross_a_row_both_ways_even_after_the_middle_was_away() {
    let admin = Author::new(1);
    let (group, mut log) = (Value::group("group", &admin), admin.account_log(1));
    let map = Value::owned("map", &group);
    let mut row = Ring::row(3);
    let ann = row.worlds[0].connect("ann");
    for value in [&admin.account, &group] {
        row.worlds[0].send(ann, value.whole(Vec::new()));
    }
    row.worlds[0].send(ann, map.whole(vec![log.write(&["[1]"])]));
    row.run();
    assert_eq!(row.worlds[2].durable(&map, &log), 1);
    assert_eq!(row.worlds[2].store.len(), 3);

    row.restart(1);
    let mut others = Author::new(2).agent_log(2);
    let bob = row.worlds[2].connect("bob");
    row.worlds[0].send(ann, map.more(vec![log.write(&["[2]"])]));
    row.worlds[2].send(bob, map.more(vec![others.write(&["[1]"])]));
    row.join(0, 1);
    row.join(1, 2);
    row.run();
    for world in &row.worlds {
        assert_eq!((world.durable(&map, &log), world.durable(&map, &others)), (2, 1));
        assert!(world.notes.is_empty());
        assert_eq!(world.reports, []);
    }
}
