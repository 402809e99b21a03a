//! Who has which role in a group, at any point in time.
//!
//! A group is a CoMap whose trusting transactions set roles of members, and name parent groups
//! whose members have a role here as well. Which transactions count depends on the role that
//! their author had at the time, here or through a parent; so the transactions are gone through
//! once, in the order of their times, and what counts is kept with its time. Then any role at any
//! time is a look-up, here and in the parents.
//!
//! An account is a group as well, in which the account itself is always an admin.
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
//! assert!(roles.missing().is_empty(), "no parent groups to load");
//!
//! let bob = Member::parse("co_zB")?;
//! assert_eq!(roles.role_of(group, &bob, Some(1999.0))?, None);
//! assert_eq!(roles.role_of(group, &bob, Some(2000.0))?, Some(Role::Writer));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rules
//!
//! Those of `permissions.ts` and `coValues/group.ts` of the reference. Where two transactions
//! have the same time, the order of their sessions decides, and within a session that of the log;
//! the reference goes by the order in which it received them.
//!
//! The reference overflows its stack when it loads groups that name each other as parents, be it
//! at different times. Here such groups are gone through together in the order of time, and a
//! parent that has the group among its own parents at that moment does not count.
//!
//! Of groups that no client writes, two kinds are not read as the reference reads them: its
//! reading of transactions with branch-merge or first-writer meta (`mi`, `fww`) depends on how
//! often it has looked, and it gives up on a whole group for the sake of one transaction whose
//! changes have no key, or whose parent's id is none. Here such meta means nothing, and such a
//! transaction does not count.

mod evaluation;
mod group;
mod history;

use std::collections::BTreeMap;
use std::fmt;

use downbeat_protocol::{CoValueId, InvalidId, Owner};

pub use self::group::Group;
use self::history::History;

/// What a member may do in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Read, write, and change all roles except those of other admins.
    Admin,
    /// Read, write, and change the roles of all but admins.
    Manager,
    /// Read and write.
    Writer,
    /// Read.
    Reader,
    /// Write, and read what oneself has written.
    WriteOnly,
    /// Nothing any more.
    Revoked,
    /// Whoever has the secret of this member can make themselves an admin.
    AdminInvite,
    /// Whoever has the secret of this member can make themselves a manager.
    ManagerInvite,
    /// Whoever has the secret of this member can make themselves a writer.
    WriterInvite,
    /// Whoever has the secret of this member can make themselves a reader.
    ReaderInvite,
    /// Whoever has the secret of this member can make themselves a write-only member.
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

    /// The role as it stands in a group's transactions.
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

    /// Reads a role as it stands in a group's transactions.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose role is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// What holds for those who have no role of their own.
    Everyone,
    /// An account or an agent. Invites are agents.
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

    /// The member as it stands as a key in a group.
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

/// A group whose transactions would have to be known to tell a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the group {0} is not known")]
pub struct UnknownGroup(
    /// The group, or a parent of it.
    pub CoValueId,
);

/// Groups, with the roles of their members at all times.
///
/// Put in a group and its parents ([`Self::insert`], [`Self::missing`]), then ask
/// ([`Self::role_of`]).
#[derive(Debug, Clone, Default)]
pub struct Roles {
    groups: BTreeMap<CoValueId, Group>,
    /// Of the groups that have been gone through, what counts.
    histories: BTreeMap<CoValueId, History>,
}

impl Roles {
    /// No groups yet.
    pub const fn new() -> Self {
        Self { groups: BTreeMap::new(), histories: BTreeMap::new() }
    }

    /// Adds a group, or replaces it with a newer state of it.
    pub fn insert(&mut self, group: Group) {
        // What has been found out may rest on the old state.
        if self.groups.insert(group.id(), group).is_some() {
            self.histories.clear();
        }
    }

    /// The parents that the groups here name and that are not here, each once. They may not be
    /// needed after all, as not everyone who names a parent may.
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

    /// The role of a member of a group at a time in milliseconds since the Unix epoch, or for
    /// `None` after everything that is known.
    ///
    /// Nobody has a role in a CoValue that is not a group. [`Role::Revoked`] is not returned:
    /// whoever is revoked has the role of everyone, or that of a parent, or none.
    ///
    /// The first question about a group goes through its transactions and those of its parents;
    /// others are look-ups. Fails if a parent that counts is not here.
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
