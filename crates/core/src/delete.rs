//! When a CoValue may be deleted, and by what transaction.
//!
//! A CoValue is deleted by a trusting transaction whose meta is `{"deleted":"<its id>"}`, alone in
//! a delete session (`…_session_d…$`), made when its author was an admin of the owning group.
//! Groups and accounts cannot be deleted, nor can CoValues that no group owns.
//!
//! Rule: `#isDeleteTransaction` and `#canAuthorDeleteCoValueAtTime` in `coValueCore.ts` of the
//! reference. As there, a delete session with one transaction that is not such a marker is an
//! ordinary session.

use downbeat_protocol::{CoValueId, Header, Owner, Ruleset, SessionId, Transaction};

use crate::changes;
use crate::roles::Role;

/// Why a CoValue is not deleted by what claims to delete it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// A delete session holds more than one transaction.
    #[error("a delete session must hold exactly one transaction")]
    NotAlone,
    /// The marker names another CoValue.
    #[error("the transaction deletes {0:?}")]
    OtherCoValue(String),
    /// Groups and accounts stay.
    #[error("groups and accounts cannot be deleted")]
    Group,
    /// No group owns the CoValue, so nobody may delete it.
    #[error("a CoValue that no group owns cannot be deleted")]
    NotOwned,
    /// The author was not an admin of the owning group at the time.
    #[error("its author was {} of the owning group", .0.map_or("no member", Role::as_str))]
    NotAdmin(Option<Role>),
    /// The author's role could not be found out.
    #[error("the author's role is not known")]
    RoleUnknown,
}

/// A well-formed claim that a CoValue is deleted, valid if its author may.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The group that owns the CoValue.
    pub group: CoValueId,
    /// Who deletes.
    pub author: Owner,
    /// When, in milliseconds since the Unix epoch.
    pub made_at: f64,
}

impl Claim {
    /// Decides with the role that the author had in the group at the time.
    pub fn decide(&self, role: Option<Role>) -> Result<(), DeleteError> {
        match role {
            Some(Role::Admin) => Ok(()),
            _ => Err(DeleteError::NotAdmin(role)),
        }
    }
}

/// The transaction that deletes a CoValue, to be put into a delete session of one of the owning
/// group's admins. `made_at` is in milliseconds since the Unix epoch.
pub fn transaction(id: CoValueId, made_at: u64) -> Transaction {
    Transaction::trusting("[]", made_at, Some(&format!(r#"{{"deleted":"{id}"}}"#)))
}

/// Checks new transactions of a session as far as they have to do with deletion.
///
/// `have` is the number of transactions that the session has before these. Returns the claim if
/// they delete the CoValue, and `None` if they are ordinary.
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

/// What a transaction says that it deletes.
fn marker(transaction: &Transaction) -> Option<Vec<u8>> {
    transaction.changes()?;
    let meta = transaction.meta()?;
    changes::text_member(&meta, b"deleted")
}

/// As much of an author's text as is safe to log.
fn quoted(text: &[u8]) -> String {
    /// An id has at most 30 bytes.
    const MAX_QUOTED_LEN: usize = 60;
    String::from_utf8_lossy(text.get(..MAX_QUOTED_LEN).unwrap_or(text)).into_owned()
}
