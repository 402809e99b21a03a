//! The dependencies of a CoValue: the CoValues that are needed to verify or read its content.
//!
//! - the group that owns it (`ruleset.group` in its header);
//! - the CoValue that it is a branch of (`meta.source` in its header);
//! - every account that owns one of its sessions;
//! - for a group or account, every CoValue that a trusting transaction sets as a key: members
//!   (`co_z…`) and parent groups (`parent_co_z…`).
//!
//! A CoValue is never its own dependency. Groups may depend on each other in a circle, through
//! parents or members, so code that waits for dependencies must not wait for a circle.
//!
//! Keys that resemble ids but are not valid (`co_!`) are ignored, because no such CoValue can
//! exist. The reference waits for them forever.
//!
//! Rule: `coValueCore/utils.ts` of the reference.

use std::collections::BTreeSet;

use downbeat_protocol::{CoValueId, Content, Header, Owner, Ruleset, SessionId, Transaction};

use crate::changes::Change;

/// The prefix of the key under which a group names a parent; the parent's id follows.
pub(crate) const PARENT_PREFIX: &str = "parent_";

/// The dependencies that the header names.
pub fn of_header(header: &Header) -> Vec<CoValueId> {
    let mut found = Found::default();
    found.add_header(header);
    found.list
}

/// The accounts that own these sessions, each once, in the order of the sessions.
pub fn of_sessions<'a>(sessions: impl IntoIterator<Item = &'a SessionId>) -> Vec<CoValueId> {
    let mut found = Found::default();
    found.add_sessions(sessions);
    found.list
}

/// The members and parents that these transactions of a group or account set, each once.
///
/// Private transactions are ignored, and so are transactions whose changes are not a JSON array.
pub fn of_group_transactions<'a>(
    transactions: impl IntoIterator<Item = &'a Transaction>,
) -> Vec<CoValueId> {
    let mut found = Found::default();
    found.add_group_transactions(transactions);
    found.list
}

/// The dependencies of the CoValue `id` with this header that the header and a content message
/// name, each once: first those of the header, then of the sessions, then of the transactions.
///
/// The header is a separate argument because only the first content message has it.
pub fn of_content(id: CoValueId, header: &Header, content: &Content) -> Vec<CoValueId> {
    let mut found = Found::default();
    found.seen.insert(id);
    found.add_header(header);
    found.add_sessions(content.sessions.iter().map(|part| &part.session));
    if header.is_group() {
        found.add_group_transactions(content.sessions.iter().flat_map(|part| &part.transactions));
    }
    found.list
}

/// The dependencies found so far, each once, in order.
#[derive(Default)]
struct Found {
    list: Vec<CoValueId>,
    seen: BTreeSet<CoValueId>,
}

impl Found {
    fn add(&mut self, id: CoValueId) {
        if self.seen.insert(id) {
            self.list.push(id);
        }
    }

    fn add_header(&mut self, header: &Header) {
        if let Ruleset::OwnedByGroup { group } = header.ruleset() {
            self.add(*group);
        }
        if let Some(source) = header.source() {
            self.add(source);
        }
    }

    fn add_sessions<'a>(&mut self, sessions: impl IntoIterator<Item = &'a SessionId>) {
        for session in sessions {
            if let Owner::Account(account) = session.owner() {
                self.add(*account);
            }
        }
    }

    fn add_group_transactions<'a>(
        &mut self,
        transactions: impl IntoIterator<Item = &'a Transaction>,
    ) {
        for transaction in transactions {
            let Some(changes) = transaction.changes() else { continue };
            for change in Change::parse_all(&changes).into_iter().flatten() {
                if let Some(key) = change.set_key()
                    && let Ok(id) = CoValueId::parse(key.strip_prefix(PARENT_PREFIX).unwrap_or(key))
                {
                    self.add(id);
                }
            }
        }
    }
}
