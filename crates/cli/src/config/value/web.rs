//! Hosts, sites and URLs.

use std::net::{IpAddr, Ipv4Addr};

use clap::ValueHint;
use serde_json::Value as Json;

use super::Scalar;

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host(pub IpAddr);

impl Scalar for Host {
    const HINT: ValueHint = ValueHint::Hostname;

    fn parse(text: &str) -> Result<Self, String> {
        if text == "localhost" {
            return Ok(Self(Ipv4Addr::LOCALHOST.into()));
        }
        text.parse().map(Self).map_err(|_| {
            "write an IP address of this machine, like 127.0.0.1, or 0.0.0.0 for all addresses"
                .to_owned()
        })
    }

    fn json(&self) -> Json {
        self.0.to_string().into()
    }
}

/// The URL of an upstream. It may contain a key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UpstreamUrl(pub String);

impl Scalar for UpstreamUrl {
    const HINT: ValueHint = ValueHint::Url;

    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("ws" | "wss" | "tcp" | "tcps", rest)) if !rest.is_empty() => {
                Ok(Self(text.to_owned()))
            }
            _ => Err("write a URL like wss://sync.example.com, ws://127.0.0.1:4200 or \
                      tcps://sync.example.com:4202"
                .to_owned()),
        }
    }

    fn json(&self) -> Json {
        mask(&self.0).into()
    }

    fn echo(text: &str) -> String {
        format!("{:?}", mask(text))
    }
}

impl std::fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&mask(&self.0))
    }
}

/// The replacement of a secret.
const MASK: &str = "***";

/// A URL without its possible secrets: the query, which holds keys, and the user name and password.
/// A text that is no URL is hidden completely: it may be the second half of a key with a comma.
fn mask(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    let scheme_ok = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let scheme = if scheme_ok { scheme } else { MASK };
    let (before, query) = match rest.find(['?', '#']).and_then(|at| rest.split_at_checked(at)) {
        Some((before, query)) => (before, format!("{}{MASK}", &query[..1])),
        None => (rest, String::new()),
    };
    let (user, place) = match before.rsplit_once('@') {
        Some((_, place)) => (format!("{MASK}@"), place),
        None => (String::new(), before),
    };
    // `user:password` with a `?` or `#` in the password, before the `@`.
    let authority = place.split('/').next().unwrap_or_default();
    let port = authority.rsplit_once(']').map_or(authority, |(_, port)| port).split_once(':');
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let place = if port.is_none_or(|(_, port)| is_port(port)) { place } else { MASK };
    format!("{scheme}://{user}{place}{query}")
}

/// A web site whose pages may connect, as browsers send it in `Origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site(pub String);

impl Site {
    /// Whether a page with this origin belongs to the site. As in browsers' security policies, `*.`
    /// matches subdomains of any depth, but not the domain itself.
    pub(crate) fn has(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let Some((scheme, below)) = self.0.split_once("://*") else { return self.0 == origin };
        let names = origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
        let names = names.and_then(|rest| rest.strip_suffix(below));
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        names.is_some_and(|names| names.split('.').all(is_name))
    }
}

impl Scalar for Site {
    const HINT: ValueHint = ValueHint::Url;

    fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            "write a site like https://app.example.com or https://*.example.com, without a path"
                .to_owned()
        };
        let (scheme, host) = text.split_once("://").ok_or_else(expected)?;
        let scheme_ok = !scheme.is_empty()
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        if !scheme_ok || host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return Err(expected());
        }
        if host.strip_prefix("*.").unwrap_or(host).contains('*') || host == "*." {
            return Err("use `*` only as the first part of a name, as in \
                        https://*.example.com; leave the setting out to allow all sites"
                .to_owned());
        }
        // Browsers send scheme and host in lower case.
        Ok(Self(text.to_ascii_lowercase()))
    }

    fn json(&self) -> Json {
        self.0.clone().into()
    }
}

/// A host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostName(pub String);

impl Scalar for HostName {
    const HINT: ValueHint = ValueHint::Hostname;

    fn parse(text: &str) -> Result<Self, String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || !text.chars().all(is_name) {
            return Err("write a host name, like sync.internal, without a port".to_owned());
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    fn json(&self) -> Json {
        self.0.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Value;
    use super::*;

    fn one<T: Value>(text: &str) -> Result<T, String> {
        T::from_texts(&[text.to_owned()])
    }

    #[test]
    fn the_key_of_an_upstream_is_not_shown() {
        let url: UpstreamUrl = one("wss://a.example/x?key=secret").unwrap();
        assert_eq!(Value::json(&url), "wss://a.example/x?***");
        assert!(!format!("{url:?}").contains("secret"));
        for (url, shown) in [
            ("wss://ada:secret@a.example:4200/x", "wss://***@a.example:4200/x"),
            ("wss://secret@[::1]:4200", "wss://***@[::1]:4200"),
            ("wss://[::1]:4200/x", "wss://[::1]:4200/x"),
            ("wss://ada:se/cret@a.example", "wss://***@a.example"),
            ("wss://ada:se?cret@a.example", "wss://***?***"),
            ("wss://a.example#secret", "wss://a.example#***"),
            ("wss://a.example?key=ada@a.example", "wss://a.example?***"),
        ] {
            assert_eq!(Value::json(&one::<UpstreamUrl>(url).unwrap()), shown, "{url}");
        }
    }

    #[test]
    fn the_key_of_an_upstream_that_cannot_be_used_is_not_shown() {
        for (text, shown) in [
            ("https://a.example/?key=secret", "\"https://a.example/?***\""),
            ("http://ada:secret@a.example", "\"http://***@a.example\""),
            ("secret", "\"***\""),
            ("a?key=secret://", "\"***://\""),
        ] {
            for error in [
                one::<UpstreamUrl>(text).unwrap_err(),
                one::<Vec<UpstreamUrl>>(text).unwrap_err(),
                one::<Option<UpstreamUrl>>(text).unwrap_err(),
            ] {
                assert!(error.starts_with(&format!("{shown} is not valid")), "{error}");
            }
        }
    }

    #[test]
    fn the_name_of_a_host_has_no_port() {
        assert_eq!(one("Sync.internal"), Ok(HostName("sync.internal".into())));
        for bad in ["sync:4201", "*", "http://sync", ""] {
            assert!(one::<HostName>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_site_has_a_scheme_and_a_host_and_no_path() {
        assert_eq!(one("https://App.example.com"), Ok(Site("https://app.example.com".into())));
        assert!(one::<Site>("capacitor://localhost").is_ok());
        for bad in ["app.example.com", "https://", "https://a/b", "*", "https://a.example/"] {
            assert!(one::<Site>(bad).is_err(), "{bad}");
        }
        for bad in [
            "https://*",
            "https://*.",
            "https://*:443",
            "https://app.*.example.com",
            "https://*app.example.com",
            "https://app.example.*",
            "https://*.*.example.com",
            "https://a.example:*",
        ] {
            let error = one::<Site>(bad).unwrap_err();
            assert!(error.contains("https://*.example.com"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_the_names_below_a_domain() {
        let site: Site = one("https://*.Example.com").unwrap();
        for origin in
            ["https://app.example.com", "https://a.b.example.com", "https://APP.example.com"]
        {
            assert!(site.has(origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://a..example.com",
            "https://evilexample.com",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.example",
            "https://evil.example/.example.com",
            "https://evil.example#.example.com",
            "null",
        ] {
            assert!(!site.has(origin), "{origin}");
        }
        let site: Site = one("http://*.localhost:3000").unwrap();
        assert!(site.has("http://app.localhost:3000") && !site.has("http://app.localhost"));
    }
}
