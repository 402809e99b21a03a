//! The server under test.

use downbeat_transport::tls::ClientTls;
use downbeat_transport_ws::{WsConnector, WsOptions};

use crate::error::BenchError;
use crate::process::ServerProcess;

/// The server under test.
#[derive(Debug, Clone)]
pub struct Target {
    /// The URL, `ws://HOST:PORT` or `wss://HOST:PORT`, with `?key=` if the server requires a key.
    pub url: String,
    /// The process of the server, if it runs on this machine and its costs are measured.
    pub process: Option<ServerProcess>,
    /// The seed of all content.
    pub seed: u64,
    /// The trusted certificates for a `wss://` URL.
    pub client_tls: ClientTls,
}

impl Target {
    /// A server with this URL and the default settings.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), process: None, seed: 1, client_tls: ClientTls::default() }
    }

    /// The URL without its query, which may contain a key.
    pub fn address(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }

    pub(crate) fn connector(&self) -> Result<WsConnector, BenchError> {
        let options = WsOptions { client_tls: self.client_tls.clone(), ..WsOptions::default() };
        WsConnector::new(&self.url, options)
            .map_err(|source| BenchError::Url { url: self.address().to_owned(), source })
    }
}
