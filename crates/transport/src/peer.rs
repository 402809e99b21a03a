//! Who is at the other end of a connection.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What is known of a peer when its connection is established.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Where the peer is, for logs: a remote address such as `203.0.113.7:51234`, or the name of a
    /// server that we connected to. Never holds a key. Behind a trusted proxy it is the client's
    /// address as the proxy told it, without a port.
    pub address: String,
    /// The same as a number, for limits by address; `None` where we connected, and in-process.
    pub remote: Option<IpAddr>,
    /// What [`Admission`](crate::Admission) knows the peer by: the name of its key.
    pub label: Option<Arc<str>>,
    /// The API key that the peer came with, if any.
    pub key: Option<ApiKey>,
}

impl PeerInfo {
    /// A peer at an address, without a key.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), remote: None, label: None, key: None }
    }

    /// The same peer at this remote address.
    #[must_use]
    pub fn with_remote(mut self, remote: IpAddr) -> Self {
        self.remote = Some(remote);
        self
    }

    /// The same peer with what it was admitted as.
    #[must_use]
    pub fn with_label(mut self, label: Option<Arc<str>>) -> Self {
        self.label = label;
        self
    }

    /// The same peer with the key that it came with.
    #[must_use]
    pub fn with_key(mut self, key: Option<ApiKey>) -> Self {
        self.key = key;
        self
    }
}

/// The API key that a client sends, which may be a secret: neither `Debug` nor a log line shows it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ApiKey(String);

impl ApiKey {
    /// Takes a key as the client sent it.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key itself, to be hashed or compared.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown_by_debug() {
        let info = PeerInfo::new("127.0.0.1:9").with_key(Some(ApiKey::new("secret")));
        assert!(!format!("{info:?}").contains("secret"));
    }
}
