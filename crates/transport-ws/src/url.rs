//! The URLs `ws://host:port/path` and `wss://host:port/path`.

use std::fmt;

use hyper::Uri;

use crate::upgrade::ClientUpgrade;

/// The port of `ws://` URLs without one.
const DEFAULT_PORT: u16 = 80;
/// The port of `wss://` URLs without one.
const DEFAULT_TLS_PORT: u16 = 443;

/// A server's URL.
#[derive(Clone)]
pub struct WsUrl {
    pub(crate) uri: Uri,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) encrypted: bool,
    /// The URL without its query, which may contain a key.
    pub(crate) name: String,
}

/// An error in a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// Not a URL.
    #[error("not a URL; write it like wss://host or ws://host:4200")]
    Syntax,
    /// Another scheme than `ws` and `wss`.
    #[error("the URL must begin with ws:// or wss://")]
    Scheme,
    /// A user or a password before the host.
    #[error("the URL must not contain a user or password; write a key as ?key=")]
    UserInfo,
    /// A host that no certificate can be valid for, or TLS that cannot be set up.
    #[error("TLS is not possible with this URL: {0}")]
    Tls(String),
}

impl WsUrl {
    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self, InvalidUrl> {
        let uri: Uri = url.parse().map_err(|_| InvalidUrl::Syntax)?;
        let encrypted = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(InvalidUrl::Scheme),
        };
        let authority = uri.authority().ok_or(InvalidUrl::Syntax)?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl::UserInfo);
        }
        let host_only = authority.as_str().len() == authority.host().len();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if host_only && encrypted => DEFAULT_TLS_PORT,
            None if host_only => DEFAULT_PORT,
            None => return Err(InvalidUrl::Syntax),
        };
        let scheme = if encrypted { "wss" } else { "ws" };
        let name = format!("{scheme}://{authority}{}", uri.path());
        ClientUpgrade::request(&uri).ok_or(InvalidUrl::Syntax)?;
        Ok(Self { uri, host, port, encrypted, name })
    }
}

impl fmt::Debug for WsUrl {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WsUrl").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use downbeat_transport::Connector;

    use super::*;
    use crate::{WsConnector, WsOptions};

    fn refused(url: &str) -> Option<InvalidUrl> {
        WsConnector::new(url, WsOptions::default()).err()
    }

    #[test]
    fn only_ws_urls_with_a_host_are_taken() {
        assert_eq!(refused("ws://localhost"), None);
        assert_eq!(refused("ws://[::1]:4200/path?key=a@b"), None);
        assert_eq!(refused("wss://localhost"), None);
        assert_eq!(refused("wss://[::1]:4200"), None);
        assert!(matches!(refused("wss://not_-a.-host-"), Some(InvalidUrl::Tls(_))));
        assert_eq!(refused("http://localhost"), Some(InvalidUrl::Scheme));
        assert_eq!(refused("localhost:4200"), Some(InvalidUrl::Scheme));
        assert_eq!(refused("ws://"), Some(InvalidUrl::Syntax));
        assert_eq!(refused("ws://host:99999"), Some(InvalidUrl::Syntax));
        assert_eq!(refused("ws://me:secret@host"), Some(InvalidUrl::UserInfo));
    }

    #[test]
    fn the_host_of_an_ipv6_url_has_no_brackets() {
        let url = WsUrl::parse("ws://[::1]:4200").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("::1", 4200));
        let connector = WsConnector::new("ws://[::1]:4200", WsOptions::default()).unwrap();
        assert_eq!(connector.name(), "ws://[::1]:4200/");
        let url = WsUrl::parse("wss://host?key=secret").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("host", 443));
        let connector = WsConnector::new("wss://host?key=secret", WsOptions::default()).unwrap();
        assert_eq!(connector.name(), "wss://host/");
    }

    #[test]
    fn debug_output_does_not_contain_the_key() {
        let url = WsUrl::parse("wss://host/?key=secret").unwrap();
        assert_eq!(format!("{url:?}"), "WsUrl(\"wss://host/\")");
    }
}
