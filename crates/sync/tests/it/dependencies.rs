//! Dependencies: they are sent before their dependants, and content waits for them.

use downbeat_protocol::{Message, SessionContent};
use downbeat_sync::{Action, Config, Event, Item, Progress, Rejection};

use crate::authors::{Author, Log, Value};
use crate::world::World;

/// An account `account`, a group `group` of it with a parent `parent`, and a map `map`.
struct Family {
    world: World,
    account: Value,
    parent: Value,
    group: Value,
    map: Value,
    /// Sessions `p`, `g` and `m` of the account, and their content.
    logs: [Log; 3],
    runs: [SessionContent; 3],
}

fn family() -> Family {
    family_with(Config::default())
}

fn family_with(config: Config) -> Family {
    let author = Author::new(1);
    let account = author.account.clone();
    let (parent, group) = (Value::group("parent", &author), Value::group("group", &author));
    let map = Value::owned("map", &group);
    let mut logs = [author.account_log(1), author.account_log(2), author.account_log(3)];
    let runs = [
        logs[0].set_keys(&[account.id.to_string()]),
        logs[1].set_keys(&[account.id.to_string(), format!("parent_{}", parent.id)]),
        logs[2].write(&["[1]"]),
    ];
    let mut world = World::with_config(config);
    for (value, name) in
        [(&account, "account"), (&parent, "parent"), (&group, "group"), (&map, "map")]
    {
        world.name(value, name);
    }
    for (log, name) in logs.iter().zip(["p", "g", "m"]) {
        world.name_log(log, name);
    }
    Family { world, account, parent, group, map, logs, runs }
}

impl Family {
    fn messages(&self) -> [Message; 4] {
        [
            self.account.whole(Vec::new()),
            self.parent.whole(vec![self.runs[0].clone()]),
            self.group.whole(vec![self.runs[1].clone()]),
            self.map.whole(vec![self.runs[2].clone()]),
        ]
    }

    fn upload(&mut self) {
        let alice = self.world.connect("alice");
        for message in self.messages() {
            self.world.send(alice, message);
        }
        self.world.disconnect(alice);
        self.world.skip_log();
    }
}

const IN_ORDER: [&str; 5] = [
    "bob → LOAD map nothing",
    "bob ← CONTENT account header",
    "bob ← CONTENT parent header p:0+1",
    "bob ← CONTENT group header g:0+1",
    "bob ← CONTENT map header m:0+1",
];

#[test]
fn dependencies_are_sent_first_depth_first_and_once() {
    let mut family = family();
    family.upload();
    let mut world = family.world;
    let bob = world.connect("bob");
    world.send(bob, family.map.load_nothing());
    world.expect(&IN_ORDER);
    world.send(bob, family.group.load(&[(&family.logs[1], 1)]));
    world.expect(&["bob → LOAD group header g:1", "bob ← KNOWN group header g:1"]);
}

#[test]
fn dependencies_that_a_turn_left_out_are_sent_first_in_the_next_one() {
    let mut family = family();
    family.upload();
    let mut world = family.world;
    let bob = world.connect("bob");
    world.stick(bob);
    world.send(bob, family.map.load_nothing());
    let items = world.lose_turn(bob);
    assert_eq!(items.len(), 4);
    // Nothing could be read. The map comes back first, as it does if it is looked up faster.
    let unsent = items.into_iter().rev().map(|item| match item {
        Item::Content(item) => Progress {
            id: item.id,
            epoch: item.epoch,
            header: false,
            started: false,
            reached: item.have,
            stalled: false,
        },
        Item::Message(message) => panic!("{message:?} is no content"),
    });
    world.event(Event::TurnDone { peer: bob, progress: unsent.collect() });
    world.expect(&IN_ORDER);
}

#[test]
fn dependencies_of_a_cold_value_are_sent_first_however_deep() {
    for warm_co_values in [0, 1, 2, 1_000] {
        let mut family = family_with(Config { warm_co_values, ..Config::default() });
        family.upload();
        let mut world = family.world;
        world.restart();
        let bob = world.connect("bob");
        world.send(bob, family.map.load_nothing());
        world.expect(&IN_ORDER);
    }
}

#[test]
fn cold_dependencies_are_waited_for_though_they_are_found_in_any_order() {
    let mut family = family();
    family.upload();
    let mut world = family.world;
    world.restart();
    world.slow_loads = true;
    let bob = world.connect("bob");
    world.send(bob, family.map.load_nothing());
    world.skip_log();
    for _ in 0..10 {
        // The one asked for last is found first.
        let Some(Action::Load(last)) = world.waiting.back() else { break };
        let last = *last;
        world.catch_up_one(|action| matches!(action, Action::Load(id) if *id == last));
    }
    world.expect(&IN_ORDER[1..]);
}

#[test]
fn new_content_of_a_dependency_goes_to_the_peers_that_have_it() {
    let mut family = family();
    family.upload();
    let mut world = family.world;
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(bob, family.map.load_nothing());
    world.skip_log();
    let run = family.logs[1].write(&["[]"]);
    world.send(alice, family.group.more(vec![run]));
    world.expect(&[
        "alice → CONTENT group g:1+1",
        "bob ← CONTENT group g:1+1",
        "alice ← KNOWN group header g:2",
    ]);
}

#[test]
fn a_dependency_that_is_new_is_sent_before_the_content_that_brings_it() {
    let mut family = family();
    family.upload();
    let mut world = family.world;
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(bob, family.map.load_nothing());
    let next = Author::new(2);
    world.name(&next.account, "next");
    let mut log = next.account_log(9);
    world.name_log(&log, "n");
    world.send(alice, next.account.whole(Vec::new()));
    world.send(alice, family.map.load(&[(&family.logs[2], 1)]));
    world.skip_log();
    world.send(alice, family.map.more(vec![log.write(&["[2]"])]));
    world.expect(&[
        "alice → CONTENT map n:0+1",
        "bob ← CONTENT next header",
        "bob ← CONTENT map n:0+1",
        "alice ← KNOWN map header m:1 n:1",
    ]);
}

#[test]
fn missing_dependencies_are_asked_of_the_sender_and_released_in_order() {
    let family = family();
    let messages = family.messages();
    let mut world = family.world;
    let alice = world.connect("alice");
    world.send(alice, messages[3].clone());
    world.expect(&[
        "alice → CONTENT map header m:0+1",
        "alice ← LOAD group nothing",
        "alice ← LOAD account nothing",
    ]);
    world.send(alice, messages[2].clone());
    world.expect(&["alice → CONTENT group header g:0+1", "alice ← LOAD parent nothing"]);
    world.send(alice, messages[1].clone());
    world.expect(&["alice → CONTENT parent header p:0+1"]);
    world.send(alice, messages[0].clone());
    let said = world.said();
    assert_eq!(said[0], "alice → CONTENT account header");
    for line in [
        "alice ← KNOWN account header",
        "alice ← KNOWN parent header p:1",
        "alice ← KNOWN group header g:1",
        "alice ← KNOWN map header m:1",
    ] {
        assert!(said.iter().any(|said| said == line), "{line} in {said:?}");
    }
    assert!(world.reports.is_empty());
    assert_eq!(world.machine.held_bytes(), 0);
}

#[test]
fn the_family_is_taken_in_any_order_it_comes() {
    let orders = (0..4_usize).flat_map(|a| (0..4_usize).map(move |b| (a, b)));
    for (first, second) in orders.filter(|(a, b)| a != b) {
        let family = family();
        let messages = family.messages();
        let mut world = family.world;
        let alice = world.connect("alice");
        let rest = (0..4).rev().filter(|other| *other != first && *other != second);
        for index in [first, second].into_iter().chain(rest) {
            world.send(alice, messages[index].clone());
        }
        assert_eq!(world.store.len(), 4, "{first} {second}");
        assert_eq!(world.durable(&family.map, &family.logs[2]), 1);
    }
}

#[test]
fn content_behind_held_content_of_the_same_peer_waits_with_it() {
    let mut family = family();
    let next = family.logs[2].write(&["[2]"]);
    let messages = family.messages();
    let mut world = family.world;
    let alice = world.connect("alice");
    world.send(alice, messages[3].clone());
    world.send(alice, family.map.more(vec![next]));
    for message in &messages[..3] {
        world.send(alice, message.clone());
    }
    assert_eq!(world.durable(&family.map, &family.logs[2]), 2);
    assert!(!world.said().iter().any(|line| line.contains("CORRECTION")));
}

#[test]
fn a_dependency_in_storage_is_not_asked_of_the_sender() {
    let mut family = family();
    family.upload();
    let next = family.logs[2].write(&["[2]"]);
    let mut world = family.world;
    world.restart();
    let alice = world.connect("alice");
    world.send(alice, family.map.more(vec![next]));
    world.expect(&["alice → CONTENT map m:1+1", "alice ← KNOWN map header m:2"]);
}

#[test]
fn content_for_a_stored_value_does_not_look_up_dependencies_that_it_had_before() {
    let mut family = family();
    family.upload();
    let mut agent = Author::new(1).agent_log(9);
    let mut world = family.world;
    world.restart();
    world.loads = 0;
    let alice = world.connect("alice");
    world.send(alice, family.group.load(&[(&family.logs[1], 1)]));
    world.send(alice, family.group.more(vec![agent.write(&["[2]"])]));
    assert_eq!(world.durable(&family.group, &agent), 1);
    assert_eq!(world.loads, 1);
}

#[test]
fn held_content_is_given_up_after_a_time() {
    let family = family();
    let messages = family.messages();
    let mut world = family.world;
    let alice = world.connect("alice");
    world.send(alice, messages[3].clone());
    world.skip_log();
    world.pass(59_999);
    assert!(world.reports.is_empty());
    world.pass(1);
    assert!(matches!(world.reports[0].rejection, Rejection::MissingDependency(_)));
    assert_eq!(world.machine.held_bytes(), 0);
    // Nothing is left of it.
    for message in &messages[..3] {
        world.send(alice, message.clone());
    }
    assert_eq!(world.store.len(), 3);
    world.skip_log();
    world.send(alice, messages[3].clone());
    assert_eq!(world.durable(&family.map, &family.logs[2]), 1);
}

#[test]
fn held_content_is_bounded_for_each_peer_and_for_all_that_left() {
    let config = Config { held_bytes_per_peer: 3_000, ..Config::default() };
    let mut world = World::with_config(config);
    let author = Author::new(1);
    for round in 0..5 {
        let peer = world.connect("peer");
        for number in 0..20_u8 {
            let map = Value::free(&format!("{round} {number}"));
            world.send(peer, map.whole(vec![author.account_log(number).write(&["[1]"])]));
            assert!(world.machine.held_bytes() <= 6_000);
        }
        assert!(world.reports.iter().any(|report| report.rejection == Rejection::HeldTooMuch));
        world.reports.clear();
        world.disconnect(peer);
        assert!(world.machine.held_bytes() <= 3_000);
    }
    world.pass(60_000);
    assert_eq!(world.machine.held_bytes(), 0);
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn held_content_of_a_peer_that_left_is_taken_when_its_dependencies_come() {
    let family = family();
    let messages = family.messages();
    let mut world = family.world;
    let alice = world.connect("alice");
    for message in messages[1..].iter().rev() {
        world.send(alice, message.clone());
    }
    world.disconnect(alice);
    let bob = world.connect("bob");
    world.send(bob, messages[0].clone());
    assert_eq!(world.store.len(), 4);
    assert_eq!(world.machine.held_bytes(), 0);
}

#[test]
fn made_up_dependencies_delay_only_their_sender() {
    let mut family = family();
    family.upload();
    let run = family.logs[1].write(&["[2]"]);
    let mut world = family.world;
    let (eve, alice) = (world.connect("eve"), world.connect("alice"));
    let mut log = Author::new(6).agent_log(6);
    let nowhere = Value::free("nowhere").id;
    world.send(eve, family.group.load(&[(&family.logs[1], 1)]));
    world.send(alice, family.group.load(&[(&family.logs[1], 1)]));
    world.send(eve, family.group.more(vec![log.set_keys(&[nowhere.to_string()])]));
    world.stick(eve);
    world.skip_log();
    world.send(alice, family.group.more(vec![run]));
    world.expect(&["alice → CONTENT group g:1+1", "alice ← KNOWN group header g:2"]);
}

#[test]
fn unverified_content_adds_no_dependencies() {
    let mut family = family();
    family.upload();
    let mut world = family.world;
    let eve = world.connect("eve");
    let mut log = Author::new(6).agent_log(6);
    let other = Value::free("other");
    world.name(&other, "other");
    world.send(eve, other.whole(Vec::new()));
    let mut run = log.set_keys(&[other.id.to_string()]);
    run.last_signature = log.write(&["[]"]).last_signature;
    world.send(eve, family.group.more(vec![run]));
    world.skip_log();
    let bob = world.connect("bob");
    world.send(bob, family.map.load_nothing());
    world.expect(&IN_ORDER);
}

#[test]
fn groups_that_depend_on_each_other_do_not_wait_for_each_other() {
    for turned in [false, true] {
        let author = Author::new(1);
        let (mut a, mut b) = (Value::group("a", &author), Value::group("b", &author));
        if turned {
            std::mem::swap(&mut a, &mut b);
        }
        let mut world = World::new();
        world.name(&a, "A");
        world.name(&b, "B");
        let (mut in_a, mut in_b) = (author.agent_log(1), author.agent_log(2));
        let alice = world.connect("alice");
        let run = in_a.set_keys(&[format!("parent_{}", b.id)]);
        world.send(alice, a.whole(vec![run]));
        let run = in_b.set_keys(&[format!("parent_{}", a.id)]);
        world.send(alice, b.whole(vec![run]));
        assert_eq!((world.durable(&a, &in_a), world.durable(&b, &in_b)), (1, 1));
        world.skip_log();

        for restart in [false, true] {
            if restart {
                world.restart();
            }
            let bob = world.connect("bob");
            world.send(bob, a.load_nothing());
            let said = world.said();
            assert!(said[1].starts_with("bob ← CONTENT B header"), "{said:?}");
            assert!(said[2].starts_with("bob ← CONTENT A header"), "{said:?}");
            assert_eq!(said.len(), 3);
        }
    }
}

#[test]
fn a_group_and_an_account_that_depend_on_each_other_are_taken_in_any_order() {
    for account_first in [false, true] {
        let author = Author::new(1);
        let group = Value::group("group", &author);
        let mut world = World::new();
        let (mut own, mut log) = (author.agent_log(1), author.account_log(2));
        // The account names the group, and the group has a session of the account.
        let account = author.account.whole(vec![own.set_keys(&[format!("parent_{}", group.id)])]);
        let group_content = group.whole(vec![log.write(&["[1]"])]);
        let alice = world.connect("alice");
        let messages =
            if account_first { [account, group_content] } else { [group_content, account] };
        for message in messages {
            world.send(alice, message);
        }
        assert_eq!(world.reports, []);
        assert_eq!(world.durable(&group, &log), 1, "{account_first}");
        assert_eq!(world.durable(&author.account, &own), 1);
    }
}

#[test]
fn an_account_may_write_its_own_sessions() {
    let author = Author::new(1);
    let mut world = World::new();
    world.name(&author.account, "account");
    let (mut agent, mut own) = (author.agent_log(1), author.account_log(2));
    world.name_log(&agent, "a");
    world.name_log(&own, "o");
    let alice = world.connect("alice");
    let runs = vec![agent.set_keys(&[author.account.id.to_string()]), own.write(&["[]"])];
    world.send(alice, author.account.whole(runs));
    world.expect(&[
        "alice → CONTENT account header a:0+1 o:0+1",
        "alice ← KNOWN account header a:1 o:1",
    ]);
}

#[test]
fn a_branch_waits_for_its_source() {
    let (source, mut log) = (Value::free("source"), Author::new(1).agent_log(1));
    let branch = Value::branch("branch", &source);
    let mut world = World::new();
    world.name(&source, "source");
    world.name(&branch, "branch");
    world.name_log(&log, "a");
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(alice, branch.whole(vec![log.write(&["[1]"])]));
    world.send(alice, source.whole(Vec::new()));
    world.send(bob, branch.load_nothing());
    world.expect(&[
        "alice → CONTENT branch header a:0+1",
        "alice ← LOAD source nothing",
        "alice → CONTENT source header",
        "alice ← KNOWN source header",
        "alice ← KNOWN branch header a:1",
        "bob → LOAD branch nothing",
        "bob ← CONTENT source header",
        "bob ← CONTENT branch header a:0+1",
    ]);
}

#[test]
fn credit_for_held_content_comes_back_once() {
    let family = family();
    let messages = family.messages();
    let mut world = family.world;
    let alice = world.connect("alice");
    let mut sent = 0;
    for message in messages.iter().rev() {
        sent += crate::authors::credit(message);
        world.send(alice, message.clone());
    }
    assert_eq!(world.store.len(), 4);
    assert_eq!(world.released[&alice], sent);
}

#[test]
fn an_account_may_go_cold_while_its_content_waits_for_the_verifier() {
    let config = Config { warm_co_values: 1, ..Config::default() };
    let mut family = family_with(config);
    family.upload();
    let runs = [family.logs[2].write(&["[2]"]), family.logs[2].write(&["[3]"])];
    let mut world = family.world;
    let alice = world.connect("alice");
    world.send(alice, family.account.known(&[]));
    world.slow_verifier = true;
    for run in runs {
        world.send(alice, family.map.more(vec![run]));
    }
    for number in 0..10 {
        world.send(alice, Value::free(&number.to_string()).load_nothing());
    }
    world.catch_up();
    assert_eq!(world.reports, []);
    assert_eq!(world.durable(&family.map, &family.logs[2]), 3);
}
