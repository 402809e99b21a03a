//! Where the load goes.

use downbeat_transport::tls::ClientTls;
use downbeat_transport_ws::{WsConnector, WsOptions};

use crate::error::BenchError;
use crate::process::ServerProcess;

/// The server that a workload is played against.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its URL, `ws://HOST:PORT` or `wss://HOST:PORT`, with `?key=` if it wants one.
    pub url: String,
    /// Its process, if it runs on this machine and is to be measured.
    pub process: Option<ServerProcess>,
    /// What all content is made from.
    pub seed: u64,
    /// Which servers are trusted at a `wss://` URL.
    pub client_tls: ClientTls,
}

impl Target {
    /// A server of which only the URL is known.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), process: None, seed: 1, client_tls: ClientTls::default() }
    }

    /// The URL without its query, which may hold a key.
    pub fn address(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }

    pub(crate) fn connector(&self) -> Result<WsConnector, BenchError> {
        let options = WsOptions { client_tls: self.client_tls.clone(), ..WsOptions::default() };
        WsConnector::new(&self.url, options)
            .map_err(|source| BenchError::Url { url: self.address().to_owned(), source })
    }
}
