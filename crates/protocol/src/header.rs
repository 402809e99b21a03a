//! CoValue headers: what a CoValue is, who may write it, and what makes its id unique.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::DecodeError;
use crate::header_builder::HeaderBuilder;
use crate::id::{AgentId, CoValueId, Owner};
use crate::json;
use crate::limits::Limits;

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

/// A CoValue's header, with its canonical JSON and the text whose hash is the CoValue's id.
///
/// Clones share everything.
#[derive(Debug, Clone)]
pub struct Header(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    json: Bytes,
    hashed_json: Bytes,
    co_type: Box<str>,
    ruleset: Ruleset,
    restricts_deletion: bool,
    meta_type: Option<Box<str>>,
    source: Option<CoValueId>,
}

impl Header {
    /// Reads a header from its JSON and makes it canonical.
    ///
    /// What is accepted is decided by the reference's native core, which gets the header after
    /// JavaScript has read and written it:
    ///
    /// - `type` is any string.
    /// - `ruleset` has the `type` "group" with `initialAdmin` (an account or an agent),
    ///   "ownedByGroup" with `group` and perhaps `restrictDeletion` (`null` is dropped), or
    ///   "unsafeAllowAll".
    /// - `meta` is any value, usually `null` or an object; without it, it is `null`.
    /// - `createdAt` is absent, `null` or a string.
    /// - `uniqueness` is a string, `true`, `false`, `null`, an integer of 64 bits, or an object of
    ///   strings whose names are not empty.
    /// - Other members are dropped, so that such a header does not match an id made from them.
    /// - Strings may hold anything but half a surrogate pair.
    ///
    /// Where this differs from the native core: ids must be ids, also in `meta.source` (it takes
    /// any string, and then waits for a CoValue that cannot be), rulesets must be objects (it takes
    /// arrays as well), and `uniqueness` may be absent, as the protocol has it.
    pub fn parse(json: &Bytes, limits: &Limits) -> Result<Self, DecodeError> {
        json::header::parse(json::canonical::check_text(json, limits)?, limits)
    }

    /// Starts the header of a new CoValue, with its type ("comap", "colist", …) and its ruleset.
    pub fn builder(co_type: &str, ruleset: Ruleset) -> HeaderBuilder {
        HeaderBuilder::new(co_type, ruleset)
    }

    /// The header of an agent's account. It holds nothing but the agent, so an agent has exactly
    /// one account.
    pub fn account(agent: &AgentId) -> Self {
        Self::builder("comap", Ruleset::Group { initial_admin: Owner::Agent(agent.clone()) })
            .meta(r#"{"type":"account"}"#)
            .deterministic()
            .build()
            .expect("an account's header is valid for every agent and needs no random bytes")
    }

    pub(crate) fn new(
        json: Bytes,
        hashed_json: Bytes,
        co_type: &str,
        ruleset: Ruleset,
        restricts_deletion: bool,
        meta_type: Option<&str>,
        source: Option<CoValueId>,
    ) -> Self {
        Self(Arc::new(Parts {
            json,
            hashed_json,
            co_type: co_type.into(),
            ruleset,
            restricts_deletion,
            meta_type: meta_type.map(Into::into),
            source,
        }))
    }

    /// The canonical JSON, as it is stored and sent.
    pub fn json(&self) -> &Bytes {
        &self.0.json
    }

    /// The JSON whose hash is the CoValue's id, as the reference's native core writes it.
    ///
    /// It is the same as [`Self::json`] for every header that clients make. It differs in what the
    /// native core does otherwise than JavaScript, which is in the meta or an object as
    /// uniqueness: it sorts names by code points and not by halves of surrogate pairs, prints
    /// integers beyond 64 bits and fractions below 1e-5 with another exponent, and does not read
    /// fractions quite exactly. It cannot take the place of the other, because reading it would
    /// give other numbers again.
    pub fn hashed_json(&self) -> &Bytes {
        &self.0.hashed_json
    }

    /// The kind of CoValue: "comap", "colist", "coplaintext", "costream", …
    pub fn co_type(&self) -> &str {
        &self.0.co_type
    }

    /// Who may write.
    pub fn ruleset(&self) -> &Ruleset {
        &self.0.ruleset
    }

    /// Whether only some roles of the owning group may delete items
    /// (`ruleset.restrictDeletion` is `true`).
    pub fn restricts_deletion(&self) -> bool {
        self.0.restricts_deletion
    }

    /// `meta.type`, where there is one: "account", "binary", …
    pub fn meta_type(&self) -> Option<&str> {
        self.0.meta_type.as_deref()
    }

    /// `meta.source`: the CoValue that this one is a branch of.
    pub fn source(&self) -> Option<CoValueId> {
        self.0.source
    }

    /// Whether the CoValue is a group; accounts are groups as well.
    pub fn is_group(&self) -> bool {
        matches!(self.ruleset(), Ruleset::Group { .. })
    }

    /// The agent that signs for this CoValue, if it is an account.
    pub fn account_agent(&self) -> Option<&AgentId> {
        match self.ruleset() {
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
        self.json() == other.json()
    }
}

impl Eq for Header {}
