//! The CoValues that peers send messages about.

use std::sync::LazyLock;

use downbeat_core::delete;
use downbeat_crypto::{HashChain, delete_session_id, header_id};
use downbeat_protocol::{
    CoValueId, Header, Owner, Ruleset, SessionId, Signature, Transaction, Uniqueness,
};

use crate::people::{Person, alice, bob};
use crate::seeds::MADE_AT;

/// A CoValue with all content that peers may send.
pub(super) struct Value {
    pub id: CoValueId,
    pub header: Header,
    pub logs: Vec<Log>,
}

/// The log of a session, with a signature after each transaction.
pub(super) struct Log {
    pub session: SessionId,
    pub entries: Vec<(Transaction, Signature)>,
    /// Another log that the same author has signed: a fork from the first transaction on.
    pub fork: Vec<(Transaction, Signature)>,
}

/// All CoValues. They depend on each other: a branch on a map, the map on its group, the group on
/// accounts.
pub(super) static VALUES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let (alice, bob) = (alice(), bob());
    let group = group(&alice);
    let map = owned(&group, "comap", "null", "zMap");
    let map_id = header_id(&map);
    let branch = owned(&group, "comap", &format!(r#"{{"source":"{map_id}"}}"#), "zBranch");
    let file = owned(&group, "costream", r#"{"type":"binary"}"#, "zFile");
    let list = Header::builder("colist", Ruleset::UnsafeAllowAll)
        .uniqueness(Uniqueness::Text("zList".into()))
        .build()
        .expect("valid");
    let deletion = |number: u64| vec![delete::transaction(map_id, MADE_AT + number)];
    let delete_session =
        |person: &Person| delete_session_id(&Owner::Account(person.account_id()), [9; 7]);
    vec![
        value(alice.account(), vec![log(&alice, alice.session(0), trusting(2))]),
        value(bob.account(), vec![log(&bob, bob.agent_session(0), trusting(2))]),
        value(
            group.clone(),
            vec![
                log(&alice, alice.session(1), members(&alice, &bob)),
                log(&bob, bob.session(1), trusting(1)),
            ],
        ),
        value(
            map,
            vec![
                log(&alice, alice.session(2), private(6)),
                log(&bob, bob.session(2), private(4)),
                log(&alice, delete_session(&alice), deletion(1)),
                // Bob is no admin of the group.
                log(&bob, delete_session(&bob), deletion(2)),
            ],
        ),
        value(branch, vec![log(&bob, bob.session(3), private(3))]),
        value(file, vec![log(&alice, alice.session(4), long(4))]),
        value(list, vec![log(&bob, bob.agent_session(5), private(5))]),
    ]
});

fn value(header: Header, logs: Vec<Log>) -> Value {
    Value { id: header_id(&header), header, logs }
}

fn log(author: &Person, session: SessionId, transactions: Vec<Transaction>) -> Log {
    let other = Transaction::private("encrypted_Ufork=", "key_z1", MADE_AT + 99, None);
    let mut fork = transactions.clone();
    if let Some(first) = fork.first_mut() {
        *first = other;
    }
    Log { session, entries: signed(author, transactions), fork: signed(author, fork) }
}

fn signed(author: &Person, transactions: Vec<Transaction>) -> Vec<(Transaction, Signature)> {
    let mut chain = HashChain::new();
    let sign = |transaction: Transaction| {
        chain.append(transaction.json());
        let signature = author.secret().signer_secret().sign_chain(&chain);
        (transaction, signature)
    };
    transactions.into_iter().map(sign).collect()
}

fn group(admin: &Person) -> Header {
    Header::builder("comap", Ruleset::Group { initial_admin: Owner::Account(admin.account_id()) })
        .uniqueness(Uniqueness::Text("zGroup".into()))
        .build()
        .expect("valid")
}

fn owned(group: &Header, co_type: &str, meta: &str, uniqueness: &str) -> Header {
    Header::builder(co_type, Ruleset::OwnedByGroup { group: header_id(group) })
        .meta(meta)
        .uniqueness(Uniqueness::Text(uniqueness.into()))
        .build()
        .expect("valid")
}

/// Roles in the group.
fn members(admin: &Person, writer: &Person) -> Vec<Transaction> {
    let set = |who: &str, role: &str, number: u64| {
        let changes = format!(r#"[{{"key":"{who}","op":"set","value":"{role}"}}]"#);
        Transaction::trusting(&changes, MADE_AT + number, None)
    };
    vec![
        set(admin.account_id().as_str(), "admin", 0),
        set(writer.account_id().as_str(), "writer", 1),
        set("everyone", "reader", 2),
    ]
}

fn trusting(count: u64) -> Vec<Transaction> {
    let changes = r#"[{"key":"a","op":"set","value":1}]"#;
    (0..count).map(|number| Transaction::trusting(changes, MADE_AT + number, None)).collect()
}

fn private(count: u64) -> Vec<Transaction> {
    let make = |number| {
        let changes = format!("encrypted_U{number:08}");
        Transaction::private(&changes, "key_z7Pm5FKWQZqUbkD2nF", MADE_AT + number, None)
    };
    (0..count).map(make).collect()
}

/// Transactions that are sent in several pieces.
fn long(count: u64) -> Vec<Transaction> {
    let make = |number| {
        let changes = format!("encrypted_U{}", "x".repeat(40_000));
        Transaction::private(&changes, "key_z7Pm5FKWQZqUbkD2nF", MADE_AT + number, None)
    };
    (0..count).map(make).collect()
}
