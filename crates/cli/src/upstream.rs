//! Connectors to upstream servers, over WebSocket or TCP.

use std::sync::Arc;

use downbeat_protocol::Limits;
use downbeat_transport::Connector;
use downbeat_transport::tls::ClientTls;
use downbeat_transport_tcp::{TcpConnector, TcpOptions};
use downbeat_transport_ws::{WsConnector, WsOptions};

use crate::config::UpstreamUrl;

/// The largest message from an upstream. The upstream may have a higher limit than this server, or
/// content from before its limit; and a message that a client sent without the header grows by it.
/// Four times the default limit for clients, so that a broken upstream takes no more memory.
const MESSAGE_BYTES: usize = 64 << 20;

/// The largest header from an upstream. It may have accepted larger ones than this server does from
/// clients.
const HEADER_BYTES: usize = 1 << 20;

/// An error in the URL of an upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidUrl {
    #[error(transparent)]
    Ws(#[from] downbeat_transport_ws::InvalidUrl),
    #[error(transparent)]
    Tcp(#[from] downbeat_transport_tcp::InvalidUrl),
}

impl UpstreamUrl {
    /// The connector to this upstream.
    pub(crate) fn connector(&self, tls: &ClientTls) -> Result<Arc<dyn Connector>, InvalidUrl> {
        let limits = Limits {
            message_bytes: MESSAGE_BYTES,
            header_bytes: HEADER_BYTES,
            ..Limits::default()
        };
        if self.0.starts_with("tcp") {
            let options = TcpOptions {
                client_tls: tls.clone(),
                limits,
                max_frame_bytes: MESSAGE_BYTES,
                ..TcpOptions::default()
            };
            Ok(Arc::new(TcpConnector::new(&self.0, options)?))
        } else {
            let options = WsOptions {
                client_tls: tls.clone(),
                limits,
                max_frame_bytes: MESSAGE_BYTES,
                ..WsOptions::default()
            };
            Ok(Arc::new(WsConnector::new(&self.0, options)?))
        }
    }
}
