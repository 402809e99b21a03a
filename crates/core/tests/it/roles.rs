//! Roles: the same as in the reference for the same groups.

use downbeat_core::roles::{Group, Member, Role, Roles, UnknownGroup};
use downbeat_crypto::header_id;
use downbeat_protocol::{CoValueId, Header, Limits, SessionId, Transaction};
use serde_json::Value;

use crate::given::{header, id, session};
use crate::vectors::{self, Loaded};

fn role(roles: &mut Roles, question: &Value) -> Option<Role> {
    let member = Member::parse(question[1].as_str().unwrap()).unwrap();
    roles.role_of(id(question[0].as_str().unwrap()), &member, question[2].as_f64()).unwrap()
}

#[test]
fn in_recorded_groups_at_all_times() {
    let mut roles = Loaded::all().roles();
    assert!(roles.missing().is_empty());
    for question in vectors::facts()["roles"].as_array().unwrap() {
        let role = role(&mut roles, question);
        assert_eq!(role.map(Role::as_str), question[3].as_str(), "{question}");
    }
}

/// The random histories, out of several thousand, that distinguish the rules best.
#[test]
fn in_random_histories_with_parents() {
    let mut found = 0;
    for line in str::from_utf8(&vectors::file("roles.jsonl")).unwrap().lines() {
        let history: Value = serde_json::from_str(line).unwrap();
        let mut roles = Roles::new();
        for group in history["groups"].as_array().unwrap() {
            roles.insert(parse_group(group));
        }
        for question in history["questions"].as_array().unwrap() {
            let role = role(&mut roles, question);
            assert_eq!(role.map(Role::as_str), question[3].as_str(), "{question} in {history}");
            found += usize::from(role.is_some());
        }
    }
    assert!(found > 100, "most queries found no role");
}

fn parse_group(group: &Value) -> Group {
    let limits = Limits::default();
    let header = Header::parse(&group["header"].to_string().into(), &limits).unwrap();
    let sessions: Vec<(SessionId, Vec<Transaction>)> = group["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|log| {
            let transactions = log[1].as_array().unwrap().iter();
            let parse = |json: &Value| Transaction::parse(&json.to_string().into(), &limits);
            (
                session(log[0].as_str().unwrap()),
                transactions.map(|json| parse(json).unwrap()).collect(),
            )
        })
        .collect();
    let sessions = sessions.iter().map(|(session, log)| (session, log.as_slice()));
    Group::new(header_id(&header), &header, sessions)
}

const GROUP: &str = r#"{"meta":null,"ruleset":{"initialAdmin":"co_zA","type":"group"},"type":"comap","uniqueness":"name"}"#;

/// A transaction that sets a key at a time.
fn set(key: &str, value: &str, made_at: u64) -> Transaction {
    let changes = format!(r#"[{{"key":"{key}","op":"set","value":"{value}"}}]"#);
    Transaction::trusting(&changes, made_at, None)
}

/// A group in which only its founder `co_zA` sets keys, at these times.
fn group(name: &str, sets: &[(&str, &str, u64)]) -> (CoValueId, Group) {
    let header = header(&GROUP.replace("name", name));
    let sets = [("co_zA", "admin", 0)].iter().chain(sets);
    let log: Vec<_> = sets.map(|(key, value, made_at)| set(key, value, *made_at)).collect();
    let (id, session) = (header_id(&header), session("co_zA_session_z1"));
    (id, Group::new(id, &header, [(&session, log.as_slice())]))
}

#[test]
fn a_parent_that_counts_must_be_there() {
    let (parent, parent_group) = group("parent", &[("co_zB", "writer", 5)]);
    let (child, child_group) = group("child", &[(&format!("parent_{parent}"), "extend", 10)]);
    let bob = Member::parse("co_zB").unwrap();
    let mut roles = Roles::new();
    assert_eq!(roles.role_of(child, &bob, None), Err(UnknownGroup(child)));
    roles.insert(child_group);
    assert_eq!(roles.missing(), [parent]);
    assert_eq!(roles.role_of(child, &bob, None), Err(UnknownGroup(parent)));
    roles.insert(parent_group);
    assert_eq!(roles.role_of(child, &bob, None), Ok(Some(Role::Writer)));
    assert_eq!(roles.role_of(child, &bob, Some(9.0)), Ok(None));
}

#[test]
fn a_newer_state_of_a_group_replaces_the_older_one() {
    let (parent, before) = group("parent", &[]);
    let (child, child_group) = group("child", &[(&format!("parent_{parent}"), "extend", 10)]);
    let bob = Member::parse("co_zB").unwrap();
    let mut roles = Roles::new();
    roles.insert(before);
    roles.insert(child_group);
    assert_eq!(roles.role_of(child, &bob, None), Ok(None));
    roles.insert(group("parent", &[("co_zB", "reader", 20)]).1);
    assert_eq!(roles.role_of(child, &bob, None), Ok(Some(Role::Reader)));
}

/// A mapping without a meaning takes precedence over lesser roles if it comes first.
#[test]
fn a_parent_with_a_senseless_mapping_takes_the_place_of_another() {
    let carol = Member::parse("co_zC").unwrap();
    let (one, one_group) = group("one", &[("co_zB", "reader", 1)]);
    let (two, two_group) = group("two", &[("co_zB", "reader", 1)]);
    for (mappings, expected) in
        [(["nonsense", "writerInvite"], None), (["writerInvite", "nonsense"], Some(Role::Writer))]
    {
        let header = header(GROUP);
        let parents = [one, two].map(|id| format!("parent_{id}"));
        let by_alice = [
            set("co_zA", "admin", 0),
            set(&parents[0], mappings[0], 10),
            set(&parents[1], mappings[1], 10),
        ];
        let by_bob = [set("co_zC", "writer", 20)];
        let (alice, bob) = (session("co_zA_session_z1"), session("co_zB_session_z1"));
        let id = header_id(&header);
        let mut roles = Roles::new();
        for parent in [&one_group, &two_group] {
            roles.insert(parent.clone());
        }
        roles.insert(Group::new(id, &header, [(&alice, &by_alice[..]), (&bob, &by_bob[..])]));
        assert_eq!(roles.role_of(id, &carol, None), Ok(expected), "{mappings:?}");
    }
}

#[test]
fn a_group_tells_its_members_and_not_its_parents() {
    let (parent, _) = group("z1", &[]);
    let (_, group) =
        group("z2", &[("everyone", "reader", 2), (&format!("parent_{parent}"), "extend", 3)]);
    let members: Vec<_> = group.members().collect();
    assert_eq!(members, [Member::parse("co_zA").unwrap(), Member::Everyone]);
    assert_eq!(group.parents().collect::<Vec<_>>(), [parent]);
}

/// The reference overflows its stack here. The answer must not depend on the order of the queries.
#[test]
fn groups_that_name_each_other_as_parents_have_the_earlier_one_count() {
    let bob = Member::parse("co_zB").unwrap();
    let parent_of = |id: CoValueId| format!("parent_{id}");
    let (one, two) = (group("one", &[]).0, group("two", &[]).0);
    let groups = [
        group("one", &[("co_zB", "writer", 1), (&parent_of(two), "extend", 10)]).1,
        group("two", &[("co_zB", "reader", 1), (&parent_of(one), "extend", 20)]).1,
    ];
    for order in [[one, two], [two, one]] {
        let mut roles = Roles::new();
        for group in &groups {
            roles.insert(group.clone());
        }
        for id in order {
            let expected = if id == one { Role::Writer } else { Role::Reader };
            assert_eq!(roles.role_of(id, &bob, None), Ok(Some(expected)), "two is no child of one");
        }
    }
}

#[test]
fn a_circle_that_was_never_closed_at_one_time_is_none() {
    let bob = Member::parse("co_zB").unwrap();
    let (one, two) = (group("one", &[]).0, group("two", &[]).0);
    let mut roles = Roles::new();
    let (to_one, to_two) = (format!("parent_{one}"), format!("parent_{two}"));
    roles.insert(
        group("one", &[("co_zB", "writer", 1), (&to_two, "extend", 10), (&to_two, "revoked", 15)])
            .1,
    );
    roles.insert(group("two", &[(&to_one, "extend", 20)]).1);
    assert_eq!(roles.role_of(two, &bob, Some(19.0)), Ok(None));
    assert_eq!(roles.role_of(two, &bob, Some(20.0)), Ok(Some(Role::Writer)));
}

#[test]
fn many_parents_of_parents_cost_neither_stack_nor_exponential_time() {
    const LEVELS: usize = 2000;
    let bob = Member::parse("co_zB").unwrap();
    let mut roles = Roles::new();
    // Each level has two parents, both on the level above, so there are 2^2000 ways to the top.
    let (left, left_group) = group("left", &[("co_zB", "manager", 1)]);
    let (right, right_group) = group("right", &[("co_zB", "manager", 1)]);
    roles.insert(left_group);
    roles.insert(right_group);
    let mut parents = [left, right];
    for level in 0..LEVELS {
        parents = ["left", "right"].map(|side| {
            let [left, right] = parents.map(|parent| format!("parent_{parent}"));
            let sets = [(left.as_str(), "extend", 1), (right.as_str(), "extend", 1)];
            let (id, group) = group(&format!("{side}{level}"), &sets);
            roles.insert(group);
            id
        });
    }
    assert_eq!(roles.role_of(parents[0], &bob, None), Ok(Some(Role::Manager)));
}
