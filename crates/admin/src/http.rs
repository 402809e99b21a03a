//! The admin port: HTTP, with one request per connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use downbeat_transport::net::{SpareFile, SpareFiles, is_out_of_files};
use downbeat_transport_ws::RouteResponse;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Admin;

/// The limit of open connections: a few browsers and the metrics collector. A further connection
/// replaces the oldest one that waits for its client.
const MAX_CONNECTIONS: usize = 64;
/// The age from which a connection may be replaced. A healthy client sends its request right away.
const LEAST_TIME: Duration = Duration::from_millis(200);
/// The time limit for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// The time limit for a connection, including the answer.
const REQUEST_TIME: Duration = Duration::from_secs(15);
/// Bytes of a request's headers; the smallest buffer of hyper.
const MAX_HEADER_BYTES: usize = 8 << 10;
/// The time between warnings about failed accepts.
const WARN_PERIOD: Duration = Duration::from_mins(1);
/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The content security policy: no resources from other sites, and no framing by other pages.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The listening admin port.
pub struct AdminServer {
    tcp: TcpListener,
    address: SocketAddr,
    admin: Arc<Admin>,
    /// The allowed host names.
    names: Arc<[String]>,
    /// Spare descriptors for the time when no others are left.
    reserve: Option<Arc<SpareFiles>>,
}

impl AdminServer {
    pub(super) async fn bind(
        address: SocketAddr,
        names: &[String],
        admin: Arc<Admin>,
        reserve: Option<Arc<SpareFiles>>,
    ) -> std::io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        Ok(Self { address: tcp.local_addr()?, tcp, admin, names: names.into(), reserve })
    }

    /// The address, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests. Never returns.
    pub async fn run(self) {
        let mut connections = Connections::default();
        let mut loan = None;
        let mut warned: Option<Instant> = None;
        loop {
            connections.make_room().await;
            match self.tcp.accept().await {
                Ok((stream, peer)) => {
                    let admin = Arc::clone(&self.admin);
                    let names = Arc::clone(&self.names);
                    let borrowed: Option<SpareFile> = loan.take();
                    connections.spawn(|is_answering| async move {
                        let serving = serve(stream, &admin, &names, &is_answering);
                        if tokio::time::timeout(REQUEST_TIME, serving).await.is_err() {
                            debug!(%peer, "a request to the admin port timed out");
                        }
                        drop(borrowed);
                    });
                }
                Err(error) => {
                    let had_none = loan.take().is_none();
                    if had_none && is_out_of_files(&error) {
                        loan = self.reserve.as_ref().and_then(|reserve| reserve.take(0));
                    }
                    if loan.is_none() {
                        let now = Instant::now();
                        if warned.is_none_or(|at| now.duration_since(at) >= WARN_PERIOD) {
                            warn!(%error, "the admin port cannot accept connections");
                            warned = Some(now);
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
}

/// The open connections, the oldest first.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: VecDeque<Connection>,
}

struct Connection {
    since: Instant,
    /// Whether the server is preparing the answer. Such a connection is not replaced.
    is_answering: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Connections {
    fn spawn<F>(&mut self, serve: impl FnOnce(Arc<AtomicBool>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let is_answering = Arc::new(AtomicBool::new(false));
        let task = self.tasks.spawn(serve(Arc::clone(&is_answering)));
        self.open.push_back(Connection { since: Instant::now(), is_answering, task });
    }

    /// Waits until there is room for one more connection.
    async fn make_room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.open.retain(|connection| !connection.task.is_finished());
            if self.open.len() < MAX_CONNECTIONS {
                return;
            }
            let waits = |connection: &Connection| !connection.is_answering.load(Ordering::Relaxed);
            let Some(oldest) = self.open.iter().position(waits) else {
                self.tasks.join_next().await;
                continue;
            };
            let may_go_at = self.open[oldest].since + LEAST_TIME;
            if Instant::now() < may_go_at {
                tokio::select! {
                    _ = self.tasks.join_next() => {}
                    () = tokio::time::sleep_until(may_go_at) => {}
                }
                continue;
            }
            if let Some(connection) = self.open.remove(oldest) {
                connection.task.abort();
                debug!("closed a slow connection to the admin port to make room for a new one");
            }
        }
    }
}

async fn serve(stream: TcpStream, admin: &Admin, names: &[String], is_answering: &AtomicBool) {
    let service = service_fn(|request: Request<Incoming>| async move {
        is_answering.store(true, Ordering::Relaxed);
        let answer = answer(&request, admin, names).await;
        is_answering.store(false, Ordering::Relaxed);
        Ok::<_, Infallible>(answer)
    });
    let serving = http1::Builder::new()
        .keep_alive(false)
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEADER_BYTES)
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        debug!(%error, "a bad request to the admin port");
    }
}

async fn answer(
    request: &Request<Incoming>,
    admin: &Admin,
    names: &[String],
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return respond(RouteResponse::text(405, "this port answers GET requests only\n"));
    }
    if !names_this_machine(request, names) {
        // Protects against DNS rebinding: a page of another site whose host name resolves to this
        // machine. The check applies to all addresses, because the listening address does not show
        // who can reach it: a container listens on all its addresses, behind its host.
        let text =
            "wrong host name: use localhost, an address, or a name from admin-allowed-host\n";
        return respond(RouteResponse::text(421, text));
    }
    let uri = request.uri();
    // Several headers mean the same as one with all values (RFC 9110, 5.3).
    let accept = request.headers().get_all(header::ACCEPT);
    let accept: Vec<_> = accept.iter().filter_map(|value| value.to_str().ok()).collect();
    respond(admin.respond(uri.path(), uri.query(), &accept.join(",")).await)
}

fn respond(answer: RouteResponse) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_TYPE, answer.content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether the `Host` of a request is `localhost`, an address, or an allowed name. DNS rebinding
/// cannot forge the first two.
fn names_this_machine(request: &Request<Incoming>, names: &[String]) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| is_own_name(host, names))
}

fn is_own_name(host: &str, names: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok()
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_localhost_addresses_and_allowed_names_are_names_of_this_machine() {
        let names = ["sync.internal".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:4201",
            "127.0.0.1:4201",
            "[::1]:4201",
            "10.0.0.1",
            "Sync.internal:4201",
        ] {
            assert!(is_own_name(host, &names), "{host}");
        }
        for host in
            ["evil.example", "evil.example:4201", "localhost.evil.example", "", ":80", "internal"]
        {
            assert!(!is_own_name(host, &names), "{host}");
        }
    }
}
