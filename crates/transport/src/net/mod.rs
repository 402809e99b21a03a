//! What the transports over TCP share: taking connections within limits, trusted proxies, sockets.

mod acceptor;
mod aside;
mod door;
mod limits;
mod notices;
mod pending;
mod progress;
mod proxies;
mod reserve;
mod socket;

pub use acceptor::{Acceptor, AcceptorSettings, Room, is_out_of_files};
pub use aside::decode_aside;
pub use door::{Door, Pass};
pub use limits::{AddressKey, ConnectionLimits, Full, Gate, Place};
pub use notices::Notices;
pub use progress::Progress;
pub use proxies::{ForwardedHeader, InvalidNetwork, Network, TrustedProxies};
pub use reserve::{Loan, Reserve};
pub use socket::{Io, Linger, configure};
