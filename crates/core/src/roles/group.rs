//! A group's transactions, as far as they have to do with roles.

use std::sync::Arc;

use downbeat_protocol::{CoValueId, Header, Ruleset, SessionId, Transaction};

use super::{Member, Role};
use crate::changes::{Change, Value};
use crate::dependencies::PARENT_PREFIX;

/// A group or account, as far as roles depend on it. A CoValue that is neither is a group in
/// which nobody has a role, and no parent.
#[derive(Debug, Clone)]
pub struct Group {
    pub(super) id: CoValueId,
    pub(super) kind: Kind,
    pub(super) initial_admin: Arc<str>,
    /// In the order of time.
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Group,
    Account,
    Neither,
}

/// A transaction that may change roles.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) made_at: f64,
    pub(super) author: Arc<str>,
    pub(super) effect: Effect,
}

#[derive(Debug, Clone)]
pub(super) enum Effect {
    /// Gives a role to a member.
    Role { member: Arc<str>, role: Role },
    /// Makes a group a parent, or revokes that.
    Parent { parent: CoValueId, mapping: Mapping },
}

/// Which role a parent's members have in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    /// The one that they have in the parent.
    Extend,
    /// None: the group is no parent any more.
    Revoked,
    /// This one.
    Role(Role),
    /// Something that means nothing. It still stands between authors and lesser roles.
    Unknown,
    /// The change has no value.
    Absent,
}

impl Group {
    /// Reads a CoValue's sessions with their transactions. Of two transactions of the same time
    /// in different sessions, that of the session named first is held to be the earlier.
    pub fn new<'a>(
        id: CoValueId,
        header: &Header,
        sessions: impl IntoIterator<Item = (&'a SessionId, &'a [Transaction])>,
    ) -> Self {
        let (kind, initial_admin) = match header.ruleset() {
            Ruleset::Group { initial_admin } if header.co_type() == "comap" => {
                let is_account = header.meta_type() == Some("account");
                let kind = if is_account { Kind::Account } else { Kind::Group };
                (kind, initial_admin.as_str().into())
            }
            _ => (Kind::Neither, Arc::default()),
        };
        let mut steps = Vec::new();
        if kind != Kind::Neither {
            for (session, transactions) in sessions {
                let author: Arc<str> = session.owner().as_str().into();
                steps.extend(transactions.iter().filter_map(|transaction| {
                    let effect = Effect::of(transaction)?;
                    Some(Step { made_at: transaction.made_at(), author: author.clone(), effect })
                }));
            }
            // Stable, which keeps the order of sessions and logs where times are equal.
            steps.sort_by(|a, b| a.made_at.total_cmp(&b.made_at));
        }
        Self { id, kind, initial_admin, steps }
    }

    /// The CoValue's id.
    pub fn id(&self) -> CoValueId {
        self.id
    }

    /// The groups that transactions name as parents, whether they may or not.
    pub fn parents(&self) -> impl Iterator<Item = CoValueId> {
        self.steps.iter().filter_map(|step| match step.effect {
            Effect::Parent { parent, .. } => Some(parent),
            Effect::Role { .. } => None,
        })
    }

    /// Those to whom transactions give a role, whether they may or not, each as often as that
    /// happens.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.steps.iter().filter_map(|step| match &step.effect {
            Effect::Role { member, .. } => Member::parse(member).ok(),
            Effect::Parent { .. } => None,
        })
    }
}

impl Effect {
    /// What a transaction would do to roles, if its author may. Only a transaction of exactly one
    /// change that sets something counts in a group.
    fn of(transaction: &Transaction) -> Option<Self> {
        let changes = transaction.changes()?;
        let [change] = <[Change<'_>; 1]>::try_from(Change::parse_all(&changes)?).ok()?;
        let key = change.set_key()?;
        if let Some(parent) = key.strip_prefix(PARENT_PREFIX) {
            let parent = CoValueId::parse(parent).ok()?;
            return Some(Self::Parent { parent, mapping: Mapping::of(&change) });
        }
        // All other keys may be set to whatever their authors like.
        Member::parse(key).ok()?;
        let role = Role::parse(change.value().as_text()?)?;
        let is_possible = key != Member::EVERYONE
            || matches!(role, Role::Reader | Role::Writer | Role::WriteOnly | Role::Revoked);
        is_possible.then(|| Self::Role { member: key.into(), role })
    }
}

impl Mapping {
    fn of(change: &Change<'_>) -> Self {
        match change.value() {
            Value::Absent => Self::Absent,
            value => match value.as_text() {
                Some("extend") => Self::Extend,
                Some("revoked") => Self::Revoked,
                text => text.and_then(Role::parse).map_or(Self::Unknown, Self::Role),
            },
        }
    }
}
