//! Encryption for the transports over TCP: rustls with the ring provider, TLS 1.2 and 1.3.

mod client;
mod error;
mod files;
mod server;
mod validity;

pub use client::ClientTls;
pub use error::{TlsError, tls_error};
pub use rustls::pki_types::ServerName;
pub use server::{ServerTls, TlsReloader};
pub use validity::Validity;
