//! A WebSocket as a connection with its two halves.

use std::sync::Arc;
use std::time::Duration;

use downbeat_transport::{Connection, PeerInfo};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;

use crate::gate::FrameGate;
use crate::options::WsOptions;
use crate::receiver::WsReceiver;
use crate::sender::{PingSettings, WsSender};
use crate::socket::{Io, Socket};

/// A server's connection (with `ping`) batches only after the peer has; a client's from the start.
pub(crate) fn new<S: Io>(
    ws: WebSocketStream<FrameGate<S>>,
    info: PeerInfo,
    ping: Option<PingSettings>,
    options: &WsOptions,
) -> Connection {
    let socket = Arc::new(Socket::new(ws));
    let batches = ping.is_none();
    let sender = Box::new(WsSender::new(Arc::clone(&socket), batches, ping));
    let receiver = Box::new(WsReceiver::new(socket, options.limits, options.max_frame_bytes));
    Connection { info, sender, receiver }
}

/// Frames leave at once, and a peer that acknowledges nothing any more is noticed.
pub(crate) fn configure(stream: &TcpStream, dead_peer_timeout: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(dead_peer_timeout))?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (socket, dead_peer_timeout);
    Ok(())
}
