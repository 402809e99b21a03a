//! The roles of the members of a group, at any time.
//!
//! A group is a CoMap. Its trusting transactions set the roles of members and name parent groups,
//! whose members inherit roles in the group. A transaction counts only if its author had the
//! right role at the time, in the group or through a parent. So the transactions are evaluated
//! once, in the order of their times, and the valid ones are kept with their times. After that
//! the role of any member at any time is a lookup in the group and its parents.
//!
//! An account is also a group, and always an admin of itself.
//!
//! ```
//! use downbeat_core::roles::{Group, Member, Role, Roles};
//! use downbeat_crypto::header_id;
//! use downbeat_protocol::{Header, Limits, SessionId, Transaction};
//!
//! let header = r#"{"meta":null,"ruleset":{"initialAdmin":"co_zA","type":"group"},"type":"comap","uniqueness":"z1"}"#;
//! let header = Header::parse(&header.into(), &Limits::default())?;
//! let session = SessionId::parse("co_zA_session_z1")?;
//! let transactions = [
//!     Transaction::trusting(r#"[{"key":"co_zA","op":"set","value":"admin"}]"#, 1000, None),
//!     Transaction::trusting(r#"[{"key":"co_zB","op":"set","value":"writer"}]"#, 2000, None),
//! ];
//!
//! let mut roles = Roles::new();
//! let group = header_id(&header);
//! roles.insert(Group::new(group, &header, [(&session, &transactions[..])]));
//! assert!(roles.missing().is_empty(), "there are no parent groups to load");
//!
//! let bob = Member::parse("co_zB")?;
//! assert_eq!(roles.role_of(group, &bob, Some(1999.0))?, None);
//! assert_eq!(roles.role_of(group, &bob, Some(2000.0))?, Some(Role::Writer));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rules
//!
//! The rules are those of `permissions.ts` and `coValues/group.ts` of the reference.
//! Transactions with equal times are ordered by the order of their sessions, and within a session
//! by the log. The reference uses the order in which it received them.
//!
//! The reference overflows its stack when it loads groups that name each other as parents, even at
//! different times. This module evaluates such groups together in the order of time, and ignores a
//! parent that has the group among its own ancestors at that time.
//!
//! Two kinds of groups that no client writes are evaluated differently from the reference. For
//! transactions with branch-merge or first-writer meta (`mi`, `fww`), the reference's result
//! depends on the number of earlier evaluations; this module ignores the meta. For a transaction
//! whose changes have no key, or an invalid parent id, the reference rejects the whole group; this
//! module ignores the transaction.

mod evaluation;
mod family;
mod group;
mod history;

use std::collections::BTreeMap;
use std::fmt;

use downbeat_protocol::{CoValueId, InvalidId, Owner};

pub use self::family::{FamilyLoader, MAX_GROUPS};
pub use self::group::Group;
use self::history::History;

/// The role of a member: what it may do in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads, writes, and changes all roles except those of other admins.
    Admin,
    /// Reads, writes, and changes the roles of all members except admins.
    Manager,
    /// Reads and writes.
    Writer,
    /// Reads.
    Reader,
    /// Writes, and reads its own content.
    WriteOnly,
    /// Has lost its role.
    Revoked,
    /// An invitation: the holder of its secret can become an admin.
    AdminInvite,
    /// An invitation: the holder of its secret can become a manager.
    ManagerInvite,
    /// An invitation: the holder of its secret can become a writer.
    WriterInvite,
    /// An invitation: the holder of its secret can become a reader.
    ReaderInvite,
    /// An invitation: the holder of its secret can become a write-only member.
    WriteOnlyInvite,
}

impl Role {
    const ALL: [Self; 11] = [
        Self::Admin,
        Self::Manager,
        Self::Writer,
        Self::Reader,
        Self::WriteOnly,
        Self::Revoked,
        Self::AdminInvite,
        Self::ManagerInvite,
        Self::WriterInvite,
        Self::ReaderInvite,
        Self::WriteOnlyInvite,
    ];

    /// The name of the role in a group's transactions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::WriteOnly => "writeOnly",
            Self::Revoked => "revoked",
            Self::AdminInvite => "adminInvite",
            Self::ManagerInvite => "managerInvite",
            Self::WriterInvite => "writerInvite",
            Self::ReaderInvite => "readerInvite",
            Self::WriteOnlyInvite => "writeOnlyInvite",
        }
    }

    /// Parses the name of a role in a group's transactions.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// `everyone`: all accounts and agents without a role of their own.
    Everyone,
    /// An account or an agent. An invitation is an agent.
    Owner(Owner),
}

impl Member {
    const EVERYONE: &str = "everyone";

    /// Parses an account's id, an agent's id or `everyone`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text == Self::EVERYONE {
            Ok(Self::Everyone)
        } else {
            Owner::parse(text).map(Self::Owner)
        }
    }

    /// The key of the member in a group.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Everyone => Self::EVERYONE,
            Self::Owner(owner) => owner.as_str(),
        }
    }
}

impl From<Owner> for Member {
    fn from(owner: Owner) -> Self {
        Self::Owner(owner)
    }
}

/// A group is missing that a role depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the group {0} is unknown")]
pub struct UnknownGroup(
    /// The group, or one of its ancestors.
    pub CoValueId,
);

/// A set of groups that computes the roles of their members.
///
/// Insert a group and its ancestors ([`Self::insert`], [`Self::missing`]), then query roles
/// ([`Self::role_of`]).
#[derive(Debug, Clone, Default)]
pub struct Roles {
    groups: BTreeMap<CoValueId, Group>,
    /// The valid transactions of the groups that have been evaluated.
    histories: BTreeMap<CoValueId, History>,
}

impl Roles {
    /// An empty set.
    pub const fn new() -> Self {
        Self { groups: BTreeMap::new(), histories: BTreeMap::new() }
    }

    /// Adds a group, or replaces it with a newer state.
    pub fn insert(&mut self, group: Group) {
        // Other groups may have been evaluated with the old state.
        if self.groups.insert(group.id(), group).is_some() {
            self.histories.clear();
        }
    }

    /// The missing parents of the groups in this set, each once. Some may turn out unnecessary,
    /// because the author of a transaction may not have the right to name a parent.
    pub fn missing(&self) -> Vec<CoValueId> {
        let mut missing: Vec<_> = self
            .groups
            .values()
            .flat_map(Group::parents)
            .filter(|parent| !self.groups.contains_key(parent))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// The role of a member of a group at a time in milliseconds since the Unix epoch. `None` is
    /// the time after all known transactions.
    ///
    /// A CoValue that is not a group has no members. [`Role::Revoked`] is never returned: a revoked
    /// member has the role of everyone, a role from a parent, or no role.
    ///
    /// The first query of a group evaluates its transactions and those of its ancestors; further
    /// queries are lookups. Fails if a valid parent is missing.
    pub fn role_of(
        &mut self,
        group: CoValueId,
        member: &Member,
        at: Option<f64>,
    ) -> Result<Option<Role>, UnknownGroup> {
        evaluation::evaluate(&self.groups, &mut self.histories, group)?;
        Ok(history::role_at(&self.histories, group, member.as_str(), at))
    }
}
