//! The transactions of a group that affect roles.

use std::sync::Arc;

use downbeat_protocol::{CoValueId, Header, Ruleset, SessionId, Transaction};

use super::{Member, Role};
use crate::changes::{Change, Value};
use crate::dependencies::PARENT_PREFIX;

/// The transactions of a group or account that affect roles. Any other CoValue makes a group
/// without members and parents.
#[derive(Debug, Clone)]
pub struct Group {
    pub(super) id: CoValueId,
    pub(super) kind: Kind,
    pub(super) initial_admin: Arc<str>,
    /// In the order of their times.
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
    /// Adds or revokes a parent group.
    Parent { parent: CoValueId, mapping: Mapping },
}

/// The role that a parent's members inherit in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    /// Their role in the parent.
    Extend,
    /// None: the parent is revoked.
    Revoked,
    /// This role.
    Role(Role),
    /// A value without a meaning. It gives no role, but takes precedence over lesser roles.
    Unknown,
    /// The change has no value.
    Absent,
}

impl Group {
    /// Reads the transactions of a CoValue's sessions. Transactions with equal times are ordered
    /// like their sessions in `sessions`.
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
            // Stable: equal times keep the order of sessions and logs.
            steps.sort_by(|a, b| a.made_at.total_cmp(&b.made_at));
        }
        Self { id, kind, initial_admin, steps }
    }

    /// The CoValue's id.
    pub fn id(&self) -> CoValueId {
        self.id
    }

    /// The groups that transactions name as parents, valid or not.
    pub fn parents(&self) -> impl Iterator<Item = CoValueId> {
        self.steps.iter().filter_map(|step| match step.effect {
            Effect::Parent { parent, .. } => Some(parent),
            Effect::Role { .. } => None,
        })
    }

    /// The members that transactions give a role, valid or not. A member may appear several times.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.steps.iter().filter_map(|step| match &step.effect {
            Effect::Role { member, .. } => Member::parse(member).ok(),
            Effect::Parent { .. } => None,
        })
    }
}

impl Effect {
    /// The effect of a transaction on roles, if its author has the right. Only a transaction with
    /// exactly one `set` change has an effect.
    fn of(transaction: &Transaction) -> Option<Self> {
        let changes = transaction.changes()?;
        let mut changes = Change::parse_all(&changes)?;
        let change = changes.next().filter(|_| changes.len() == 0)?;
        let key = change.set_key()?;
        if let Some(parent) = key.strip_prefix(PARENT_PREFIX) {
            let parent = CoValueId::parse(parent).ok()?;
            return Some(Self::Parent { parent, mapping: Mapping::of(&change) });
        }
        // Other keys do not affect roles.
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
