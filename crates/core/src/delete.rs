//! The deletion of CoValues: its transaction, and who may make it.
//!
//! A trusting transaction with the meta `{"deleted":"<id of the CoValue>"}` deletes a CoValue. It
//! must be the only transaction of a delete session (`…_session_d…$`), and its author must have
//! been an admin of the owning group at the time. Groups, accounts and CoValues without an owning
//! group cannot be deleted.
//!
//! Rule: `#isDeleteTransaction` and `#canAuthorDeleteCoValueAtTime` in `coValueCore.ts` of the
//! reference. There, too, a delete session with one transaction that deletes nothing is an
//! ordinary session.

use downbeat_protocol::{CoValueId, Header, Owner, Ruleset, SessionId, Transaction};

use crate::changes;
use crate::roles::Role;

/// Why a deletion is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// The delete session has more than one transaction.
    #[error("a delete session must hold exactly one transaction")]
    NotAlone,
    /// The transaction names another CoValue.
    #[error("the transaction deletes {0:?}")]
    OtherCoValue(String),
    /// The CoValue is a group or an account.
    #[error("groups and accounts cannot be deleted")]
    Group,
    /// No group owns the CoValue.
    #[error("a CoValue that no group owns cannot be deleted")]
    NotOwned,
    /// The author was not an admin of the owning group at the time.
    #[error("its author was {} of the owning group", .0.map_or("no member", Role::as_str))]
    NotAdmin(Option<Role>),
    /// The author's role is unknown, because content of a group is missing.
    #[error("the author's role is unknown")]
    RoleUnknown,
}

/// A well-formed deletion. It is valid if its author was an admin.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The group that owns the CoValue.
    pub group: CoValueId,
    /// The author of the deletion.
    pub author: Owner,
    /// The time of the deletion, in milliseconds since the Unix epoch.
    pub made_at: f64,
}

impl Claim {
    /// Decides whether the deletion is valid, given the author's role in the group at the time.
    pub fn decide(&self, role: Option<Role>) -> Result<(), DeleteError> {
        match role {
            Some(Role::Admin) => Ok(()),
            _ => Err(DeleteError::NotAdmin(role)),
        }
    }
}

/// The transaction that deletes a CoValue. An admin of the owning group appends it to a new delete
/// session. `made_at` is in milliseconds since the Unix epoch.
pub fn transaction(id: CoValueId, made_at: u64) -> Transaction {
    Transaction::trusting("[]", made_at, Some(&format!(r#"{{"deleted":"{id}"}}"#)))
}

/// Checks whether new transactions of a session delete the CoValue. Returns `None` if they do not.
///
/// `have` is the number of transactions that the session has before these.
pub fn claim(
    id: CoValueId,
    header: &Header,
    session: &SessionId,
    have: u64,
    new: &[Transaction],
) -> Result<Option<Claim>, DeleteError> {
    if !session.is_delete() {
        return Ok(None);
    }
    let [transaction] = new else { return Err(DeleteError::NotAlone) };
    if have > 0 {
        return Err(DeleteError::NotAlone);
    }
    let marker = marker(transaction);
    if let Some(other) = marker.as_deref().filter(|marked| *marked != id.as_str().as_bytes()) {
        return Err(DeleteError::OtherCoValue(quoted(other)));
    }
    if header.is_group() {
        return Err(DeleteError::Group);
    }
    if marker.is_none() {
        return Ok(None);
    }
    let Ruleset::OwnedByGroup { group } = header.ruleset() else {
        return Err(DeleteError::NotOwned);
    };
    Ok(Some(Claim {
        group: *group,
        author: session.owner().clone(),
        made_at: transaction.made_at(),
    }))
}

/// The id in a transaction's `deleted` meta.
fn marker(transaction: &Transaction) -> Option<Vec<u8>> {
    transaction.changes()?;
    let meta = transaction.meta()?;
    changes::text_member(&meta, b"deleted")
}

/// The beginning of a text from a peer, short enough for a log.
fn quoted(text: &[u8]) -> String {
    /// An id has at most 30 bytes.
    const MAX_QUOTED_LEN: usize = 60;
    String::from_utf8_lossy(text.get(..MAX_QUOTED_LEN).unwrap_or(text)).into_owned()
}
