//! Memory: CoValues are forgotten, and no peer notices.

use downbeat_sync::{Action, Config};

use crate::authors::{Author, Log, Value};
use crate::world::World;

fn maps(world: &mut World, count: u8) -> Vec<(Value, Log)> {
    let author = Author::new(1);
    (0..count)
        .map(|number| {
            let (map, log) = (Value::free(&number.to_string()), author.agent_log(number));
            world.name(&map, &format!("m{number}"));
            world.name_log(&log, &format!("s{number}"));
            (map, log)
        })
        .collect()
}

#[test]
fn with_hardly_any_memory_everything_still_works() {
    for warm_co_values in [0, 1, 3] {
        let config = Config { warm_co_values, warm_chains: 1, ..Config::default() };
        let mut world = World::with_config(config);
        let mut maps = maps(&mut world, 10);
        let (alice, bob) = (world.connect("alice"), world.connect("bob"));
        for round in 0..3 {
            for (map, log) in &mut maps {
                let run = log.write(&["[1]"]);
                let message = if round == 0 { map.whole(vec![run]) } else { map.more(vec![run]) };
                world.send(alice, message);
                if round == 0 {
                    world.send(bob, map.load_nothing());
                }
                assert!(world.machine.warm_co_values() <= warm_co_values + 1);
            }
        }
        for (map, log) in &maps {
            assert_eq!(world.durable(map, log), 3);
        }
        let received = world.said().iter().filter(|line| line.starts_with("bob ← CON")).count();
        assert_eq!(received, 30);
        assert_eq!(world.reports, []);
    }
}

#[test]
fn busy_values_are_not_forgotten() {
    let mut world = World::with_config(Config { warm_co_values: 1, ..Config::default() });
    let mut maps = maps(&mut world, 10);
    let alice = world.connect("alice");
    world.slow_stores = true;
    for (map, log) in &mut maps {
        world.send(alice, map.whole(vec![log.write(&["[1]"])]));
    }
    assert_eq!(world.machine.warm_co_values(), 10);
    world.catch_up();
    assert_eq!(world.machine.warm_co_values(), 1);
    assert_eq!(world.said().iter().filter(|line| line.contains("KNOWN")).count(), 10);
}

#[test]
fn loads_of_an_unknown_value_leave_nothing_behind() {
    let config = Config { warm_co_values: 10, subscriptions_per_peer: 50, ..Config::default() };
    let mut world = World::with_config(config);
    let alice = world.connect("alice");
    for number in 0..1_000 {
        world.send(alice, Value::free(&number.to_string()).load_nothing());
        assert!(world.machine.warm_co_values() <= 10);
    }
    assert_eq!(world.reports.len(), 950);
}

#[test]
fn many_loads_at_once_are_forgotten_though_others_are_busy() {
    let mut world = World::with_config(Config { warm_co_values: 100, ..Config::default() });
    let mut maps = maps(&mut world, 100);
    let alice = world.connect("alice");
    world.slow_stores = true;
    for (map, log) in &mut maps {
        world.send(alice, map.whole(vec![log.write(&["[1]"])]));
    }
    let mut number = 0;
    for _ in 0..100 {
        let messages = (0..100).map(|_| {
            number += 1;
            (alice, Value::free(&format!("no {number}")).load_nothing())
        });
        let messages = messages.collect();
        world.send_together(messages);
        assert!(world.machine.warm_co_values() <= 300);
    }
}

#[test]
fn the_same_load_again_and_again_waits_once() {
    let mut world = World::new();
    let map = Value::free("map");
    let alice = world.connect("alice");
    world.slow_loads = true;
    for _ in 0..100 {
        world.send(alice, map.load_nothing());
    }
    assert_eq!(world.waiting.len(), 1);
    world.skip_log();
    world.catch_up();
    assert_eq!(world.said().len(), 1);
}

#[test]
fn chains_of_recently_written_values_are_kept() {
    let mut world = World::with_config(Config { warm_chains: 2, ..Config::default() });
    let mut maps = maps(&mut world, 5);
    let alice = world.connect("alice");
    for (map, log) in &mut maps {
        world.send(alice, map.whole(vec![log.write(&["[1]"])]));
    }
    world.slow_verifier = true;
    for (number, (map, log)) in maps.iter_mut().enumerate() {
        world.send(alice, map.more(vec![log.write(&["[2]"])]));
        let Some(Action::Verify(job)) = world.waiting.back() else { panic!("nothing to verify") };
        assert_eq!(job.chain.is_some(), number >= 3);
    }
}

#[test]
fn a_peer_that_had_all_of_a_forgotten_value_is_sent_only_new_content() {
    let mut world = World::with_config(Config { warm_co_values: 0, ..Config::default() });
    let (map, mut log) = maps(&mut world, 1).remove(0);
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(alice, map.whole(vec![log.write(&["[1]", "[2]"])]));
    world.send(bob, map.load(&[(&log, 2)]));
    // Once more, of a CoValue that is not in memory.
    world.send(bob, map.known(&[(&log, 2)]));
    world.skip_log();
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.expect(&[
        "alice → CONTENT m0 s0:2+1",
        "bob ← CONTENT m0 s0:2+1",
        "alice ← KNOWN m0 header s0:3",
    ]);
}

#[test]
fn a_peer_that_states_less_of_a_forgotten_value_is_sent_the_rest() {
    let mut world = World::with_config(Config { warm_co_values: 0, ..Config::default() });
    let (map, mut log) = maps(&mut world, 1).remove(0);
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(alice, map.whole(vec![log.write(&["[1]", "[2]"])]));
    world.send(bob, map.load(&[(&log, 2)]));
    world.skip_log();
    world.send(bob, map.correction(&[(&log, 1)]));
    world.expect(&["bob → KNOWN CORRECTION m0 header s0:1", "bob ← CONTENT m0 s0:1+1"]);
}

#[test]
fn a_forgotten_value_that_another_writer_has_changed_is_sent_again() {
    let mut world = World::with_config(Config { warm_co_values: 0, ..Config::default() });
    let (map, mut log) = maps(&mut world, 1).remove(0);
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(alice, map.whole(vec![log.write(&["[1]", "[2]"])]));
    world.send(bob, map.load(&[(&log, 2)]));
    world.store_elsewhere(&map, &log.write(&["[3]"]));
    world.skip_log();
    world.send(alice, map.more(vec![log.write(&["[4]"])]));
    world.expect(&[
        "alice → CONTENT m0 s0:3+1",
        "bob ← CONTENT m0 header s0:0+4",
        "alice ← KNOWN m0 header s0:4",
    ]);
}
