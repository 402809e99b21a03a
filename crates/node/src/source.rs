//! Where work comes from: whose share of the node a connection draws from.

use std::net::{IpAddr, Ipv6Addr};

use downbeat_sync::PeerId;
use downbeat_transport::PeerInfo;

/// The bits of an IPv6 address that a provider gives to one customer.
const CUSTOMER_BITS: u32 = 64;

/// Where work comes from. Sources take turns, however many connections they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// Clients at one IPv4 address, or in one IPv6 /64 network.
    Address(IpAddr),
    /// An upstream, or a peer in this process: each has an own share.
    Peer(PeerId),
}

impl Source {
    pub(crate) fn of(peer: PeerId, info: &PeerInfo) -> Self {
        match info.remote.map(|remote| remote.to_canonical()) {
            Some(IpAddr::V6(address)) => {
                let network = address.to_bits() >> CUSTOMER_BITS << CUSTOMER_BITS;
                Self::Address(IpAddr::V6(Ipv6Addr::from_bits(network)))
            }
            Some(address) => Self::Address(address),
            None => Self::Peer(peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        let info = PeerInfo::new(address).with_remote(address.parse().unwrap());
        Source::of(PeerId(1), &info)
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_an_embedded_ipv4_address_is_itself() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.7"), source("192.0.2.7"));
        assert_ne!(source("192.0.2.7"), source("192.0.2.8"));
    }

    #[test]
    fn peers_without_an_address_are_sources_of_their_own() {
        let of = |peer| Source::of(PeerId(peer), &PeerInfo::new("local"));
        assert_ne!(of(1), of(2));
    }
}
