//! Identifiers: parsed once at the edge, cheap to copy, compare and hash afterwards.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use crate::invalid_id::InvalidId;
use crate::key::{SHORT_HASH_LEN, SealerId, SignerId};
use crate::text::{InlineText, ShortText, is_base58};

/// A short hash has at most 26 base58 digits (19 * 8 / log2(58), rounded up).
const MAX_SHORT_HASH_DIGITS: usize = 26;

/// The length of the longest accepted session id, in bytes. The longest ids that clients make,
/// those of agents, have about 130 bytes.
pub const MAX_SESSION_ID_LEN: usize = 256;

/// Room for the id of an account's session. Its random part encodes 8 bytes, which have at most 11
/// base58 digits. Rounded up to the size that the allocator returns anyway.
const ACCOUNT_SESSION_LEN: usize = 54;

const CO_VALUE_PREFIX: &str = "co_z";
const SESSION_SEPARATOR: &str = "_session_";

/// The length of the longest [`UnknownId`], in bytes.
const MAX_UNKNOWN_ID_LEN: usize = 1_024;

/// The id of a CoValue: `co_z` and up to 26 base58 digits. The digits of an existing CoValue encode
/// the first 19 bytes of the BLAKE3 hash of its canonical header.
///
/// Other base58 digits are accepted, too. Such an id names a CoValue that cannot exist, so peers
/// treat it like any other missing CoValue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoValueId(InlineText<{ CO_VALUE_PREFIX.len() + MAX_SHORT_HASH_DIGITS }>);

impl CoValueId {
    pub(crate) const PREFIX: &str = CO_VALUE_PREFIX;

    /// Parses `co_z…`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        text.strip_prefix(CO_VALUE_PREFIX)
            .filter(|digits| !digits.is_empty() && is_base58(digits))
            .and_then(|_| InlineText::new(text))
            .map(Self)
            .ok_or_else(|| InvalidId::new(text, "a CoValue id (co_z…)"))
    }

    pub(crate) fn from_digits(digits: &str) -> Result<Self, InvalidId> {
        Self::parse(&[CO_VALUE_PREFIX, digits].concat())
    }

    /// The digits after `co_z`.
    pub(crate) fn digits(&self) -> &str {
        self.as_str().get(CO_VALUE_PREFIX.len()..).unwrap_or_default()
    }

    /// The id for a header's hash: `co_z` and its base58 digits.
    pub fn from_short_hash(hash: &[u8; SHORT_HASH_LEN]) -> Self {
        let text = format!("{CO_VALUE_PREFIX}{}", bs58::encode(hash).into_string());
        Self(InlineText::new(&text).expect("19 bytes have at most 26 base58 digits"))
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A text in the place of a CoValue id that is not a valid id: mistyped, cut off, or any other
/// text. An application may take such a text from a URL, and waits for an answer that repeats the
/// text.
///
/// It has at most 1,024 bytes, and is never the text of a [`CoValueId`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnknownId(Box<str>);

impl UnknownId {
    /// Wraps a text. Returns `None` if the text is a valid CoValue id or too long.
    pub fn new(text: &str) -> Option<Self> {
        let fits = text.len() <= MAX_UNKNOWN_ID_LEN && CoValueId::parse(text).is_err();
        fits.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An agent: a pair of public keys, `sealer_z…/signer_z…`.
///
/// Clones share everything.
#[derive(Clone)]
pub struct AgentId(Arc<AgentParts>);

struct AgentParts {
    text: Box<str>,
    sealer: SealerId,
    signer: SignerId,
}

impl AgentId {
    /// Parses `sealer_z…/signer_z…`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        Self::parse_opt(text)
            .ok_or_else(|| InvalidId::new(text, "an agent id (sealer_z…/signer_z…)"))
    }

    /// The agent with these two keys.
    pub fn new(sealer: SealerId, signer: SignerId) -> Self {
        Self(Arc::new(AgentParts { text: format!("{sealer}/{signer}").into(), sealer, signer }))
    }

    fn parse_opt(text: &str) -> Option<Self> {
        let (sealer, signer) = text.split_once('/')?;
        let (sealer, signer) = (SealerId::parse(sealer).ok()?, SignerId::parse(signer).ok()?);
        Some(Self(Arc::new(AgentParts { text: text.into(), sealer, signer })))
    }

    /// The key that verifies the agent's signatures.
    pub fn signer(&self) -> SignerId {
        self.0.signer
    }

    /// The key that others use to seal messages for the agent.
    pub fn sealer(&self) -> SealerId {
        self.0.sealer
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.text.as_bytes()
    }
}

/// The writer of a session or the first admin of a group: an account or an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// An account: a CoValue whose header names the agent that signs.
    Account(CoValueId),
    /// An agent that acts without an account.
    Agent(AgentId),
}

impl Owner {
    /// Parses a CoValue id or an agent id.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.starts_with(CO_VALUE_PREFIX) {
            CoValueId::parse(text).map(Self::Account)
        } else {
            AgentId::parse(text).map(Self::Agent)
        }
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Account(id) => id.as_str(),
            Self::Agent(id) => id.as_str(),
        }
    }
}

/// The id of a session: its owner, `_session_`, and a random part. The random part is `z…`, or
/// `d…$` for a session that deletes its CoValue.
///
/// Clones share the text, and a value is one pointer, because a server holds very many.
#[derive(Clone)]
pub struct SessionId(Arc<SessionParts>);

struct SessionParts {
    text: ShortText<ACCOUNT_SESSION_LEN>,
    owner: Owner,
}

impl SessionId {
    pub(crate) const SEPARATOR: &str = SESSION_SEPARATOR;

    /// Parses `<account id or agent id>_session_<random part>`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        Self::parse_opt(text)
            .ok_or_else(|| InvalidId::new(text, "a session id (<owner>_session_z…)"))
    }

    fn parse_opt(text: &str) -> Option<Self> {
        if text.len() > MAX_SESSION_ID_LEN {
            return None;
        }
        // No base58 digit is an underscore, so the last one belongs to the separator.
        let (owner, random) = text.rsplit_once('_')?;
        let owner = owner.strip_suffix(SESSION_SEPARATOR.trim_end_matches('_'))?;
        let digits = match random.strip_prefix('d') {
            Some(rest) => rest.strip_suffix('$')?,
            None => random.strip_prefix('z')?,
        };
        if digits.is_empty() || !is_base58(digits) {
            return None;
        }
        let owner = Owner::parse(owner).ok()?;
        Some(Self(Arc::new(SessionParts { text: ShortText::new(text), owner })))
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        self.0.text.as_str()
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.text.as_bytes()
    }

    /// The random part, without the letter before it and the `$` of a delete session.
    pub(crate) fn random_digits(&self) -> &str {
        let start = self.owner().as_str().len() + SESSION_SEPARATOR.len() + 1;
        self.as_str().get(start..).unwrap_or_default().trim_end_matches('$')
    }

    /// The owner, who writes the session.
    pub fn owner(&self) -> &Owner {
        &self.0.owner
    }

    /// The account that owns the session, or `None` if an agent owns it.
    pub fn account(&self) -> Option<CoValueId> {
        match self.0.owner {
            Owner::Account(id) => Some(id),
            Owner::Agent(_) => None,
        }
    }

    /// Whether this is a delete session, which holds only the transaction that deletes its CoValue.
    pub fn is_delete(&self) -> bool {
        self.as_bytes().ends_with(b"$")
    }
}

/// Parsing and printing for an id type with a text.
macro_rules! text_id {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $type {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
    };
}
text_id!(CoValueId);
text_id!(AgentId);
text_id!(SessionId);

impl FromStr for Owner {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::parse(text)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Equality, order and hash of a shared text. Pointers are compared first, because most compared
/// ids are clones of each other.
macro_rules! shared_text_order {
    ($type:ident) => {
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.as_bytes() == other.as_bytes()
            }
        }
        impl Eq for $type {}
        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $type {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                if Arc::ptr_eq(&self.0, &other.0) {
                    std::cmp::Ordering::Equal
                } else {
                    self.as_bytes().cmp(other.as_bytes())
                }
            }
        }
        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write(self.as_bytes());
            }
        }
    };
}
shared_text_order!(AgentId);
shared_text_order!(SessionId);

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "co_znKg8yzFP9wzcTyoJZXk5kgY77V";
    const AGENT: &str = "sealer_zAXww9Gs6BT1XdaypAyZieTyenP6DbCb7LHnw1ySAqvSu/signer_zA1aoF664yhsrJiFNm7yy8Rg6M1Rkhjcz5fc9u7ARUcB1";

    #[test]
    fn a_covalue_id_keeps_its_text() {
        assert_eq!(CoValueId::parse(ACCOUNT).unwrap().as_str(), ACCOUNT);
    }

    #[test]
    fn a_covalue_id_needs_its_prefix_and_base58_digits_of_bounded_number() {
        for bad in
            ["", "co_z", "co_y1", "co_z0", "co_zl", "co_z a", &format!("co_z{}", "1".repeat(27))]
        {
            assert!(CoValueId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_session_id_tells_its_owner() {
        let by_account = SessionId::parse(&format!("{ACCOUNT}_session_zD6QQV4RY9PV")).unwrap();
        assert_eq!(by_account.account(), Some(CoValueId::parse(ACCOUNT).unwrap()));
        assert!(!by_account.is_delete());

        let by_agent = SessionId::parse(&format!("{AGENT}_session_zD6QQV4RY9PV")).unwrap();
        assert_eq!(by_agent.owner(), &Owner::Agent(AgentId::parse(AGENT).unwrap()));
        assert_eq!(by_agent.account(), None);
    }

    #[test]
    fn a_delete_session_ends_with_a_dollar_sign() {
        assert!(SessionId::parse(&format!("{ACCOUNT}_session_dD6QQV4R$")).unwrap().is_delete());
        for bad in ["_session_dD6QQV4R", "_session_zD6QQV4R$", "_session_d$", "_session_z"] {
            assert!(SessionId::parse(&format!("{ACCOUNT}{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_quoted_bad_id_is_cut_at_a_character() {
        let error = CoValueId::parse(&"é".repeat(200)).unwrap_err();
        assert_eq!(error.text, "é".repeat(40));
    }
}
