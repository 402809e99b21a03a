//! CoValue headers: the type, the access rules, and the uniqueness of the id.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::DecodeError;
use crate::header_builder::HeaderBuilder;
use crate::id::{AgentId, CoValueId, Owner};
use crate::json;
use crate::limits::Limits;

/// The priority of a CoValue's content. Lower values are sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// Accounts and groups, which are needed to read other CoValues.
    High = 0,
    /// All other CoValues.
    #[default]
    Medium = 3,
    /// Binary streams, which are large and not edited interactively.
    Low = 6,
}

/// The access rules of a CoValue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruleset {
    /// A group or account, which keeps its own list of roles.
    Group {
        /// The first admin. In an account: the agent of the account.
        initial_admin: Owner,
    },
    /// A CoValue owned by a group, whose roles apply.
    OwnedByGroup {
        /// The owning group.
        group: CoValueId,
    },
    /// Every account and agent may write.
    UnsafeAllowAll,
}

/// The header of a CoValue, with its canonical JSON. The id of the CoValue is a hash of the header.
///
/// Clones share all data.
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
    /// Parses the JSON of a header, and rewrites it canonically.
    ///
    /// The rules are those of the reference's native core, which receives a header after JavaScript
    /// has parsed and printed it:
    ///
    /// - `type` is any string.
    /// - `ruleset` has the `type` "group" with `initialAdmin` (an account or an agent),
    ///   "ownedByGroup" with `group` and optionally `restrictDeletion` (`null` is dropped), or
    ///   "unsafeAllowAll".
    /// - `meta` is any value, usually `null` or an object. If it is absent, it becomes `null`.
    /// - `createdAt` is absent, `null` or a string.
    /// - `uniqueness` is a string, `true`, `false`, `null`, an integer of 64 bits, or an object of
    ///   strings whose names are not empty.
    /// - Other members are dropped, so the header does not match an id that was made with them.
    /// - Strings may hold any text without lone surrogates.
    ///
    /// There are three differences from the native core. Ids must be valid, also in `meta.source`,
    /// where it accepts any string and then waits for a CoValue that cannot exist. Rulesets must be
    /// objects, where it accepts arrays. And `uniqueness` may be absent, as in the protocol.
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

    /// The canonical JSON, which is stored and sent.
    pub fn json(&self) -> &Bytes {
        &self.0.json
    }

    /// The JSON whose hash is the CoValue's id, as the reference's native core prints it.
    ///
    /// For every header that clients make, it equals [`Self::json`]. It can differ if the meta or
    /// the uniqueness is an object, because the native core differs from JavaScript: it sorts names
    /// by code points and not by UTF-16 code units, prints integers beyond 64 bits and fractions
    /// below 1e-5 with another exponent, and rounds some fractions when it reads them. It cannot
    /// replace [`Self::json`], because parsing it could change numbers again.
    pub fn hashed_json(&self) -> &Bytes {
        &self.0.hashed_json
    }

    /// The type of the CoValue: "comap", "colist", "coplaintext", "costream", …
    pub fn co_type(&self) -> &str {
        &self.0.co_type
    }

    /// The access rules.
    pub fn ruleset(&self) -> &Ruleset {
        &self.0.ruleset
    }

    /// Whether `ruleset.restrictDeletion` is `true`: only some roles of the owning group may delete
    /// items.
    pub fn restricts_deletion(&self) -> bool {
        self.0.restricts_deletion
    }

    /// `meta.type`, if present: "account", "binary", …
    pub fn meta_type(&self) -> Option<&str> {
        self.0.meta_type.as_deref()
    }

    /// `meta.source`: the CoValue that this one is a branch of.
    pub fn source(&self) -> Option<CoValueId> {
        self.0.source
    }

    /// Whether the CoValue is a group. Accounts are groups, too.
    pub fn is_group(&self) -> bool {
        matches!(self.ruleset(), Ruleset::Group { .. })
    }

    /// The agent of the account, if the CoValue is an account.
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

    /// The priority of the CoValue's content.
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

/// Headers are equal exactly if their canonical JSON is equal.
impl PartialEq for Header {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Eq for Header {}
