//! Deletion: the tombstone, and acknowledgements to peers that do not know of it.

use downbeat_protocol::Message;
use downbeat_sync::cost::content_credit;
use downbeat_sync::{Action, Rejection};

use crate::authors::{Author, Log, Value, forged};
use crate::world::World;

/// A world with a map `map` in a group, one transaction in session `a`, and a delete session `d`.
fn owned_map() -> (World, Value, Log, Log) {
    let author = Author::new(1);
    let group = Value::group("group", &author);
    let map = Value::owned("map", &group);
    let (mut log, delete) = (author.agent_log(1), author.delete_log(2));
    let mut world = World::new();
    world.name(&group, "group");
    world.name(&map, "map");
    world.name_log(&log, "a");
    world.name_log(&delete, "d");
    let alice = world.connect("alice");
    world.send(alice, author.account.whole(Vec::new()));
    world.send(alice, group.whole(Vec::new()));
    world.send(alice, map.whole(vec![log.write(&["[1]"])]));
    world.disconnect(alice);
    world.skip_log();
    (world, map, log, delete)
}

#[test]
fn a_deletion_is_forwarded_and_stored_and_the_rest_is_gone() {
    let (mut world, map, log, mut delete) = owned_map();
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(bob, map.load(&[(&log, 1)]));
    world.skip_log();
    world.send(alice, map.more(vec![delete.delete(map.id)]));
    world.expect(&[
        "alice → CONTENT map d:0+1",
        "bob ← CONTENT group header",
        "bob ← CONTENT map d:0+1",
        "alice ← KNOWN map header d:1",
    ]);
    assert!(world.store[&map.id].deleted);
    for restart in [false, true] {
        if restart {
            world.restart();
        }
        let carol = world.connect("carol");
        world.send(carol, map.load_nothing());
        let said = world.said();
        assert_eq!(said.last().unwrap(), "carol ← CONTENT map header d:0+1");
    }
}

#[test]
fn a_deletion_waits_until_the_group_that_decides_is_stored() {
    let (mut world, map, log, mut delete) = owned_map();
    let author = Author::new(1);
    let mut admin = author.agent_log(7);
    let group = Value::group("group", &author);
    world.name_log(&admin, "g");
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(bob, map.load(&[(&log, 1)]));
    let is_told = |world: &mut World| {
        world.said().iter().any(|line| line.starts_with("bob ← CONTENT map d:0+1"))
    };
    world.slow_stores = true;
    world.send(alice, group.more(vec![admin.set_keys(&[author.account.id.to_string()])]));
    world.send(alice, map.more(vec![delete.delete(map.id)]));
    assert!(!is_told(&mut world), "verified though the group's last word is not stored yet");
    world.catch_up();
    assert!(is_told(&mut world));
    assert!(world.store[&map.id].deleted);
}

#[test]
fn content_of_a_deleted_value_is_acknowledged_as_if_taken() {
    let (mut world, map, mut log, mut delete) = owned_map();
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(alice, map.more(vec![delete.delete(map.id)]));
    world.skip_log();
    world.send(bob, map.more(vec![log.write(&["[2]"])]));
    let said = world.said();
    assert!(said.contains(&"bob ← KNOWN map header a:2 d:1".to_owned()), "{said:?}");
    assert_eq!(world.durable(&map, &log), 0);
    // Even where it leaves a gap.
    world.send(bob, map.known(&[(&delete, 1)]));
    log.write(&["[3]"]);
    world.skip_log();
    world.send(bob, map.more(vec![log.write(&["[4]"])]));
    assert!(!world.said().iter().any(|line| line.contains("CORRECTION")));
}

#[test]
fn a_load_of_a_deleted_value_is_answered_as_if_we_had_what_the_peer_has() {
    let (mut world, map, log, mut delete) = owned_map();
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(alice, map.more(vec![delete.delete(map.id)]));
    world.skip_log();
    world.send(bob, map.load(&[(&log, 7), (&delete, 1)]));
    world.expect(&["bob → LOAD map header a:7 d:1", "bob ← KNOWN map header a:7 d:1"]);
}

#[test]
fn a_stranger_deletes_nothing() {
    let (mut world, map, log, mut delete) = owned_map();
    let alice = world.connect("alice");
    world.may_delete = false;
    world.send(alice, map.more(vec![delete.delete(map.id)]));
    world.pass(60_000);
    assert!(matches!(world.reports[0].rejection, Rejection::InvalidDelete(_)));
    assert!(!world.store[&map.id].deleted);
    let bob = world.connect("bob");
    world.skip_log();
    world.send(bob, map.load(&[(&log, 1)]));
    world.expect(&["bob → LOAD map header a:1", "bob ← KNOWN map header a:1"]);
}

#[test]
fn a_stranger_deletes_nothing_with_two_messages() {
    let (mut world, map, _, mut delete) = owned_map();
    let (eve, mallory) = (world.connect("eve"), world.connect("mallory"));
    world.may_delete = false;
    world.slow_verifier = true;
    // While a forged run is with the verifier, two more come that follow each other.
    let first = delete.delete(map.id);
    world.send(eve, map.more(vec![forged(first.clone())]));
    world.send(mallory, map.more(vec![first]));
    world.send(mallory, map.more(vec![delete.delete(map.id)]));
    world.catch_up();
    assert!(!world.store[&map.id].deleted);
    assert_eq!(world.durable(&map, &delete), 0);
}

#[test]
fn an_apparent_stranger_is_asked_for_the_group_and_judged_again() {
    let (mut world, map, log, mut delete) = owned_map();
    let author = Author::new(1);
    let mut admin = author.agent_log(7);
    let group = Value::group("group", &author);
    world.name_log(&admin, "g");
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(bob, map.load(&[(&log, 1)]));
    world.send(alice, map.load(&[(&log, 1)]));
    world.send(alice, group.load(&[]));
    world.skip_log();
    world.may_delete = false;
    world.send(alice, map.more(vec![delete.delete(map.id)]));
    world.expect(&[
        "alice → CONTENT map d:0+1",
        "alice ← LOAD group header",
        "alice ← KNOWN map header a:1",
    ]);
    assert_ne!(world.machine.held_bytes(), 0);
    // What she has of the group shows that she may.
    world.may_delete = true;
    world.send(alice, group.more(vec![admin.set_keys(&[author.account.id.to_string()])]));
    let said = world.said();
    assert!(said.contains(&"alice ← KNOWN map header a:1 d:1".to_owned()), "{said:?}");
    assert!(said.contains(&"bob ← CONTENT map d:0+1".to_owned()), "{said:?}");
    assert!(world.store[&map.id].deleted);
    assert_eq!(world.machine.held_bytes(), 0);
    assert_eq!(world.reports, []);
}

#[test]
fn a_stranger_without_more_of_the_group_gets_no_second_judgement() {
    let (mut world, map, _, mut delete) = owned_map();
    let group = Value::group("group", &Author::new(1));
    let alice = world.connect("alice");
    world.may_delete = false;
    world.send(alice, map.more(vec![delete.delete(map.id)]));
    assert_eq!(world.reports, []);
    world.send(alice, group.known(&[]));
    assert!(matches!(world.reports[0].rejection, Rejection::InvalidDelete(_)));
    assert_eq!(world.machine.held_bytes(), 0);
    assert_eq!(world.machine.deadline(), Some(60_000));
    world.pass(60_000);
    assert_eq!(world.reports.len(), 1);
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn a_deletion_that_an_upstream_believes_in_is_judged_again_with_its_group() {
    let (mut world, map, _, mut delete) = owned_map();
    let author = Author::new(1);
    let mut admin = author.agent_log(7);
    let group = Value::group("group", &author);
    world.name_log(&admin, "g");
    let core = world.connect_upstream("core");
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    world.send(core, map.known(&[]));
    world.send(core, group.known(&[]));
    world.skip_log();
    world.may_delete = false;
    world.send(core, map.more(vec![delete.delete(map.id)]));
    assert!(world.said().contains(&"core ← LOAD group header".to_owned()));
    world.may_delete = true;
    world.send(core, group.more(vec![admin.set_keys(&[author.account.id.to_string()])]));
    assert!(world.store[&map.id].deleted);
    assert_eq!(world.reports, []);
}

#[test]
fn a_deletion_that_was_judged_by_an_older_group_than_there_is_now_is_judged_again_at_once() {
    let (mut world, map, _, mut delete) = owned_map();
    let author = Author::new(1);
    let mut admin = author.agent_log(7);
    let group = Value::group("group", &author);
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.slow_verifier = true;
    world.send(alice, map.more(vec![delete.delete(map.id)]));
    world.send(bob, group.more(vec![admin.set_keys(&[author.account.id.to_string()])]));
    // The group grows while the deletion is with the verifier, which has read the old one.
    world.catch_up_one(|action| matches!(action, Action::Verify(job) if job.id == group.id));
    world.may_delete = false;
    world.catch_up_one(|action| matches!(action, Action::Verify(job) if job.id == map.id));
    world.may_delete = true;
    world.catch_up();
    assert!(world.store[&map.id].deleted);
    assert_eq!(world.reports, []);
}

#[test]
fn a_stranger_is_not_ignored_afterwards_and_delays_nothing_for_long() {
    let (mut world, map, mut log, mut delete) = owned_map();
    let alice = world.connect("alice");
    world.may_delete = false;
    world.send(alice, map.more(vec![delete.delete(map.id)]));
    // What comes behind it waits for its turn, and is taken without it.
    world.send(alice, map.more(vec![log.write(&["[2]"])]));
    world.pass(60_000);
    assert_eq!(world.durable(&map, &log), 2);
    assert_eq!(world.machine.held_bytes(), 0);
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    assert_eq!(world.durable(&map, &log), 3);
    assert!(!world.store[&map.id].deleted);
    let reasons: Vec<_> = world.reports.iter().map(|report| report.rejection.clone()).collect();
    assert!(matches!(reasons[..], [Rejection::InvalidDelete(_)]), "{reasons:?}");
}

#[test]
fn a_deletion_that_waits_for_its_group_goes_on_after_its_value_is_looked_up_again() {
    let (mut world, map, mut log, mut delete) = owned_map();
    let author = Author::new(1);
    let mut admin = author.agent_log(7);
    let group = Value::group("group", &author);
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    // The deletion is put aside until the group's last word is stored.
    world.slow_stores = true;
    world.send(alice, group.more(vec![admin.set_keys(&[author.account.id.to_string()])]));
    let deletion = map.whole(vec![delete.delete(map.id)]);
    let credit = credit_of(&deletion);
    world.released.clear();
    world.send(alice, deletion);
    // Meanwhile another writer turns out to have written the map, which is looked up.
    world.send(bob, map.more(vec![log.write(&["[2]"])]));
    world.conflict = true;
    world.slow_loads = true;
    world.catch_up_one(|action| matches!(action, Action::Store(job) if job.id == map.id));
    world.catch_up_one(|action| matches!(action, Action::Store(job) if job.id == group.id));
    assert!(!world.store[&map.id].deleted);
    world.catch_up();
    assert!(world.store[&map.id].deleted);
    assert!(world.released[&alice] >= credit);
    assert_eq!(world.reports, []);
}

#[test]
fn a_deletion_is_not_lost_when_its_group_is_looked_up_again() {
    let (mut world, map, _, mut delete) = owned_map();
    let author = Author::new(1);
    let mut admin = author.agent_log(7);
    let group = Value::group("group", &author);
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.slow_stores = true;
    world.send(bob, group.more(vec![admin.set_keys(&[author.account.id.to_string()])]));
    let deletion = map.more(vec![delete.delete(map.id)]);
    let credit = credit_of(&deletion);
    world.released.clear();
    world.send(alice, deletion);
    world.conflict = true;
    world.catch_up();
    assert!(world.store[&map.id].deleted);
    assert_eq!(world.released[&alice], credit);
}

fn credit_of(message: &Message) -> u64 {
    let Message::Content(content) = message else { panic!("content has credit") };
    content_credit(content)
}

#[test]
fn a_deletion_with_more_than_one_transaction_is_refused() {
    let (mut world, map, _, mut delete) = owned_map();
    let alice = world.connect("alice");
    let mut run = delete.delete(map.id);
    let second = delete.delete(map.id);
    run.transactions.extend(second.transactions);
    run.last_signature = second.last_signature;
    world.send(alice, map.more(vec![run]));
    assert!(matches!(world.reports[0].rejection, Rejection::InvalidDelete(_)));
    assert!(!world.store[&map.id].deleted);
}

#[test]
fn groups_and_values_without_a_group_cannot_be_deleted() {
    let author = Author::new(1);
    for value in [Value::group("group", &author), Value::free("map"), author.account.clone()] {
        let mut world = World::new();
        let alice = world.connect("alice");
        let mut delete = author.delete_log(2);
        world.send(alice, author.account.whole(Vec::new()));
        world.send(alice, value.whole(Vec::new()));
        world.send(alice, value.more(vec![delete.delete(value.id)]));
        assert!(matches!(world.reports[0].rejection, Rejection::InvalidDelete(_)));
        assert!(!world.store[&value.id].deleted);
    }
}

#[test]
fn content_that_was_with_the_verifier_at_the_time_of_the_deletion_is_dropped() {
    let (mut world, map, mut log, mut delete) = owned_map();
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.slow_verifier = true;
    world.send(bob, map.more(vec![log.write(&["[2]"])]));
    world.send(bob, map.more(vec![log.write(&["[3]"])]));
    world.send(alice, map.more(vec![delete.delete(map.id)]));
    let session = delete.session.clone();
    world.catch_up_one(|action| matches!(action, Action::Verify(job) if job.session == session));
    world.skip_log();
    world.catch_up();
    let said = world.said();
    assert!(said.contains(&"bob ← KNOWN map header a:3 d:1".to_owned()), "{said:?}");
    let carol = world.connect("carol");
    world.send(carol, map.load_nothing());
    let said = world.said();
    assert_eq!(said.last().unwrap(), "carol ← CONTENT map header d:0+1");
}
