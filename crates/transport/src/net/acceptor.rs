//! Taking TCP connections and carrying out their handshakes, within limits.

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
use crate::net::notices::NOTICE_PERIOD;
use crate::net::pending::Pending;
use crate::net::reserve::Loan;
use crate::net::{AddressKey, ConnectionLimits, Notices, Reserve, TrustedProxies, configure};

/// Connections that the system keeps until they are accepted: a few thousand clients that come back
/// at once. Beyond it the system drops them, and they try again after a second. Systems lower it to a
/// maximum of their own (Linux: `net.core.somaxconn`, 4,096).
const BACKLOG: u32 = 4_096;

/// How long no connection is accepted after the system refused one, for want of descriptors or
/// memory: trying again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Spare descriptors that are not used to refuse clients, so that the admin port has them.
const KEPT_FOR_OTHERS: usize = 8;

/// The time for refusing a client when descriptors are short, each of which holds a spare one.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// What is told when there are no descriptors left.
const NO_FILES: &str = "connections refused: no file descriptors are left for more; raise the limit \
    (`ulimit -n`, LimitNOFILE of systemd), or lower `--max-connections`";

/// What a listener is made of: a TCP port, and the handshakes under way.
///
/// Everything happens within [`accept`](Self::accept): while nobody calls it, new connections wait
/// in the operating system's queue, and handshakes that are complete wait here.
#[derive(Debug)]
pub struct Acceptor {
    tcp: TcpListener,
    address: SocketAddr,
    settings: AcceptorSettings,
    handshakes: JoinSet<Option<Connection>>,
    pending: Pending,
    paused_until: Option<Instant>,
    /// A spare descriptor that was given up to accept with.
    loan: Option<Loan>,
    report: Interval,
}

/// How an [`Acceptor`] treats handshakes.
#[derive(Debug, Clone)]
pub struct AcceptorSettings {
    /// Those on pending handshakes are its affair; the others the handshakes' own.
    pub limits: ConnectionLimits,
    /// The time for one handshake.
    pub handshake_timeout: Duration,
    /// When a peer counts as gone.
    pub dead_peer_timeout: Duration,
    /// Addresses that are not held to the limit of one address.
    pub proxies: TrustedProxies,
    /// Counts the handshakes that are given up.
    pub counters: Arc<TransportCounters>,
    /// Tells the log, once a minute.
    pub notices: Arc<Notices>,
    /// Spare descriptors with which clients are refused when there are no others.
    pub reserve: Option<Arc<Reserve>>,
}

/// Whether there is room for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It may become one, if the limits and whoever admits peers let it.
    Free,
    /// It has to be refused: there are no descriptors for it.
    None,
}

impl Acceptor {
    /// Listens on an address; port 0 lets the system choose one.
    pub async fn bind(address: impl ToSocketAddrs, settings: AcceptorSettings) -> io::Result<Self> {
        let tcp = listen(address).await?;
        let mut report = tokio::time::interval(NOTICE_PERIOD);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            address: tcp.local_addr()?,
            tcp,
            settings,
            handshakes: JoinSet::new(),
            pending: Pending::default(),
            paused_until: None,
            loan: None,
            report,
        })
    }

    /// The address that it listens on, with the port that the system chose.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection that came of a handshake. The call may be dropped at any time.
    ///
    /// Each handshake is dropped when its time is over, or when it is old and has to make room for
    /// another; one that fails counts itself.
    pub async fn accept<F>(
        &mut self,
        handshake: impl Fn(TcpStream, SocketAddr, Room) -> F,
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
                    Err(error) => tracing::error!(%error, "a handshake broke off"),
                },
                _ = self.report.tick() => self.settings.notices.report(),
                () = waited => self.paused_until = None,
                accepted = self.tcp.accept(), if waits_until.is_none() => match accepted {
                    Ok((stream, peer)) => self.begin(stream, peer, &handshake),
                    Err(error) => self.accept_failed(&error),
                },
            }
        }
    }

    /// Until when no connection is accepted: after an error, and while there are as many handshakes
    /// as there may be and all of them are young. Those are real ones that a busy machine has not
    /// come to, so none is given up, and new connections wait in the system's queue.
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
        handshake: impl Fn(TcpStream, SocketAddr, Room) -> F,
    ) where
        F: Future<Output = Option<Connection>> + Send + 'static,
    {
        let loan = self.loan.take();
        let is_short =
            loan.is_some() || self.settings.reserve.as_ref().is_some_and(|files| !files.is_whole());
        if let Err(error) = configure(&stream, self.settings.dead_peer_timeout) {
            tracing::debug!(%peer, %error, "a connection ended before it began");
            return;
        }
        let exempt = self.settings.proxies.trusts(peer.ip());
        let address = (!exempt).then(|| AddressKey::from(peer.ip()));
        self.make_room(peer, address);
        let (room, limit) = if is_short {
            self.settings.counters.refused_no_files.increment();
            self.settings.notices.note(NO_FILES, peer);
            (Room::None, REFUSAL_TIME)
        } else {
            (Room::Free, self.settings.handshake_timeout)
        };
        let counters = Arc::clone(&self.settings.counters);
        let under_way = UnderWay::new(Arc::clone(&counters));
        let handshake = handshake(stream, peer, room);
        let handle = self.handshakes.spawn(async move {
            let done = tokio::time::timeout(limit, handshake).await;
            drop(under_way);
            drop(loan);
            done.unwrap_or_else(|_| {
                counters.handshakes_timed_out.increment();
                tracing::debug!(%peer, "no handshake in time");
                None
            })
        });
        self.pending.add(address, handle);
    }

    /// Gives up an old handshake if there are as many as there may be: of this address if it has
    /// more than its share, or else of another address that has, or else the oldest of all.
    ///
    /// An address may have more than its share as long as there is room: on a busy machine the
    /// handshakes of an office that comes back all at once are old before they are done.
    fn make_room(&mut self, peer: SocketAddr, address: Option<AddressKey>) {
        let ConnectionLimits { pending, pending_per_address, displace_after, .. } =
            self.settings.limits;
        let (max, share) = (pending.max(1), pending_per_address.max(1));
        self.pending.forget_finished_beyond(max);
        if self.handshakes.len() < max {
            return;
        }
        // None is that old on a clock that has just begun.
        let Some(before) = Instant::now().checked_sub(displace_after) else { return };
        let of_address = address.is_some_and(|address| {
            self.pending.has(address, share)
                && self.pending.give_up(before, |_, other| other == Some(address))
        });
        let displaced = of_address
            || self.pending.give_up(before, |counts, other| {
                other.and_then(|other| counts.get(&other)).is_some_and(|count| *count > share)
            })
            || self.pending.give_up(before, |_, _| true);
        if displaced {
            self.settings.counters.handshakes_displaced.increment();
            tracing::debug!(%peer, of_address, "too many pending handshakes: giving up an old one");
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        match error.kind() {
            // That one connection was gone before it was accepted.
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted => return,
            _ => {}
        }
        // One that did not help was taken by another part of the program.
        let had_none = self.loan.take().is_none();
        if had_none
            && is_out_of_files(error)
            && let Some(reserve) = &self.settings.reserve
        {
            self.loan = reserve.lend(KEPT_FOR_OTHERS);
        }
        if self.loan.is_none() {
            let cause = format!("no connection can be accepted, which is tried again: {error}");
            self.settings.notices.note(cause, self.address);
            self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
        }
    }
}

/// Whether an error of the system says that this process, or the system, has no descriptors left.
pub fn is_out_of_files(error: &io::Error) -> bool {
    /// `EMFILE` and `ENFILE`, which are the same on all systems that have them.
    const CODES: [i32; 2] = [24, 23];
    cfg!(unix) && error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

/// Listens on the first of the addresses that can be listened on.
async fn listen(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
    for address in lookup_host(address).await? {
        let listening = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // So that a server that is started again gets its port back at once. Windows gives it
            // a meaning that is not wanted.
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

/// Counts a handshake as long as it is under way.
struct UnderWay(Arc<TransportCounters>);

impl UnderWay {
    fn new(counters: Arc<TransportCounters>) -> Self {
        counters.pending.increment();
        Self(counters)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.pending.decrement();
    }
}
