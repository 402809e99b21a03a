//! The admin port: HTTP, one request a connection.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use downbeat_transport::net::{Loan, Reserve, is_out_of_files};
use downbeat_transport_ws::RouteResponse;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Admin;
use crate::config::HostName;

/// Requests at the same time: a few people with a page each, and what collects the metrics. More
/// wait in the operating system's queue.
const MAX_CONNECTIONS: usize = 32;
/// From the connection to the end of the answer.
const REQUEST_TIME: Duration = Duration::from_secs(15);
/// Headers of a request; hyper's least buffer.
const MAX_HEADER_BYTES: usize = 8 << 10;
/// How often the log is told of that.
const WARN_PERIOD: Duration = Duration::from_mins(1);
/// How long nothing is accepted after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Nothing from elsewhere, and nothing inside a frame of another page.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Takes requests on the admin port.
pub(crate) struct AdminServer {
    tcp: TcpListener,
    address: SocketAddr,
    admin: Arc<Admin>,
    /// Names by which it may be called, in lower case.
    names: Arc<[HostName]>,
    /// Spare descriptors to accept with when there are no others left.
    reserve: Option<Arc<Reserve>>,
}

impl AdminServer {
    pub(super) async fn bind(
        address: SocketAddr,
        names: &[HostName],
        admin: Arc<Admin>,
        reserve: Option<Arc<Reserve>>,
    ) -> std::io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        Ok(Self { address: tcp.local_addr()?, tcp, admin, names: names.into(), reserve })
    }

    /// Where it listens, with the port that the system chose.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests for ever.
    pub(crate) async fn run(self) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut requests = JoinSet::new();
        let mut loan = None;
        let mut warned: Option<Instant> = None;
        loop {
            while requests.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            match self.tcp.accept().await {
                Ok((stream, peer)) => {
                    let admin = Arc::clone(&self.admin);
                    let names = Arc::clone(&self.names);
                    let borrowed: Option<Loan> = loan.take();
                    requests.spawn(async move {
                        let serving = serve(stream, &admin, &names);
                        if tokio::time::timeout(REQUEST_TIME, serving).await.is_err() {
                            debug!(%peer, "a request on the admin port took too long");
                        }
                        drop((place, borrowed));
                    });
                }
                Err(error) => {
                    let had_none = loan.take().is_none();
                    if had_none && is_out_of_files(&error) {
                        loan = self.reserve.as_ref().and_then(|reserve| reserve.lend(0));
                    }
                    if loan.is_none() {
                        let now = Instant::now();
                        if warned.is_none_or(|at| now.duration_since(at) >= WARN_PERIOD) {
                            warn!(%error, "no connection to the admin port can be accepted");
                            warned = Some(now);
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, admin: &Admin, names: &[HostName]) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(&request, admin, names).await)
    });
    let serving = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEADER_BYTES)
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        debug!(%error, "a bad request on the admin port");
    }
}

async fn answer(
    request: &Request<Incoming>,
    admin: &Admin,
    names: &[HostName],
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return respond(RouteResponse::text(405, "only GET is answered here\n"));
    }
    if !names_this_machine(request, names) {
        // A page from elsewhere whose host's name now stands for this machine (DNS rebinding). The
        // address that is listened on does not tell who can call: a container listens on all of its
        // own, which only its host may reach.
        let text = "call this port localhost, by its address, or by a name of admin-allowed-host\n";
        return respond(RouteResponse::text(421, text));
    }
    let uri = request.uri();
    respond(admin.respond(uri.path(), uri.query()).await)
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

/// Whether a request asks for `localhost` or an address, which no foreign name can stand for, or for
/// a name that is allowed.
fn names_this_machine(request: &Request<Incoming>, names: &[HostName]) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| is_own_name(host, names))
}

fn is_own_name(host: &str, names: &[HostName]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok()
        || names.iter().any(|own| own.0.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_localhost_addresses_and_allowed_names_are_names_of_this_machine() {
        let names = [HostName("sync.internal".to_owned())];
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
