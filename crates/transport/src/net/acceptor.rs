//! Accepts TCP connections and runs their handshakes, within limits.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::connection::Connection;
use crate::counters::TransportCounters;
use crate::net::TrustedProxies;
use crate::net::limiter::{AddressKey, ConnectionLimits};
use crate::net::log_throttle::{LogThrottle, REPORT_PERIOD};
use crate::net::pending::PendingHandshakes;
use crate::net::socket::configure;
use crate::net::spare_files::{SpareFile, SpareFiles, is_out_of_files};

/// Connections that the system queues until they are accepted: enough for a few thousand clients
/// that reconnect together. The system drops further ones, and they retry after a second. Systems
/// apply a maximum of their own (Linux: `net.core.somaxconn`, 4,096).
const BACKLOG: u32 = 4_096;

/// The pause after the system has no descriptor or memory for a connection. Without it the acceptor
/// would use a whole core for retries.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Spare descriptors that the acceptor leaves for the admin port.
const LEFT_FOR_OTHERS: usize = 8;

/// The time for refusing one client with a spare descriptor.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// The log line when no descriptors are left.
const NO_FILES: &str = "connections refused: no file descriptors are left for more; raise the limit \
    (`ulimit -n`, LimitNOFILE of systemd), or lower `--max-connections`";

/// A TCP port and its pending handshakes.
///
/// All work happens within [`accept`](Self::accept). Between two calls new connections wait in the
/// operating system's queue, and completed handshakes wait here.
#[derive(Debug)]
pub(super) struct Acceptor {
    tcp: TcpListener,
    address: SocketAddr,
    settings: AcceptorSettings,
    handshakes: JoinSet<Option<Connection>>,
    pending: PendingHandshakes,
    paused_until: Option<Instant>,
    /// A spare descriptor that was closed so that the next connection can be accepted.
    spare_file: Option<SpareFile>,
    report: Interval,
}

/// The settings of an [`Acceptor`].
#[derive(Debug, Clone)]
pub(super) struct AcceptorSettings {
    /// The acceptor applies the limits on pending handshakes; the handshakes apply the others.
    pub limits: ConnectionLimits,
    /// The time for one handshake.
    pub handshake_timeout: Duration,
    /// When a peer counts as gone.
    pub dead_peer_timeout: Duration,
    /// Addresses that are not held to the limit of one address.
    pub proxies: TrustedProxies,
    /// Counts the handshakes that are dropped.
    pub counters: Arc<TransportCounters>,
    /// Limits the log lines to one a minute for each cause.
    pub log: Arc<LogThrottle>,
    /// Spare descriptors for refusing clients when no others are left.
    pub spare_files: Option<Arc<SpareFiles>>,
}

/// Whether there are file descriptors for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descriptors {
    /// The connection may be admitted.
    Available,
    /// The connection must be refused.
    Exhausted,
}

impl Acceptor {
    /// Listens on an address; port 0 lets the system choose one.
    pub(super) async fn bind(
        address: impl ToSocketAddrs,
        settings: AcceptorSettings,
    ) -> io::Result<Self> {
        let tcp = listen(address).await?;
        let mut report = tokio::time::interval(REPORT_PERIOD);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            address: tcp.local_addr()?,
            tcp,
            settings,
            handshakes: JoinSet::new(),
            pending: PendingHandshakes::default(),
            paused_until: None,
            spare_file: None,
            report,
        })
    }

    /// The address that it listens on, with the port that the system chose.
    pub(super) fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection whose handshake has succeeded. The call may be dropped at any time.
    ///
    /// Drops a handshake at its timeout, or when a new connection displaces it. A handshake counts
    /// its own failure.
    pub(super) async fn accept<F>(
        &mut self,
        handshake: impl Fn(TcpStream, SocketAddr, Descriptors) -> F,
    ) -> Connection
    where
        F: Future<Output = Option<Connection>> + Send + 'static,
    {
        loop {
            let waits_until = self.waits_until();
            let waited = async {
                match waits_until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // First, so that finished handshakes make room before another begins.
                biased;
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Some(connection)) => return connection,
                    Ok(None) => {}
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(%error, "a handshake panicked"),
                },
                _ = self.report.tick() => self.settings.log.report(),
                () = waited => self.paused_until = None,
                accepted = self.tcp.accept(), if waits_until.is_none() => match accepted {
                    Ok((stream, peer)) => self.begin(stream, peer, &handshake),
                    Err(error) => self.accept_failed(&error),
                },
            }
        }
    }

    /// The time until which no connection is accepted: after an error, and while all handshakes are
    /// young and their limit is reached. Young handshakes are probably genuine ones on a busy
    /// machine, so they are not displaced; new connections wait in the system's queue.
    fn waits_until(&mut self) -> Option<Instant> {
        if self.paused_until.is_some() {
            return self.paused_until;
        }
        let limits = self.settings.limits;
        if self.handshakes.len() < limits.pending.max(1) {
            return None;
        }
        let oldest = self.pending.oldest()?;
        Some(oldest + limits.displace_after).filter(|until| *until > Instant::now())
    }

    fn begin<F>(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        handshake: impl Fn(TcpStream, SocketAddr, Descriptors) -> F,
    ) where
        F: Future<Output = Option<Connection>> + Send + 'static,
    {
        let spare_file = self.spare_file.take();
        let is_short = spare_file.is_some()
            || self.settings.spare_files.as_ref().is_some_and(|files| !files.is_complete());
        if let Err(error) = configure(&stream, self.settings.dead_peer_timeout) {
            tracing::debug!(%peer, %error, "a connection ended before it began");
            return;
        }
        let exempt = self.settings.proxies.trusts(peer.ip());
        let address = (!exempt).then(|| AddressKey::from(peer.ip()));
        self.displace_if_full(peer, address);
        let (room, limit) = if is_short {
            self.settings.counters.refused_no_files.increment();
            self.settings.log.warn(NO_FILES, peer);
            (Descriptors::Exhausted, REFUSAL_TIME)
        } else {
            (Descriptors::Available, self.settings.handshake_timeout)
        };
        let counters = Arc::clone(&self.settings.counters);
        let pending = PendingGuard::new(Arc::clone(&counters));
        let handshake = handshake(stream, peer, room);
        let handle = self.handshakes.spawn(async move {
            let done = tokio::time::timeout(limit, handshake).await;
            drop(pending);
            drop(spare_file);
            done.unwrap_or_else(|_| {
                counters.handshakes_timed_out.increment();
                tracing::debug!(%peer, "no handshake in time");
                None
            })
        });
        self.pending.add(address, handle);
    }

    /// Displaces an old handshake if the limit is reached: one of this address if it exceeds its
    /// share, else one of another address that exceeds its share, else the oldest of all.
    ///
    /// Below the limit an address may exceed its share: when an office reconnects to a busy
    /// machine, its handshakes grow old before they complete.
    fn displace_if_full(&mut self, peer: SocketAddr, address: Option<AddressKey>) {
        let ConnectionLimits { pending, pending_per_address, displace_after, .. } =
            self.settings.limits;
        let (max, share) = (pending.max(1), pending_per_address.max(1));
        self.pending.prune_beyond(max);
        if self.handshakes.len() < max {
            return;
        }
        // On a clock that has just started no handshake is that old.
        let Some(before) = Instant::now().checked_sub(displace_after) else { return };
        let of_address = address.is_some_and(|address| {
            self.pending.has(address, share)
                && self.pending.displace(before, |_, other| other == Some(address))
        });
        let displaced = of_address
            || self.pending.displace(before, |counts, other| {
                other.and_then(|other| counts.get(&other)).is_some_and(|count| *count > share)
            })
            || self.pending.displace(before, |_, _| true);
        if displaced {
            self.settings.counters.handshakes_displaced.increment();
            tracing::debug!(%peer, of_address, "too many pending handshakes: displacing an old one");
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        match error.kind() {
            // The client has disconnected before its connection was accepted.
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted => return,
            _ => {}
        }
        // If a spare descriptor was closed already, another part of the program has taken it.
        let had_none = self.spare_file.take().is_none();
        if had_none
            && is_out_of_files(error)
            && let Some(spare_files) = &self.settings.spare_files
        {
            self.spare_file = spare_files.take(LEFT_FOR_OTHERS);
        }
        if self.spare_file.is_none() {
            let cause = format!("no connection can be accepted, which is tried again: {error}");
            self.settings.log.warn(cause, self.address);
            self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
        }
    }
}

/// Listens on the first usable address.
async fn listen(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
    for address in lookup_host(address).await? {
        let listening = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // A restarted server gets its port back at once. On Windows the option would let two
            // servers share the port.
            #[cfg(not(windows))]
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        match listening() {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Counts one pending handshake.
pub(super) struct PendingGuard(Arc<TransportCounters>);

impl PendingGuard {
    pub(super) fn new(counters: Arc<TransportCounters>) -> Self {
        counters.pending.increment();
        Self(counters)
    }
}

impl Drop for PendingGuard {
    fn drop(&mut self) {
        self.0.pending.decrement();
    }
}
