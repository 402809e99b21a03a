//! The comparison of everything in storage with an upstream.

use downbeat_protocol::Message;
use downbeat_sync::Config;

use crate::upstream_unsynced::many;
use crate::world::World;

/// A world with this many values in storage and no notes of them, after a restart.
fn world_with_stored(count: usize, config: Config) -> World {
    let mut world = World::with_config(Config { full_storage_reconciliation: true, ..config });
    let ann = world.connect("ann");
    for (value, log) in &mut many(count) {
        world.send(ann, value.whole(vec![log.write(&["[1]"])]));
    }
    world.restart();
    world
}

fn batches(world: &mut World) -> Vec<(String, usize)> {
    let said = world.said();
    let batches = said.iter().filter_map(|line| line.split_once("← RECONCILE "));
    batches
        .map(|(_, batch)| {
            let mut words = batch.split(' ');
            (words.next().unwrap_or_default().to_owned(), words.count())
        })
        .collect()
}

fn ack(batch: &str) -> Message {
    Message::ReconcileAck(batch.to_owned())
}

#[test]
fn storage_is_compared_page_by_page_after_each_acknowledgement() {
    let mut world = world_with_stored(250, Config::default());
    let core = world.connect_upstream("core");
    let mut sizes = Vec::new();
    loop {
        let sent = batches(&mut world);
        let [(batch, size)] = &sent[..] else { break };
        sizes.push(*size);
        // What it did not ask for is no acknowledgement of what it did.
        world.send(core, ack("another"));
        assert_eq!(batches(&mut world), []);
        world.send(core, ack(batch));
    }
    assert_eq!(sizes, [100, 100, 50]);
    // Once is enough.
    world.disconnect(core);
    world.connect_upstream("core");
    assert_eq!(batches(&mut world), []);
}

#[test]
fn nothing_is_compared_that_is_not_to_be() {
    let mut world = World::new();
    let ann = world.connect("ann");
    world.send(ann, many(1)[0].0.whole(Vec::new()));
    world.restart();
    world.connect_upstream("core");
    world.expect(&[]);
}

#[test]
fn content_that_the_upstream_asks_for_is_sent() {
    let mut world = world_with_stored(1, Config::default());
    let (value, _) = &many(1)[0];
    world.name(value, "map");
    let core = world.connect_upstream("core");
    world.send(core, value.load_nothing());
    world.send(core, ack("b1"));
    let said = world.said();
    assert_eq!(said[..2], ["core ← RECONCILE b1 map", "core → LOAD map nothing"]);
    assert!(said[2].starts_with("core ← CONTENT map header"), "{said:?}");
}

#[test]
fn a_comparison_that_was_cut_short_goes_on_behind_the_last_page_that_was_acknowledged() {
    let mut world = world_with_stored(250, Config::default());
    let core = world.connect_upstream("core");
    let first = batches(&mut world);
    world.send(core, ack(&first[0].0));
    let second = batches(&mut world);
    assert_eq!(second[0].1, 100);
    world.disconnect(core);
    let core = world.connect_upstream("core");
    let again = batches(&mut world);
    assert_eq!(again[0].1, 100);
    // An acknowledgement of what was sent over the connection before does not count.
    world.send(core, ack(&second[0].0));
    assert_eq!(batches(&mut world), []);
    world.send(core, ack(&again[0].0));
    let last = batches(&mut world);
    assert_eq!(last[0].1, 50);
    world.send(core, ack(&last[0].0));
    assert_eq!(batches(&mut world), []);
}

#[test]
fn an_upstream_is_compared_only_where_it_is_chosen() {
    let config = Config { upstreams_per_co_value: 1, ..Config::default() };
    let mut world = world_with_stored(250, config);
    let mut total = 0;
    for name in ["one", "two", "three"] {
        world.add_upstream(name);
    }
    for name in ["one", "two", "three"] {
        let peer = world.connect_upstream(name);
        let mut own = 0;
        loop {
            let sent = batches(&mut world);
            let [(batch, size)] = &sent[..] else { break };
            own += size;
            world.send(peer, ack(batch));
        }
        assert!(own > 0);
        total += own;
    }
    assert_eq!(total, 250);
}
