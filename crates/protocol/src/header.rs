//! CoValue headers: what a CoValue is, who may write it, and what makes its id unique.

use bytes::Bytes;

use crate::id::{AgentId, CoValueId, Owner};

/// How urgent the content of a CoValue is; lower goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// Accounts and groups: others cannot be read without them.
    High = 0,
    /// Everything else.
    #[default]
    Medium = 3,
    /// Binary streams: large, and nobody waits for them letter by letter.
    Low = 6,
}

/// Who may write to a CoValue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruleset {
    /// A group (or account), which keeps its own list of roles.
    Group {
        /// The first administrator. For an account: the agent that is the account.
        initial_admin: Owner,
    },
    /// Owned by a group, whose roles decide.
    OwnedByGroup {
        /// The owning group.
        group: CoValueId,
    },
    /// Anybody may write.
    UnsafeAllowAll,
}

/// A CoValue's header, with its canonical JSON, whose hash is the CoValue's id.
///
/// Clones share the bytes.
#[derive(Debug, Clone)]
pub struct Header {
    pub(crate) json: Bytes,
    pub(crate) co_type: Box<str>,
    pub(crate) ruleset: Ruleset,
    pub(crate) meta_type: Option<Box<str>>,
    pub(crate) source: Option<CoValueId>,
}

impl Header {
    /// The canonical JSON, as it is hashed, stored and sent.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The kind of CoValue: "comap", "colist", "coplaintext", "costream", …
    pub fn co_type(&self) -> &str {
        &self.co_type
    }

    /// Who may write.
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// `meta.type`, where there is one: "account", "binary", …
    pub fn meta_type(&self) -> Option<&str> {
        self.meta_type.as_deref()
    }

    /// `meta.source`: the CoValue that this one is a branch of.
    pub fn source(&self) -> Option<CoValueId> {
        self.source
    }

    /// Whether the CoValue is a group; accounts are groups as well.
    pub fn is_group(&self) -> bool {
        matches!(self.ruleset, Ruleset::Group { .. })
    }

    /// The agent that signs for this CoValue, if it is an account.
    pub fn account_agent(&self) -> Option<&AgentId> {
        match &self.ruleset {
            Ruleset::Group { initial_admin: Owner::Agent(agent) }
                if self.co_type() == "comap" && self.meta_type() == Some("account") =>
            {
                Some(agent)
            }
            _ => None,
        }
    }

    /// How urgent content of this CoValue is.
    pub fn priority(&self) -> Priority {
        if self.meta_type() == Some("account") || self.is_group() {
            Priority::High
        } else if self.co_type() == "costream" && self.meta_type() == Some("binary") {
            Priority::Low
        } else {
            Priority::Medium
        }
    }
}

/// Equal headers have equal canonical JSON, and the other way round.
impl PartialEq for Header {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Header {}
