//! A WebSocket as a connection with its two halves.

use std::sync::Arc;

use downbeat_transport::net::{Io, Pass};
use downbeat_transport::{Connection, PeerInfo};
use tokio_tungstenite::WebSocketStream;

use crate::gate::FrameGate;
use crate::options::WsOptions;
use crate::receiver::WsReceiver;
use crate::sender::{PingSettings, WsSender};
use crate::socket::Socket;

/// A server's connection (with `ping`) batches only after the peer has; a client's from the start.
pub(crate) fn new<S: Io>(
    ws: WebSocketStream<FrameGate<S>>,
    info: PeerInfo,
    ping: Option<PingSettings>,
    pass: Pass,
    options: &WsOptions,
) -> Connection {
    let socket = Arc::new(Socket::new(ws, pass, Arc::clone(&options.counters)));
    let batches = ping.is_none();
    // Only servers show signs of life.
    let silence = Some(options.silence_timeout).filter(|limit| batches && !limit.is_zero());
    let sender = Box::new(WsSender::new(Arc::clone(&socket), batches, ping));
    let receiver = Box::new(WsReceiver::new(socket, options, silence));
    Connection { info, sender, receiver }
}
