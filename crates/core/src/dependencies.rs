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

use std::collections::HashSet;
use std::ops::ControlFlow;

use downbeat_protocol::{CoValueId, Content, Header, Owner, Ruleset, SessionId, Transaction};

use crate::changes::Change;

/// The prefix of the key under which a group names a parent; the parent's id follows.
pub(crate) const PARENT_PREFIX: &str = "parent_";

/// The dependencies that the header names.
pub fn of_header(header: &Header) -> Vec<CoValueId> {
    list(|found| found.add_header(header))
}

/// The accounts that own these sessions, each once, in the order of the sessions.
pub fn of_sessions<'a>(sessions: impl IntoIterator<Item = &'a SessionId>) -> Vec<CoValueId> {
    list(|found| found.add_sessions(sessions))
}

/// The members and parents that these transactions of a group or account set, each once.
///
/// Private transactions are ignored, and so are transactions whose changes are not a JSON array.
pub fn of_group_transactions<'a>(
    transactions: impl IntoIterator<Item = &'a Transaction>,
) -> Vec<CoValueId> {
    list(|found| found.add_group_transactions(transactions))
}

/// The dependencies of the CoValue `id` with this header that the header and a content message
/// name, each once: first those of the header, then of the sessions, then of the transactions.
///
/// The header is a separate argument because only the first content message has it.
pub fn of_content(id: CoValueId, header: &Header, content: &Content) -> Vec<CoValueId> {
    list(|found| found.add_content(id, header, content))
}

/// Calls `visit` with each dependency that [`of_content`] lists, until it breaks. Most of the
/// changes behind that are not parsed, so the cost of a group that names very many is in
/// proportion to those that are visited.
pub fn visit_of_content(
    id: CoValueId,
    header: &Header,
    content: &Content,
    mut visit: impl FnMut(CoValueId) -> ControlFlow<()>,
) {
    let mut found = Found { seen: HashSet::new(), visit: &mut visit };
    // The result only tells whether `visit` has seen all.
    let _ = found.add_content(id, header, content);
}

/// The dependencies that `add` finds, in their order.
fn list(add: impl FnOnce(&mut Found<'_>) -> ControlFlow<()>) -> Vec<CoValueId> {
    let mut list = Vec::new();
    let mut push = |dependency| {
        list.push(dependency);
        ControlFlow::Continue(())
    };
    // It does not break.
    let _ = add(&mut Found { seen: HashSet::new(), visit: &mut push });
    list
}

/// Visits dependencies as they are found, each once, in order.
struct Found<'a> {
    seen: HashSet<CoValueId>,
    visit: &'a mut dyn FnMut(CoValueId) -> ControlFlow<()>,
}

impl Found<'_> {
    fn add(&mut self, id: CoValueId) -> ControlFlow<()> {
        if self.seen.insert(id) { (self.visit)(id) } else { ControlFlow::Continue(()) }
    }

    fn add_content(
        &mut self,
        id: CoValueId,
        header: &Header,
        content: &Content,
    ) -> ControlFlow<()> {
        self.seen.insert(id);
        self.add_header(header)?;
        self.add_sessions(content.sessions.iter().map(|part| &part.session))?;
        if header.is_group() {
            self.add_group_transactions(
                content.sessions.iter().flat_map(|part| &part.transactions),
            )?;
        }
        ControlFlow::Continue(())
    }

    fn add_header(&mut self, header: &Header) -> ControlFlow<()> {
        if let Ruleset::OwnedByGroup { group } = header.ruleset() {
            self.add(*group)?;
        }
        if let Some(source) = header.source() {
            self.add(source)?;
        }
        ControlFlow::Continue(())
    }

    fn add_sessions<'a>(
        &mut self,
        sessions: impl IntoIterator<Item = &'a SessionId>,
    ) -> ControlFlow<()> {
        for session in sessions {
            if let Owner::Account(account) = session.owner() {
                self.add(*account)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn add_group_transactions<'a>(
        &mut self,
        transactions: impl IntoIterator<Item = &'a Transaction>,
    ) -> ControlFlow<()> {
        for transaction in transactions {
            let Some(changes) = transaction.changes() else { continue };
            for change in Change::parse_all(&changes).into_iter().flatten() {
                if let Some(key) = change.set_key()
                    && let Ok(id) = CoValueId::parse(key.strip_prefix(PARENT_PREFIX).unwrap_or(key))
                {
                    self.add(id)?;
                }
            }
        }
        ControlFlow::Continue(())
    }
}
