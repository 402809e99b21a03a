//! The peer at the other end of a connection.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The facts about a peer that are known once its connection is established.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The address for logs: `203.0.113.7:51234`, or the name of the server that we connected to.
    /// It never contains a key. Behind a trusted proxy it is the client's address from the proxy's
    /// header, without a port.
    pub address: String,
    /// The address for limits; `None` if we connected, or if the peer is in the same process.
    pub remote: Option<IpAddr>,
    /// The peer's own name, if the transport carries one. Not verified: a peer can choose any name.
    pub name: Option<Arc<str>>,
    /// The name of the peer's key, from [`Admission`](crate::Admission).
    pub label: Option<Arc<str>>,
    /// The API key that the peer sent, if any.
    pub key: Option<ApiKey>,
}

impl PeerInfo {
    /// A peer at this address, without a key.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), remote: None, name: None, label: None, key: None }
    }

    /// Sets the remote address.
    #[must_use]
    pub fn with_remote(mut self, remote: IpAddr) -> Self {
        self.remote = Some(remote);
        self
    }

    /// Sets the peer's own name.
    #[must_use]
    pub fn with_name(mut self, name: Option<Arc<str>>) -> Self {
        self.name = name;
        self
    }

    /// Sets the name of the peer's key.
    #[must_use]
    pub fn with_label(mut self, label: Option<Arc<str>>) -> Self {
        self.label = label;
        self
    }

    /// Sets the API key.
    #[must_use]
    pub fn with_key(mut self, key: Option<ApiKey>) -> Self {
        self.key = key;
        self
    }
}

/// A client's API key. It may be a secret, so `Debug` and log lines do not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key as the client sent it.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The first `key` of a URL's query (the part after the `?`), percent-decoded. A `+` stays a
    /// `+`: keys are often mail addresses that an application writes into its URL unescaped.
    pub fn from_query(query: &str) -> Result<Option<Self>, InvalidApiKey> {
        let mut members = query.split('&').filter_map(|member| member.strip_prefix("key="));
        members.next().map(|key| percent_decode(key).map(Self::new)).transpose()
    }

    /// The key itself, for hashing or comparing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// A key in a URL that is not valid. The text does not repeat the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key is not percent-encoded UTF-8")]
pub struct InvalidApiKey;

fn percent_decode(text: &str) -> Result<String, InvalidApiKey> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    decoded.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(InvalidApiKey)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(InvalidApiKey);
        }
        decoded.push(u8::from_str_radix(digits, 16).map_err(|_| InvalidApiKey)?);
        decoded.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(decoded).map_err(|_| InvalidApiKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_among_other_members_and_decoded() {
        let key = |query| ApiKey::from_query(query).unwrap().map(|key| key.expose().to_owned());
        assert_eq!(key("key=you@example.com").as_deref(), Some("you@example.com"));
        assert_eq!(key("a=b&key=a%20b%2Bc+d&key=other").as_deref(), Some("a b+c+d"));
        assert_eq!(key("key=").as_deref(), Some(""));
        assert_eq!(key("monkey=1&keys=2"), None);
    }

    #[test]
    fn a_key_that_is_not_percent_encoded_utf8_is_refused() {
        for query in ["key=%", "key=%4", "key=%+1", "key=%zz", "key=%ff", "key=%€"] {
            assert_eq!(ApiKey::from_query(query), Err(InvalidApiKey), "{query}");
        }
    }

    #[test]
    fn a_key_is_not_shown_by_debug() {
        let info = PeerInfo::new("127.0.0.1:9").with_key(Some(ApiKey::new("secret")));
        assert!(!format!("{info:?}").contains("secret"));
    }
}
