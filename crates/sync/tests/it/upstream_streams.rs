//! Large CoValues that come from an upstream in pieces.

use downbeat_protocol::Message;

use crate::authors::{Log, Value, counts_of, forged};
use crate::upstream::world_and_map;

/// Content that announces what is to come.
fn announcing(message: Message, until: &[(&Log, u64)]) -> Message {
    match message {
        Message::Content(mut content) => {
            content.expect_content_until = Some(counts_of(until));
            Message::Content(content)
        }
        other => other,
    }
}

#[test]
fn pieces_are_forwarded_as_they_come_and_their_end_is_announced() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    let pieces: Vec<_> = (0..3).map(|_| log.write(&["[1]"])).collect();
    world.skip_log();
    world.send(core, announcing(map.whole(vec![pieces[0].clone()]), &[(&log, 3)]));
    world.expect(&[
        "core → CONTENT map header a:0+1 until a:3",
        "ann ← CONTENT map header a:0+1 until a:3",
        "core ← KNOWN map header a:1",
    ]);
    // Who comes in the middle is told as well.
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    world.expect(&["bob → LOAD map nothing", "bob ← CONTENT map header a:0+1 until a:3"]);
    for piece in &pieces[1..] {
        world.send(core, map.more(vec![piece.clone()]));
    }
    let said = world.said();
    assert!(said.contains(&"ann ← CONTENT map a:2+1".to_owned()), "{said:?}");
    let cid = world.connect("cid");
    world.send(cid, map.load_nothing());
    world.expect(&["cid → LOAD map nothing", "cid ← CONTENT map header a:0+3"]);
}

#[test]
fn a_stream_that_was_cut_goes_on_where_it_ended() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    let pieces: Vec<_> = (0..3).map(|_| log.write(&["[1]"])).collect();
    world.send(core, announcing(map.whole(vec![pieces[0].clone()]), &[(&log, 3)]));
    world.disconnect(core);
    world.skip_log();
    let core = world.connect_upstream("core");
    world.send(core, announcing(map.more(vec![pieces[1].clone()]), &[(&log, 3)]));
    world.send(core, map.more(vec![pieces[2].clone()]));
    let said = world.said();
    assert_eq!(said[0], "core ← LOAD map header a:1");
    assert!(said.contains(&"ann ← CONTENT map a:2+1".to_owned()), "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("core ← KNOWN map header a:3"));
    assert!(world.notes.is_empty());
}

#[test]
fn a_stream_from_a_client_announces_nothing() {
    let (mut world, map, mut log) = world_and_map();
    let (ann, bob) = (world.connect("ann"), world.connect("bob"));
    world.send(bob, map.load_nothing());
    world.skip_log();
    let run = log.write(&["[1]"]);
    world.send(ann, announcing(map.whole(vec![run]), &[(&log, 3)]));
    world.expect(&[
        "ann → CONTENT map header a:0+1 until a:3",
        "bob ← CONTENT map header a:0+1",
        "ann ← KNOWN map header a:1",
    ]);
}

#[test]
fn announcements_of_a_rejected_upstream_are_dropped() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    world.send(core, announcing(map.whole(vec![log.write(&["[1]"])]), &[(&log, 3)]));
    world.send(core, map.more(vec![forged(log.write(&["[2]"]))]));
    world.skip_log();
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    world.expect(&["bob → LOAD map nothing", "bob ← CONTENT map header a:0+1"]);
}

#[test]
fn nothing_more_is_expected_of_a_deleted_value() {
    let author = crate::authors::Author::new(1);
    let group = Value::free("group");
    let map = Value::owned("map", &group);
    let (mut log, mut delete) = (author.agent_log(1), author.delete_log(2));
    let mut world = crate::world::World::new();
    world.name(&map, "map");
    world.name_log(&delete, "d");
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, group.whole(Vec::new()));
    world.send(ann, map.load_nothing());
    world.send(core, announcing(map.whole(vec![log.write(&["[1]"])]), &[(&log, 3)]));
    world.send(core, map.more(vec![delete.delete(map.id)]));
    assert_eq!(world.reports, []);
    world.skip_log();
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    let said = world.said();
    assert_eq!(said.last().map(String::as_str), Some("bob ← CONTENT map header d:0+1"));
}

#[test]
fn announcements_of_an_upstream_that_left_are_dropped() {
    let (mut world, map, mut log) = world_and_map();
    let core = world.connect_upstream("core");
    let ann = world.connect("ann");
    world.send(ann, map.load_nothing());
    let first = log.write(&["[1]"]);
    log.write(&["[2]"]);
    world.send(core, announcing(map.whole(vec![first]), &[(&log, 2)]));
    world.disconnect(core);
    world.skip_log();
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    world.expect(&["bob → LOAD map nothing", "bob ← CONTENT map header a:0+1"]);
}
