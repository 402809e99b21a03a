//! The URLs `tcp://host:port` and `tcps://host:port`.

use downbeat_transport::{ApiKey, InvalidApiKey};

/// An error in a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// Another scheme than `tcp` and `tcps`.
    #[error("the URL must begin with tcp:// or tcps://")]
    Scheme,
    /// No host, or no port.
    #[error("the URL needs a host and a port; write it like tcp://host:4201")]
    Authority,
    /// A path after the port.
    #[error("a tcp:// URL has no path; write a key as ?key= after the port")]
    Path,
    /// A user or a password before the host.
    #[error("the URL must not contain a user or password; write a key as ?key=")]
    UserInfo,
    /// A key that is not valid.
    #[error(transparent)]
    Key(#[from] InvalidApiKey),
    /// A key over the size limit.
    #[error("the key is longer than {max} bytes")]
    LongKey {
        /// The limit in bytes.
        max: usize,
    },
    /// A host that no certificate can be valid for, or TLS that cannot be set up.
    #[error("TLS is not possible with this URL: {0}")]
    Tls(String),
}

/// The parts of a URL.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) encrypted: bool,
    pub(crate) key: Option<ApiKey>,
    /// The URL without its key.
    pub(crate) name: String,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidUrl::Scheme)?;
        let encrypted = match scheme {
            "tcp" => false,
            "tcps" => true,
            _ => return Err(InvalidUrl::Scheme),
        };
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let authority = place.strip_suffix('/').unwrap_or(place);
        if authority.contains('@') {
            return Err(InvalidUrl::UserInfo);
        }
        if authority.contains('/') {
            return Err(InvalidUrl::Path);
        }
        let (host, port) = authority.rsplit_once(':').ok_or(InvalidUrl::Authority)?;
        let port = port.parse().map_err(|_| InvalidUrl::Authority)?;
        let bare = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']').ok_or(InvalidUrl::Authority)?,
            None if host.contains(':') => return Err(InvalidUrl::Authority),
            None => host,
        };
        let is_forbidden =
            |c: char| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']' | '#');
        if bare.is_empty() || bare.contains(is_forbidden) {
            return Err(InvalidUrl::Authority);
        }
        let key = query.map_or(Ok(None), ApiKey::from_query)?;
        let name = format!("{scheme}://{host}:{port}");
        Ok(Self { host: bare.to_owned(), port, encrypted, key, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_port_encryption_and_key_are_found() {
        let target = Target::parse("tcps://[::1]:4201?key=a%20b").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.encrypted), ("::1", 4201, true));
        assert_eq!(target.key.as_ref().map(ApiKey::expose), Some("a b"));
        assert_eq!(target.name, "tcps://[::1]:4201");
        let target = Target::parse("tcp://host:1/").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.encrypted), ("host", 1, false));
        assert_eq!(target.key, None);
    }

    #[test]
    fn other_urls_are_refused() {
        for (url, error) in [
            ("ws://host:1", InvalidUrl::Scheme),
            ("host:1", InvalidUrl::Scheme),
            ("tcp://host", InvalidUrl::Authority),
            ("tcp://:1", InvalidUrl::Authority),
            ("tcp://host:99999", InvalidUrl::Authority),
            ("tcp://::1:4201", InvalidUrl::Authority),
            ("tcp://[::1:4201", InvalidUrl::Authority),
            ("tcp://a b:1", InvalidUrl::Authority),
            ("tcp://host:1/path", InvalidUrl::Path),
            ("tcp://me:secret@host:1", InvalidUrl::UserInfo),
            ("tcp://host:1?key=%ff", InvalidUrl::Key(InvalidApiKey)),
        ] {
            assert_eq!(Target::parse(url), Err(error), "{url}");
        }
    }
}
