//! TLS 1.2 and 1.3 for the transports: rustls with the ring provider.

mod client;
mod error;
mod files;
mod server;
mod validity;

pub use client::ClientTls;
#[cfg(feature = "net")]
pub(crate) use client::HostTls;
pub use error::TlsError;
pub use server::{ServerTls, TlsReloader};
pub use validity::Validity;
