//! The server's handshake: an upgrade to a WebSocket, or the answer to a plain HTTP request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use downbeat_transport::net::Io;
use downbeat_transport::net::internal::{
    AdmissionControl, Handshake, LingeringClose, Permit, RemoteClient,
};
use downbeat_transport::{
    AdmissionRefusal, AdmissionRequest, ApiKey, Connection, PeerInfo, TransportCounters,
    TransportError,
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
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::connection;
use crate::connector::http_error;
use crate::frame_reader::FrameReader;
use crate::options::{ALPN, WsOptions};
use crate::routes::{RouteRequest, RouteResponse};
use crate::sender::PingSettings;
use crate::upgrade::{self, NotAnUpgrade};

/// The smallest buffer that hyper accepts.
const MIN_HTTP_BUFFER_BYTES: usize = 8 << 10;

/// Headers that proxies add to a request.
const PROXY_HEADERS: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

/// The server's side of the handshake.
pub(crate) struct ServerSide {
    pub(crate) options: WsOptions,
}

impl Handshake for ServerSide {
    const ALPN: &'static [&'static str] = ALPN;

    /// Serves the stream's only request.
    async fn run<S: Io>(
        &self,
        stream: S,
        client: RemoteClient,
        admission: &AdmissionControl,
    ) -> Result<Connection, TransportError> {
        let options = &self.options;
        let request = UpgradeRequest { options, client: &client, admission };
        let outcome = Mutex::new(Err(TransportError::Disconnected));
        let service = service_fn(|http: Request<Incoming>| {
            let (parts, _body) = http.into_parts();
            let answering = request.answer(parts, &outcome);
            Box::pin(async { Ok::<_, Infallible>(answering.await) })
        });
        let mut serving = http1::Builder::new()
            .max_header_size(options.max_header_bytes)
            .max_buf_size(options.max_header_bytes.max(MIN_HTTP_BUFFER_BYTES))
            .serve_connection(TokioIo::new(stream), service);
        let served = poll_fn(|cx| serving.poll_without_shutdown(cx)).await;
        let http1::Parts { io, read_buf, .. } = serving.into_parts();
        let mut stream = io.into_inner();
        let outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcome = match served {
            Ok(()) => outcome,
            Err(error) => {
                count_failure(&error, admission.counters());
                outcome.map_err(|_| http_error(&error))
            }
        };
        let Upgraded { info, permit } = match outcome {
            Ok(upgraded) => upgraded,
            Err(error) => {
                // The answer is written; the client may have disconnected already.
                let _ = stream.shutdown().await;
                let mut linger = LingeringClose::default();
                poll_fn(|cx| linger.poll(cx, |cx, buf| Pin::new(&mut stream).poll_read(cx, buf)))
                    .await;
                return Err(error);
            }
        };
        admission.counters().accepted.increment();
        let config = Some(options.config());
        // Copied, because even an empty rest keeps the whole buffer of the HTTP library alive.
        let budget = Arc::clone(&options.receive_budget);
        let stream = FrameReader::new(stream, read_buf.to_vec(), budget);
        let ws = WebSocketStream::from_raw_socket(stream, Role::Server, config).await;
        let ping =
            PingSettings { interval: options.ping_interval, name: options.ping_name.clone() };
        Ok(connection::new(ws, info, Some(ping), permit, options))
    }
}

fn count_failure(error: &hyper::Error, counters: &TransportCounters) {
    if error.is_parse_too_large() {
        counters.handshakes_too_large.increment();
    } else if error.is_parse() {
        counters.handshakes_malformed.increment();
    } else {
        counters.handshakes_broken_off.increment();
    }
}

/// A successful upgrade.
struct Upgraded {
    info: PeerInfo,
    permit: Permit,
}

/// Why a request is not an upgrade: the answer to send, and the error for the caller.
struct NotUpgraded {
    answer: Answer,
    error: TransportError,
}

/// One HTTP request, with the facts about its client.
struct UpgradeRequest<'a> {
    options: &'a WsOptions,
    client: &'a RemoteClient,
    admission: &'a AdmissionControl,
}

impl UpgradeRequest<'_> {
    async fn answer(
        &self,
        parts: Parts,
        outcome: &Mutex<Result<Upgraded, TransportError>>,
    ) -> Answer {
        let (result, answer) = if upgrade::is_wanted(&parts.headers) {
            match self.upgrade(parts) {
                Ok((upgraded, answer)) => (Ok(upgraded), answer),
                Err(refused) => (Err(refused.error), refused.answer),
            }
        } else {
            self.admission.counters().http_requests.increment();
            let text = "an HTTP request without an upgrade to a WebSocket";
            (Err(TransportError::Protocol(text.to_owned())), plain(&parts, self.options).await)
        };
        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = result;
        answer
    }

    fn upgrade(&self, parts: Parts) -> Result<(Upgraded, Answer), Box<NotUpgraded>> {
        let query = parts.uri.query();
        let key = query.map_or(Ok(None), ApiKey::from_query);
        let key = key.map_err(|error| self.malformed(error.to_string()))?;
        let request = Request::from_parts(parts, ());
        let response = upgrade::answer(&request).map_err(|error| match error {
            NotAnUpgrade::Version => {
                let text = "this server speaks version 13 of the WebSocket protocol";
                let mut refused = self.malformed(text.to_owned());
                refused.answer = upgrade_required(format!("{text}\n"));
                refused
            }
            error => self.malformed(format!("not a WebSocket upgrade: {error}")),
        })?;
        let headers = request.headers();
        let origin = origin(headers).map_err(|text| self.malformed(text.to_owned()))?;
        let remote = self.remote(headers);
        let asked = AdmissionRequest::new(remote)
            .with_path(request.uri().path())
            .with_key(key.as_ref())
            .with_origin(origin)
            .with_encrypted(self.client.encrypted)
            .with_proxied(self.is_proxied(headers, remote));
        let permit = self.admission.admit(&asked, self.client.descriptors).map_err(|refusal| {
            Box::new(NotUpgraded {
                answer: refused(&refusal),
                error: TransportError::NotAdmitted(refusal),
            })
        })?;
        let mut info = self.client.peer.clone();
        if remote != self.client.remote() {
            info.address = remote.to_string();
            info = info.with_remote(remote);
        }
        let info = info.with_label(permit.label.clone()).with_key(key);
        Ok((Upgraded { info, permit }, response.map(|()| Full::default())))
    }

    fn malformed(&self, text: String) -> Box<NotUpgraded> {
        self.admission.counters().handshakes_malformed.increment();
        let answer = self::text(StatusCode::BAD_REQUEST, format!("{text}\n"));
        Box::new(NotUpgraded { answer, error: TransportError::Protocol(text) })
    }

    /// The client's address, from the header of trusted proxies if the request came through one.
    fn remote(&self, headers: &HeaderMap) -> IpAddr {
        let proxies = &self.options.trusted_proxies;
        let values = headers.get_all(proxies.header_name());
        // A value that is not text ends the search, like any other that is not an address.
        let values: Vec<_> =
            values.iter().map(|value| value.to_str().unwrap_or_default()).collect();
        proxies.client(self.client.remote(), values.into_iter())
    }

    /// Whether headers show a proxy that is not trusted.
    fn is_proxied(&self, headers: &HeaderMap, remote: IpAddr) -> bool {
        !self.options.trusted_proxies.trusts(remote)
            && PROXY_HEADERS.iter().any(|name| headers.contains_key(*name))
    }
}

/// The site in the `Origin` header, or the error in that header.
fn origin(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut origins = headers.get_all(header::ORIGIN).iter().map(HeaderValue::to_str);
    match (origins.next(), origins.next()) {
        (None, _) => Ok(None),
        (Some(Ok(origin)), None) => Ok(Some(origin)),
        (Some(Err(_)), _) => Err("the Origin header is not ASCII"),
        (_, Some(_)) => Err("more than one Origin header"),
    }
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
    // One request per connection, so that the handshake timeout covers each of them.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if let Ok(content_type) = HeaderValue::from_str(response.content_type) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    answer
}

/// The HTTP answer for a refusal.
fn refused(refusal: &AdmissionRefusal) -> Answer {
    let body = format!("{}\n", refusal.reason);
    let mut answer = routed(RouteResponse::text(refusal.kind.status(), body));
    if let Some(wait) = refusal.retry_after {
        // Whole seconds, at least one.
        let seconds = wait.as_secs().max(1);
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    routed(RouteResponse::text(status.as_u16(), body))
}

fn upgrade_required(body: impl Into<Bytes>) -> Answer {
    let mut answer = text(StatusCode::UPGRADE_REQUIRED, body);
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade, close"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    answer
}
