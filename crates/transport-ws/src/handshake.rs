//! From an accepted TCP connection to a WebSocket, or to the answer to a plain HTTP request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use downbeat_transport::net::{Door, Io, Linger, Notices, Pass, Room};
use downbeat_transport::tls::TlsError;
use downbeat_transport::{
    AdmissionRequest, ApiKey, Connection, PeerInfo, Refusal, TransportCounters,
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::connection;
use crate::gate::FrameGate;
use crate::options::{ALPN, WsOptions};
use crate::routes::{RouteRequest, RouteResponse};
use crate::sender::PingSettings;
use crate::upgrade::{self, NotAnUpgrade};

/// hyper refuses to work with a smaller buffer.
const MIN_HTTP_BUFFER_BYTES: usize = 8 << 10;

/// What proxies add to a request.
const PROXY_HEADERS: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

/// What a client is told when there are no descriptors left.
const NO_ROOM: &str = "this server has no room for more connections";
/// When it may try again.
const NO_ROOM_RETRY: Duration = Duration::from_secs(10);

/// Everything a listener needs for its handshakes.
pub(crate) struct Reception {
    options: WsOptions,
    door: Door,
    tls: Option<TlsAcceptor>,
}

/// Where a request comes from.
#[derive(Clone, Copy)]
struct Source {
    peer: SocketAddr,
    encrypted: bool,
    room: Room,
}

impl Reception {
    pub(crate) fn new(options: WsOptions, notices: Arc<Notices>) -> Result<Self, TlsError> {
        let tls = options.tls.as_ref().map(|tls| tls.acceptor(ALPN)).transpose()?;
        let counters = Arc::clone(&options.counters);
        let door =
            Door::new(options.connection_limits, options.admission.clone(), counters, notices);
        Ok(Self { options, door, tls })
    }

    pub(crate) fn encrypts(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves one connection's only request; if it was an upgrade, the WebSocket that came of it.
    pub(crate) async fn receive(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        room: Room,
    ) -> Option<Connection> {
        let source = Source { peer, encrypted: self.encrypts(), room };
        let Some(tls) = &self.tls else { return self.serve(stream, source).await };
        match tls.accept(stream).await {
            Ok(stream) => self.serve(stream, source).await,
            Err(error) => {
                self.counters().tls_failed.increment();
                tracing::debug!(%peer, %error, "no TLS");
                None
            }
        }
    }

    async fn serve<S: Io>(&self, stream: S, source: Source) -> Option<Connection> {
        let options = &self.options;
        let upgraded = Mutex::new(None);
        let service = service_fn(|request: Request<Incoming>| {
            let (parts, _body) = request.into_parts();
            let answering = self.answer(parts, source, &upgraded);
            Box::pin(async { Ok::<_, Infallible>(answering.await) })
        });
        let mut serving = http1::Builder::new()
            .max_header_size(options.max_header_bytes)
            .max_buf_size(options.max_header_bytes.max(MIN_HTTP_BUFFER_BYTES))
            .serve_connection(TokioIo::new(stream), service);
        let served = poll_fn(|cx| serving.poll_without_shutdown(cx)).await;
        if let Err(error) = served {
            self.count_failure(&error);
            tracing::debug!(peer = %source.peer, %error, "a bad HTTP request");
        }
        let http1::Parts { io, read_buf, .. } = serving.into_parts();
        let mut stream = io.into_inner();
        let upgraded = upgraded.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(Upgraded { info, pass }) = upgraded else {
            // The answer has been given; nothing depends on how the connection ends.
            let _ = stream.shutdown().await;
            let mut linger = Linger::new();
            poll_fn(|cx| linger.poll(cx, |cx, buf| Pin::new(&mut stream).poll_read(cx, buf))).await;
            return None;
        };
        self.counters().accepted.increment();
        let config = Some(options.config());
        // Copied, because an empty rest still has the whole buffer of the HTTP library with it.
        let stream = FrameGate::new(stream, read_buf.to_vec());
        let ws = WebSocketStream::from_raw_socket(stream, Role::Server, config).await;
        let ping =
            PingSettings { interval: options.ping_interval, name: options.ping_name.clone() };
        Some(connection::new(ws, info, Some(ping), pass, options))
    }

    fn count_failure(&self, error: &hyper::Error) {
        let counters = self.counters();
        if error.is_parse_too_large() {
            counters.handshakes_too_large.increment();
        } else if error.is_parse() {
            counters.handshakes_malformed.increment();
        } else {
            counters.handshakes_broken_off.increment();
        }
    }

    async fn answer(
        &self,
        parts: Parts,
        source: Source,
        upgraded: &Mutex<Option<Upgraded>>,
    ) -> Answer {
        if !upgrade::is_wanted(&parts.headers) {
            self.counters().http_requests.increment();
            return plain(&parts, &self.options).await;
        }
        match self.upgrade(parts, source) {
            Ok((state, response)) => {
                *upgraded.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
                response
            }
            Err(answer) => *answer,
        }
    }

    /// The upgrade, or why there is none.
    fn upgrade(&self, parts: Parts, source: Source) -> Result<(Upgraded, Answer), Box<Answer>> {
        let malformed = |body: String| {
            self.counters().handshakes_malformed.increment();
            Box::new(text(StatusCode::BAD_REQUEST, body))
        };
        let key = parts
            .uri
            .query()
            .map_or(Ok(None), ApiKey::from_query)
            .map_err(|error| malformed(format!("{error}\n")))?;
        let request = Request::from_parts(parts, ());
        let response = upgrade::answer(&request).map_err(|error| match error {
            NotAnUpgrade::Version => {
                self.counters().handshakes_malformed.increment();
                let body = "this server speaks version 13 of the WebSocket protocol\n";
                Box::new(upgrade_required(body))
            }
            error => malformed(format!("not a WebSocket upgrade: {error}\n")),
        })?;
        let mut origins = request.headers().get_all(header::ORIGIN).iter().map(HeaderValue::to_str);
        let origin = match (origins.next(), origins.next()) {
            (None, _) => None,
            (Some(Ok(origin)), None) => Some(origin),
            (Some(Err(_)), _) => {
                return Err(malformed("the Origin header is not ASCII\n".to_owned()));
            }
            (_, Some(_)) => return Err(malformed("more than one Origin header\n".to_owned())),
        };
        if source.room == Room::None {
            return Err(Box::new(refused(&Refusal::unavailable(NO_ROOM, NO_ROOM_RETRY))));
        }
        let remote = self.remote(request.headers(), source.peer.ip());
        let asked = AdmissionRequest::new(remote)
            .with_path(request.uri().path())
            .with_key(key.as_ref())
            .with_origin(origin)
            .with_encrypted(source.encrypted)
            .with_proxied(self.is_proxied(request.headers(), remote));
        let pass = self.door.enter(&asked).map_err(|refusal| {
            tracing::debug!(peer = %remote, kind = ?refusal.kind, "refused: {refusal}");
            Box::new(refused(&refusal))
        })?;
        let direct = remote == source.peer.ip().to_canonical();
        let address = if direct { source.peer.to_string() } else { remote.to_string() };
        let info =
            PeerInfo::new(address).with_remote(remote).with_label(pass.label.clone()).with_key(key);
        Ok((Upgraded { info, pass }, response.map(|()| Full::default())))
    }

    /// Where the client is: as its proxies say, if it has trusted ones.
    fn remote(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        let proxies = &self.options.trusted_proxies;
        let values = headers.get_all(proxies.header_name());
        // What is no text ends the search like anything else that is no address.
        let values: Vec<_> =
            values.iter().map(|value| value.to_str().unwrap_or_default()).collect();
        proxies.client(peer.to_canonical(), values.into_iter())
    }

    /// Whether a request has come through a proxy that is not trusted.
    fn is_proxied(&self, headers: &HeaderMap, remote: IpAddr) -> bool {
        !self.options.trusted_proxies.trusts(remote)
            && PROXY_HEADERS.iter().any(|name| headers.contains_key(*name))
    }

    fn counters(&self) -> &TransportCounters {
        self.door.counters()
    }
}

/// What a successful upgrade leaves behind.
struct Upgraded {
    info: PeerInfo,
    pass: Pass,
}

type Answer = Response<Full<Bytes>>;

async fn plain(parts: &Parts, options: &WsOptions) -> Answer {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let path = parts.uri.path();
    if path == "/health" {
        return text(StatusCode::OK, "ok");
    }
    if let Some(routes) = &options.routes
        && let Some(response) = routes.respond(RouteRequest::new(path, parts.uri.query())).await
    {
        return routed(response);
    }
    if path == "/" {
        return upgrade_required("this is a sync server: connect by WebSocket\n");
    }
    text(StatusCode::NOT_FOUND, "nothing here: connect by WebSocket, on any path\n")
}

fn routed(response: RouteResponse) -> Answer {
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = Response::new(Full::new(response.body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    // One request a connection, so that the time limit of a handshake covers them all.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if let Ok(content_type) = HeaderValue::from_str(response.content_type) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    answer
}

/// A refusal as HTTP says it.
fn refused(refusal: &Refusal) -> Answer {
    let body = format!("{}\n", refusal.reason);
    let mut answer = routed(RouteResponse::text(refusal.kind.status(), body));
    if let Some(wait) = refusal.retry_after {
        // In whole seconds, and never none.
        let seconds = wait.as_secs().max(1);
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    routed(RouteResponse::text(status.as_u16(), body))
}

fn upgrade_required(body: &'static str) -> Answer {
    let mut answer = text(StatusCode::UPGRADE_REQUIRED, body);
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade, close"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    answer
}
