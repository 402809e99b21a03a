//! Makes a connection of a WebSocket.

use std::sync::Arc;

use downbeat_transport::net::Io;
use downbeat_transport::net::internal::Permit;
use downbeat_transport::{Connection, PeerInfo};
use tokio_tungstenite::WebSocketStream;

use crate::frame_reader::FrameReader;
use crate::options::WsOptions;
use crate::receiver::WsReceiver;
use crate::sender::{PingSettings, WsSender};
use crate::socket::Socket;

/// `ping` is `None` for a client. A client batches from the start, a server once the peer has
/// batched.
pub(crate) fn new<S: Io>(
    ws: WebSocketStream<FrameReader<S>>,
    info: PeerInfo,
    ping: Option<PingSettings>,
    permit: Permit,
    options: &WsOptions,
) -> Connection {
    let socket = Arc::new(Socket::new(ws, permit, Arc::clone(&options.counters)));
    let batches = ping.is_none();
    // Only servers send keepalives.
    let silence = Some(options.silence_timeout).filter(|limit| batches && !limit.is_zero());
    let sender = Box::new(WsSender::new(Arc::clone(&socket), batches, ping));
    let receiver = Box::new(WsReceiver::new(socket, options, silence));
    Connection { info, sender, receiver }
}
