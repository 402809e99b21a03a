//! What the transports over TCP share: limits on connections, trusted proxies, sockets.

mod limits;
mod proxies;
mod socket;

pub use limits::{AddressKey, ConnectionLimits, Full, Gate, Place};
pub use proxies::{ForwardedHeader, InvalidNetwork, Network, TrustedProxies};
pub use socket::{Io, Linger, configure};
