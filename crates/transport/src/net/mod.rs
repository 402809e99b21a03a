//! TCP listeners: connection limits, trusted proxies and spare file descriptors.

mod acceptor;
mod admission_control;
mod blocking;
mod closing;
#[cfg(feature = "tls")]
mod dialer;
mod limiter;
mod log_throttle;
mod pending;
mod proxies;
mod receive_budget;
mod socket;
mod spare_files;
mod stall;
#[cfg(feature = "tls")]
mod tcp_port;

pub use limiter::{ConnectionLimiter, ConnectionLimits};
pub use proxies::{ForwardedHeader, InvalidNetwork, Network, TrustedProxies};
pub use receive_budget::ReceiveBudget;
pub use socket::Io;
pub use spare_files::{SpareFile, SpareFiles, is_out_of_files};

/// The parts that `downbeat-transport-ws` and `downbeat-transport-tcp` share.
///
/// Not for other crates: any release may change or remove these items.
#[doc(hidden)]
pub mod internal {
    pub use super::admission_control::{AdmissionControl, Permit};
    pub use super::blocking::decode_blocking;
    pub use super::closing::{
        CLOSE_TIMEOUT, CloseTimer, ClosingStream, FinalClose, LAST_WORD_TIMEOUT, ReceiveState,
        close_within_timeout,
    };
    #[cfg(feature = "tls")]
    pub use super::dialer::{ClientHandshake, Dialer, within};
    pub use super::receive_budget::{Displaced, FREE_BYTES, ReceiveShare};
    pub use super::socket::LingeringClose;
    pub use super::stall::StallDetector;
    #[cfg(feature = "tls")]
    pub use super::tcp_port::{Handshake, PortOptions, RemoteClient, TcpPort, accept_over};
}
