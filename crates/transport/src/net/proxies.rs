//! The address of a client behind a proxy.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest chain of proxies to follow. Genuine chains have two or three; a client can write as
/// many as fit into the headers.
const MAX_HOPS: usize = 16;

/// The proxies in front of a listener, which say where a client is, and the header in which they
/// do.
///
/// A listener ignores that header from other addresses, and all other headers: a proxy sets its own
/// header and passes the others on as the client wrote them.
///
/// ```
/// use downbeat_transport::net::TrustedProxies;
///
/// let proxies = TrustedProxies::new(["127.0.0.1".parse()?, "10.0.0.0/8".parse()?]);
/// assert!(proxies.trusts("10.1.2.3".parse().unwrap()));
/// assert!(!proxies.trusts("192.0.2.1".parse().unwrap()));
/// # Ok::<(), downbeat_transport::net::InvalidNetwork>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    /// The header that the proxies write.
    pub header: ForwardedHeader,
}

/// The header in which a proxy writes the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: 203.0.113.7, 10.0.0.2`, the usual header.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=203.0.113.7;proto=https` (RFC 7239).
    Forwarded,
}

/// A network of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    mask: u128,
}

/// A text that is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address or network; write it like 10.0.0.0/8, 2001:db8::/32 or 127.0.0.1")]
pub struct InvalidNetwork {
    text: String,
}

impl TrustedProxies {
    /// Trusts the addresses in these networks. The header is `X-Forwarded-For`.
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        Self { networks: networks.into_iter().collect(), header: ForwardedHeader::default() }
    }

    /// Whether an address is that of a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// The name of the header that the proxies write, in lower case.
    pub fn header_name(&self) -> &'static str {
        match self.header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        }
    }

    /// The address of the client whose request came from `peer` with these values of the header, in
    /// their order: the nearest address to us that is not a trusted proxy.
    ///
    /// A part that is not an address ends the search, because no trusted proxy has written it.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        values: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut client = peer;
        let hops = values.rev().flat_map(|value| value.rsplit(','));
        for hop in hops.take(MAX_HOPS) {
            if !self.trusts(client) {
                break;
            }
            let address = match self.header {
                ForwardedHeader::XForwardedFor => address_of(hop.trim()),
                ForwardedHeader::Forwarded => forwarded_for(hop),
            };
            let Some(address) = address else { break };
            client = address;
        }
        client
    }
}

/// The `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    })?;
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    address_of(unquoted.unwrap_or(value))
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
/// `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

impl Network {
    /// Whether the network contains an address. An IPv6 address that maps to an IPv4 address counts
    /// as that one.
    pub fn contains(&self, address: IpAddr) -> bool {
        as_v6(address) & self.mask == self.bits
    }
}

/// The bits of an address, with IPv4 addresses mapped to IPv6.
fn as_v6(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl fmt::Display for Network {
    /// The form that [`FromStr`] reads, with the prefix length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.mask.leading_ones();
        let address = Ipv6Addr::from_bits(self.bits);
        match address.to_ipv4_mapped() {
            Some(address) if length >= 96 => write!(f, "{address}/{}", length - 96),
            _ => write!(f, "{address}/{length}"),
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidNetwork { text: text.to_owned() };
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let (width, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let length: u32 = match length {
            Some(length) => length.parse().map_err(|_| invalid())?,
            None => width,
        };
        if length > width {
            return Err(invalid());
        }
        let mask = u128::MAX.checked_shl(128 - before - length).unwrap_or(0);
        Ok(Self { bits: as_v6(address) & mask, mask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn proxies(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::new(networks.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.128/25", "192.0.2.200", "192.0.2.100"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
            ("0.0.0.0/0", "203.0.113.7", "2001:db8::1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(ip(inside)), "{network:?} {inside}");
            assert!(!network.contains(ip(outside)), "{network:?} {outside}");
        }
        let all: Network = "::/0".parse().unwrap();
        assert!(all.contains(ip("2001:db8::1")) && all.contains(ip("192.0.2.1")));
        let mapped: Network = "10.0.0.0/8".parse().unwrap();
        assert!(mapped.contains(ip("::ffff:10.1.1.1")));
    }

    #[test]
    fn a_network_is_shown_as_it_is_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "2001:db8::/32", "::/0", "::1/128"]
        {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("10.1.2.3/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_to_write() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "proxy", "10.0.0.0/-1"] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.to_string().contains("10.0.0.0/8"), "{error}");
        }
    }

    #[test]
    fn the_nearest_address_that_is_no_proxy_is_the_client() {
        let proxies = proxies(&["127.0.0.1", "10.0.0.0/8"]);
        let client = |peer: &str, values: &[&str]| proxies.client(ip(peer), values.iter().copied());
        assert_eq!(client("127.0.0.1", &["203.0.113.7"]), ip("203.0.113.7"));
        assert_eq!(client("127.0.0.1", &["203.0.113.7, 10.0.0.2"]), ip("203.0.113.7"));
        assert_eq!(client("127.0.0.1", &["203.0.113.7", "10.0.0.2"]), ip("203.0.113.7"));
        // What the client itself wrote is further away than what the proxy saw.
        assert_eq!(client("127.0.0.1", &["192.0.2.9, 203.0.113.7"]), ip("203.0.113.7"));
        assert_eq!(client("127.0.0.1", &[]), ip("127.0.0.1"));
        assert_eq!(client("127.0.0.1", &["10.0.0.5"]), ip("10.0.0.5"));
        assert_eq!(client("127.0.0.1", &["192.0.2.1, nonsense, 10.0.0.5"]), ip("10.0.0.5"));
        assert_eq!(client("127.0.0.1", &["[2001:db8::1]:443"]), ip("2001:db8::1"));
        assert_eq!(client("127.0.0.1", &["203.0.113.7:1234"]), ip("203.0.113.7"));
    }

    #[test]
    fn a_stranger_is_where_its_connection_comes_from() {
        let proxies = proxies(&["127.0.0.1"]);
        assert_eq!(proxies.client(ip("192.0.2.1"), ["203.0.113.7"].into_iter()), ip("192.0.2.1"));
        let none = TrustedProxies::default();
        assert_eq!(none.client(ip("127.0.0.1"), ["203.0.113.7"].into_iter()), ip("127.0.0.1"));
    }

    #[test]
    fn the_forwarded_header_is_read_where_it_is_the_one() {
        let mut proxies = proxies(&["127.0.0.1", "2001:db8:cafe::/48"]);
        proxies.header = ForwardedHeader::Forwarded;
        let client = |value| proxies.client(ip("127.0.0.1"), [value].into_iter());
        assert_eq!(client("for=192.0.2.60;proto=http;by=203.0.113.43"), ip("192.0.2.60"));
        assert_eq!(client("proto=https;For=\"[2001:db8::17]:4711\""), ip("2001:db8::17"));
        assert_eq!(
            client("for=192.0.2.43, for=\"[2001:db8:cafe::17]\";proto=https"),
            ip("192.0.2.43")
        );
        assert_eq!(client("for=_hidden, for=unknown"), ip("127.0.0.1"));
    }
}
