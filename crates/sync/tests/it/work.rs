//! Work and memory in proportion to what is going on: large groups, long chains.

use crate::authors::{Author, Value};
use crate::world::World;

/// Many enough for whatever is done for each pair of them to be noticed.
const MANY: usize = 20_000;

#[test]
fn a_group_may_depend_on_very_many() {
    let author = Author::new(1);
    let group = Value::group("group", &author);
    let members: Vec<Value> = (0..MANY).map(|number| Value::free(&number.to_string())).collect();
    let mut log = author.agent_log(1);
    let mut world = World::new();
    let alice = world.connect("alice");
    let keys: Vec<String> = members.iter().map(|member| member.id.to_string()).collect();
    world.send(alice, group.whole(vec![log.set_keys(&keys)]));
    for member in &members {
        world.send(alice, member.whole(Vec::new()));
    }
    world.send(alice, author.account.whole(Vec::new()));
    assert_eq!(world.durable(&group, &log), 1);

    for restart in [false, true] {
        if restart {
            world.restart();
        }
        world.skip_log();
        let bob = world.connect("bob");
        world.send(bob, group.load_nothing());
        let said = world.said();
        assert_eq!(said.len(), MANY + 2);
        assert!(said.last().unwrap().contains("+1"));
    }
}

#[test]
fn a_missing_value_may_hold_up_very_many() {
    let author = Author::new(1);
    let group = Value::group("group", &author);
    let mut world = World::new();
    let alice = world.connect("alice");
    for number in 0..MANY {
        world.send(alice, Value::owned(&number.to_string(), &group).whole(Vec::new()));
    }
    world.send(alice, group.whole(Vec::new()));
    world.send(alice, author.account.whole(Vec::new()));
    assert_eq!(world.store.len(), MANY + 2 - world.reports.len());
    assert_eq!(world.machine.held_bytes(), 0);
}

#[test]
fn very_much_held_content_is_given_up() {
    let group = Value::group("group", &Author::new(1));
    let mut world = World::new();
    let alice = world.connect("alice");
    for number in 0..MANY {
        world.send(alice, Value::owned(&number.to_string(), &group).whole(Vec::new()));
    }
    world.pass(60_000);
    assert_eq!(world.reports.len(), MANY);
    assert_eq!(world.machine.held_bytes(), 0);
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn dependencies_may_form_a_long_chain() {
    let mut chain = vec![Value::free("first")];
    for number in 1..MANY {
        chain.push(Value::branch(&number.to_string(), &chain[number - 1]));
    }
    let mut world = World::new();
    let alice = world.connect("alice");
    // What depends on the others comes first.
    for value in chain.iter().rev() {
        world.send(alice, value.whole(Vec::new()));
    }
    assert_eq!(world.store.len(), MANY);

    for restart in [false, true] {
        if restart {
            world.restart();
        }
        world.skip_log();
        let bob = world.connect("bob");
        world.send(bob, chain[MANY - 1].load_nothing());
        assert_eq!(world.said().len(), MANY + 1);
    }
}
