//! The headers of an upgrade (RFC 6455, 4.1 and 4.2), on both sides.
//!
//! A header with a list may consist of several lines (RFC 9110, 5.3): proxies write
//! `Connection: keep-alive` and `Connection: Upgrade` as two lines. This module reads all lines.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const WEBSOCKET: &str = "websocket";
const VERSION: &str = "13";

/// Why a request or an answer is not an upgrade to a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAnUpgrade {
    #[error("the method is not GET")]
    Method,
    #[error("the version of HTTP is not 1.1")]
    HttpVersion,
    #[error("the status is not 101")]
    Status,
    #[error("no Connection: upgrade header")]
    Connection,
    #[error("no Upgrade: websocket header")]
    Upgrade,
    #[error("no Sec-WebSocket-Version: 13 header")]
    Version,
    #[error("no Sec-WebSocket-Key header, or more than one")]
    Key,
    #[error("the Sec-WebSocket-Accept header does not belong to this upgrade")]
    Accept,
    #[error("an extension or a subprotocol that was not offered")]
    NotOffered,
}

/// Whether a header with a list contains this entry, in any of its lines.
pub(crate) fn lists(headers: &HeaderMap, name: &HeaderName, entry: &str) -> bool {
    // A line that is not text contains no known entry.
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(entry))
}

/// The only line of a header that must not repeat; `None` if there are none or several.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

/// Whether a request asks for a WebSocket, with or without errors.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    lists(headers, &header::UPGRADE, WEBSOCKET)
}

/// The answer that completes the upgrade.
pub(crate) fn answer(request: &Request<()>) -> Result<Response<()>, NotAnUpgrade> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(NotAnUpgrade::Method);
    }
    if request.version() < Version::HTTP_11 {
        return Err(NotAnUpgrade::HttpVersion);
    }
    if !lists(headers, &header::CONNECTION, "upgrade") {
        return Err(NotAnUpgrade::Connection);
    }
    if !is_wanted(headers) {
        return Err(NotAnUpgrade::Upgrade);
    }
    if !lists(headers, &header::SEC_WEBSOCKET_VERSION, VERSION) {
        return Err(NotAnUpgrade::Version);
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY).ok_or(NotAnUpgrade::Key)?;
    let accept = derive_accept_key(key.as_bytes());
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    headers.insert(
        header::SEC_WEBSOCKET_ACCEPT,
        // Base64 is always a value of a header.
        HeaderValue::from_str(&accept).map_err(|_| NotAnUpgrade::Key)?,
    );
    Ok(response)
}

/// A client's side of one upgrade.
#[derive(Debug)]
pub(crate) struct ClientUpgrade {
    accept: String,
}

impl ClientUpgrade {
    /// The request for the server at this URL, and the state to check its answer. `None` for a URL
    /// without a host.
    pub(crate) fn request(url: &Uri) -> Option<(Request<Empty<Bytes>>, Self)> {
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let key = generate_key();
        let request = Request::builder()
            .uri(format!("{}{query}", url.path()))
            .header(header::HOST, url.authority()?.as_str())
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, WEBSOCKET)
            .header(header::SEC_WEBSOCKET_VERSION, VERSION)
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .body(Empty::new())
            .ok()?;
        Some((request, Self { accept: derive_accept_key(key.as_bytes()) }))
    }

    /// Checks that the server's answer completes the upgrade.
    pub(crate) fn check<B>(&self, response: &Response<B>) -> Result<(), NotAnUpgrade> {
        let headers = response.headers();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(NotAnUpgrade::Status);
        }
        if !lists(headers, &header::UPGRADE, WEBSOCKET) {
            return Err(NotAnUpgrade::Upgrade);
        }
        if !lists(headers, &header::CONNECTION, "upgrade") {
            return Err(NotAnUpgrade::Connection);
        }
        let accept = only(headers, &header::SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| accept != self.accept.as_str()) {
            return Err(NotAnUpgrade::Accept);
        }
        // We offer neither.
        let unasked = [header::SEC_WEBSOCKET_EXTENSIONS, header::SEC_WEBSOCKET_PROTOCOL];
        if unasked.iter().any(|name| headers.contains_key(name)) {
            return Err(NotAnUpgrade::NotOffered);
        }
        Ok(())
    }
}
