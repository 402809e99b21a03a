//! Admission: decides during the handshake whether a peer may connect.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::peer::ApiKey;

/// Decides who may connect to a listener.
///
/// The listener calls this once for each handshake, after the connection limits, from several tasks
/// at the same time. It must not block. The listener translates an [`AdmissionRefusal`] into its
/// protocol (an HTTP status, or the refusal of a hello) and counts it.
///
/// ```
/// use downbeat_transport::{Admission, AdmissionRequest, AdmissionRefusal, Admitted, ApiKey};
///
/// struct OneKey(ApiKey);
///
/// impl Admission for OneKey {
///     fn admit(&self, request: &AdmissionRequest<'_>) -> Result<Admitted, AdmissionRefusal> {
///         match request.key {
///             Some(key) if *key == self.0 => Ok(Admitted::labelled("app")),
///             Some(_) => Err(AdmissionRefusal::unauthorized("this key is not known here")),
///             None => Err(AdmissionRefusal::unauthorized("a key is needed: add ?key= to the URL")),
///         }
///     }
/// }
/// ```
pub trait Admission: Send + Sync {
    /// Admits or refuses a peer.
    fn admit(&self, request: &AdmissionRequest<'_>) -> Result<Admitted, AdmissionRefusal>;
}

/// A peer's request to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdmissionRequest<'a> {
    /// The peer's address. Behind a trusted proxy it is the client's own address. A peer without an
    /// IP address, as on a Unix socket, has `127.0.0.1`.
    pub remote: IpAddr,
    /// The path of the URL; `/` if the transport has no paths.
    pub path: &'a str,
    /// The key (`?key=` of a WebSocket URL).
    pub key: Option<&'a ApiKey>,
    /// The site whose page opened the connection, from a browser: `https://app.example`. Other
    /// programs send none.
    pub origin: Option<&'a str>,
    /// Whether the connection to this listener is encrypted. It is not if a proxy terminates TLS.
    pub encrypted: bool,
    /// Whether headers show a proxy that is not trusted. Then `remote` is the address of the proxy.
    pub proxied: bool,
}

impl<'a> AdmissionRequest<'a> {
    /// A request from this address, with no other facts.
    pub fn new(remote: IpAddr) -> Self {
        Self { remote, path: "/", key: None, origin: None, encrypted: false, proxied: false }
    }

    /// Sets the path.
    #[must_use]
    pub fn with_path(mut self, path: &'a str) -> Self {
        self.path = path;
        self
    }

    /// Sets the key.
    #[must_use]
    pub fn with_key(mut self, key: Option<&'a ApiKey>) -> Self {
        self.key = key;
        self
    }

    /// Sets the site.
    #[must_use]
    pub fn with_origin(mut self, origin: Option<&'a str>) -> Self {
        self.origin = origin;
        self
    }

    /// Sets whether the connection is encrypted.
    #[must_use]
    pub fn with_encrypted(mut self, encrypted: bool) -> Self {
        self.encrypted = encrypted;
        self
    }

    /// Sets whether headers show a proxy that is not trusted.
    #[must_use]
    pub fn with_proxied(mut self, proxied: bool) -> Self {
        self.proxied = proxied;
        self
    }
}

/// A peer that may connect.
#[derive(Default)]
#[non_exhaustive]
pub struct Admitted {
    /// The name of the peer's access key, never the key itself. It becomes
    /// [`PeerInfo::label`](crate::PeerInfo::label).
    pub label: Option<Arc<str>>,
    /// Dropped when the connection ends, or when the handshake fails after the admission. Use it to
    /// count connections.
    pub held: Option<Box<dyn Any + Send + Sync>>,
}

impl Admitted {
    /// A peer without a key.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// A peer whose key has this name.
    pub fn labelled(label: impl Into<Arc<str>>) -> Self {
        Self { label: Some(label.into()), held: None }
    }

    /// Sets a value that is dropped when the connection ends.
    #[must_use]
    pub fn holding(mut self, held: impl Any + Send + Sync) -> Self {
        self.held = Some(Box::new(held));
        self
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("label", &self.label).finish_non_exhaustive()
    }
}

/// Why a peer may not connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{reason}")]
pub struct AdmissionRefusal {
    /// The kind of reason.
    pub kind: RefusalKind,
    /// One line for people who debug the other side. The peer receives it, so it must not contain
    /// keys or other secrets.
    pub reason: Cow<'static, str>,
    /// When the peer may try again.
    pub retry_after: Option<Duration>,
}

/// The kind of reason for a refusal, with its HTTP status (RFC 9110, RFC 6585).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// No key, or an unknown key (401).
    Unauthorized,
    /// The peer is known but may not connect, or not from its site (403).
    Forbidden,
    /// The peer has too many connections (429).
    TooMany,
    /// The server has no capacity (503).
    Unavailable,
}

impl AdmissionRefusal {
    /// No key, or an unknown key.
    pub fn unauthorized(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: RefusalKind::Unauthorized, reason: reason.into(), retry_after: None }
    }

    /// A peer whose key was revoked, or whose site is not allowed.
    pub fn forbidden(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: RefusalKind::Forbidden, reason: reason.into(), retry_after: None }
    }

    /// A peer with too many connections. It may try again after this time.
    pub fn too_many(reason: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self { kind: RefusalKind::TooMany, reason: reason.into(), retry_after: Some(retry_after) }
    }

    /// A server without capacity. The peer may try again after this time.
    pub fn unavailable(reason: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self {
            kind: RefusalKind::Unavailable,
            reason: reason.into(),
            retry_after: Some(retry_after),
        }
    }
}

impl RefusalKind {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::TooMany => 429,
            Self::Unavailable => 503,
        }
    }
}
