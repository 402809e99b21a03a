//! Who may connect: judged during the handshake, before anything of the connection exists.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::peer::ApiKey;

/// Decides who may connect to a listener.
///
/// Called once for every handshake, after the limits on connections, from several tasks at the same
/// time; it must not block. An implementation knows keys, origins, or rates; the listener turns a
/// [`Refusal`] into its protocol's answer (a status of HTTP, a refusing hello) and counts it.
///
/// ```
/// use downbeat_transport::{Admission, AdmissionRequest, Admitted, ApiKey, Refusal};
///
/// struct OneKey(ApiKey);
///
/// impl Admission for OneKey {
///     fn admit(&self, request: &AdmissionRequest<'_>) -> Result<Admitted, Refusal> {
///         match request.key {
///             Some(key) if *key == self.0 => Ok(Admitted::labelled("the only one")),
///             Some(_) => Err(Refusal::unauthorized("this key is not known here")),
///             None => Err(Refusal::unauthorized("a key is needed: add ?key= to the URL")),
///         }
///     }
/// }
/// ```
pub trait Admission: Send + Sync {
    /// Whether this peer may connect.
    fn admit(&self, request: &AdmissionRequest<'_>) -> Result<Admitted, Refusal>;
}

/// What is known of a peer that wants to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdmissionRequest<'a> {
    /// Where the peer is: the client's own address when the connection came through a trusted
    /// proxy.
    pub remote: IpAddr,
    /// The path that it asked for; `/` where the transport has none.
    pub path: &'a str,
    /// The key that it brought (`?key=` of a WebSocket URL).
    pub key: Option<&'a ApiKey>,
    /// The site whose page opened the connection, as a browser tells it: `https://app.example`.
    /// Programs send none.
    pub origin: Option<&'a str>,
    /// Whether the connection to this listener is encrypted. Behind a proxy that takes care of TLS
    /// it is not.
    pub encrypted: bool,
    /// Whether it came through a proxy that is not trusted, as far as its headers show, so that
    /// `remote` is the address of the proxy.
    pub proxied: bool,
}

impl<'a> AdmissionRequest<'a> {
    /// A request of which nothing but the address is known.
    pub fn new(remote: IpAddr) -> Self {
        Self { remote, path: "/", key: None, origin: None, encrypted: false, proxied: false }
    }

    /// The same request for this path.
    #[must_use]
    pub fn with_path(mut self, path: &'a str) -> Self {
        self.path = path;
        self
    }

    /// The same request with the key that came with it.
    #[must_use]
    pub fn with_key(mut self, key: Option<&'a ApiKey>) -> Self {
        self.key = key;
        self
    }

    /// The same request from a page of this site.
    #[must_use]
    pub fn with_origin(mut self, origin: Option<&'a str>) -> Self {
        self.origin = origin;
        self
    }

    /// The same request over an encrypted connection, or not.
    #[must_use]
    pub fn with_encrypted(mut self, encrypted: bool) -> Self {
        self.encrypted = encrypted;
        self
    }

    /// The same request through a proxy that is not trusted, or not.
    #[must_use]
    pub fn with_proxied(mut self, proxied: bool) -> Self {
        self.proxied = proxied;
        self
    }
}

/// A peer that may connect.
#[derive(Default)]
pub struct Admitted {
    /// What the peer is known by: the name of its access key, never the key itself. It ends up in
    /// [`PeerInfo::label`](crate::PeerInfo::label).
    pub label: Option<Arc<str>>,
    /// Dropped when the connection ends, or when the handshake fails after all: a place in a count
    /// of connections, for example.
    pub held: Option<Box<dyn Any + Send + Sync>>,
}

impl Admitted {
    /// A peer known by nothing.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// A peer known by the name of its key.
    pub fn labelled(label: impl Into<Arc<str>>) -> Self {
        Self { label: Some(label.into()), held: None }
    }

    /// The same, with something to be dropped when the connection ends.
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
#[error("{reason}")]
pub struct Refusal {
    /// The kind of reason.
    pub kind: RefusalKind,
    /// One line for whoever debugs the other side. It is sent to the peer: no key, and nothing that
    /// a stranger should not know.
    pub reason: Cow<'static, str>,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

/// The kinds of reasons for a refusal, with the statuses of HTTP (RFC 9110, RFC 6585) that stand
/// for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// No key, or one that is not known (401).
    Unauthorized,
    /// The peer is known and may not connect, or may not from where it does (403).
    Forbidden,
    /// The peer has or does too much already (429).
    TooMany,
    /// This server has no room for anybody (503).
    Unavailable,
}

impl Refusal {
    /// No key, or one that is not known.
    pub fn unauthorized(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: RefusalKind::Unauthorized, reason: reason.into(), retry_after: None }
    }

    /// A peer that may not connect: its key was revoked, or its origin is not allowed.
    pub fn forbidden(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: RefusalKind::Forbidden, reason: reason.into(), retry_after: None }
    }

    /// A peer that has or does too much; it may try again after this time.
    pub fn too_many(reason: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self { kind: RefusalKind::TooMany, reason: reason.into(), retry_after: Some(retry_after) }
    }

    /// No room for anybody; trying again after this time may help.
    pub fn unavailable(reason: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self {
            kind: RefusalKind::Unavailable,
            reason: reason.into(),
            retry_after: Some(retry_after),
        }
    }
}

impl RefusalKind {
    /// The kind's status in HTTP.
    pub fn status(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::TooMany => 429,
            Self::Unavailable => 503,
        }
    }
}
