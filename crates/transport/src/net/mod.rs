//! What the transports over TCP share: taking connections within limits, trusted proxies, sockets.

mod acceptor;
mod aside;
mod door;
mod limits;
mod progress;
mod proxies;
mod socket;

pub use acceptor::{Acceptor, AcceptorSettings};
pub use aside::decode_aside;
pub use door::{Door, Pass};
pub use limits::{AddressKey, ConnectionLimits, Full, Gate, Place};
pub use progress::Progress;
pub use proxies::{ForwardedHeader, InvalidNetwork, Network, TrustedProxies};
pub use socket::{Io, Linger, configure};
