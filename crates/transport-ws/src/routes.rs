//! Plain HTTP on a WebSocket listener's port.

use async_trait::async_trait;
use bytes::Bytes;

/// Answers plain HTTP requests (GET and HEAD) on the port of a [`WsListener`](crate::WsListener),
/// one request per connection.
///
/// ```
/// use async_trait::async_trait;
/// use downbeat_transport_ws::{RouteRequest, RouteResponse, Routes};
///
/// struct Ready;
///
/// #[async_trait]
/// impl Routes for Ready {
///     async fn respond(&self, request: RouteRequest<'_>) -> Option<RouteResponse> {
///         (request.path == "/ready").then(|| RouteResponse::text(200, "ready"))
///     }
/// }
/// ```
#[async_trait]
pub trait Routes: Send + Sync {
    /// The answer, or `None` for an unknown path. The call is dropped after
    /// [`WsOptions::handshake_timeout`](crate::WsOptions::handshake_timeout).
    async fn respond(&self, request: RouteRequest<'_>) -> Option<RouteResponse>;
}

/// A plain HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteRequest<'a> {
    /// The undecoded path: `/metrics`.
    pub path: &'a str,
    /// The undecoded part after the `?`.
    pub query: Option<&'a str>,
}

impl<'a> RouteRequest<'a> {
    pub(crate) fn new(path: &'a str, query: Option<&'a str>) -> Self {
        Self { path, query }
    }
}

/// The answer to a plain HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteResponse {
    /// The HTTP status; an invalid number becomes 500.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl RouteResponse {
    /// Plain text.
    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}
