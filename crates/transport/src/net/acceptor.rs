//! Taking TCP connections and carrying out their handshakes, within limits.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::counters::TransportCounters;
use crate::net::{AddressKey, ConnectionLimits, TrustedProxies, configure};

/// How long no connection is accepted after the system refused one, for want of descriptors or
/// memory: trying again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    /// Whoever is not held to the limit of one address.
    pub proxies: TrustedProxies,
    /// What is told of handshakes that are given up.
    pub counters: Arc<TransportCounters>,
}

impl Acceptor {
    /// Listens on an address; port 0 lets the system choose one.
    pub async fn bind(address: impl ToSocketAddrs, settings: AcceptorSettings) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        Ok(Self {
            address: tcp.local_addr()?,
            tcp,
            settings,
            handshakes: JoinSet::new(),
            pending: Pending::default(),
            paused_until: None,
        })
    }

    /// The address that it listens on, with the port that the system chose.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection that came of a handshake. The call may be dropped at any time.
    ///
    /// Each handshake is dropped when its time is over, or when it has to make room for another; one
    /// that fails counts itself.
    pub async fn accept<F>(&mut self, handshake: impl Fn(TcpStream, SocketAddr) -> F) -> Connection
    where
        F: Future<Output = Option<Connection>> + Send + 'static,
    {
        loop {
            let paused_until = self.paused_until;
            let paused = async {
                match paused_until {
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
                () = paused => self.paused_until = None,
                accepted = self.tcp.accept(), if paused_until.is_none() => match accepted {
                    Ok((stream, peer)) => self.begin(stream, peer, &handshake),
                    Err(error) => self.accept_failed(&error),
                },
            }
        }
    }

    fn begin<F>(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        handshake: impl Fn(TcpStream, SocketAddr) -> F,
    ) where
        F: Future<Output = Option<Connection>> + Send + 'static,
    {
        if let Err(error) = configure(&stream, self.settings.dead_peer_timeout) {
            tracing::debug!(%peer, %error, "a connection ended before it began");
            return;
        }
        let exempt = self.settings.proxies.trusts(peer.ip());
        self.make_room(if exempt { None } else { Some(peer.ip()) });
        let limit = self.settings.handshake_timeout;
        let counters = Arc::clone(&self.settings.counters);
        let under_way = UnderWay::new(Arc::clone(&counters));
        let handshake = handshake(stream, peer);
        let handle = self.handshakes.spawn(async move {
            let done = tokio::time::timeout(limit, handshake).await;
            drop(under_way);
            done.unwrap_or_else(|_| {
                counters.handshakes_timed_out.increment();
                tracing::debug!(%peer, "no handshake in time");
                None
            })
        });
        self.pending.add(peer.ip(), handle);
    }

    /// Gives up the oldest handshakes until there is room for another; from this address, if its
    /// own limit is what is in the way.
    fn make_room(&mut self, address: Option<IpAddr>) {
        let limits = self.settings.limits;
        let of_address = address.is_some_and(|address| {
            let key = AddressKey::from(address);
            let max = limits.pending_per_address.max(1);
            if self.pending.count(key) >= max {
                self.pending.forget_finished();
            }
            self.pending.count(key) >= max && self.pending.give_up_oldest_of(key)
        });
        let max = limits.pending.max(1);
        self.pending.forget_finished_beyond(max);
        let of_all = self.handshakes.len() >= max && !of_address && self.pending.give_up_oldest();
        if of_address || of_all {
            self.settings.counters.handshakes_displaced.increment();
            tracing::debug!(of_address, "too many pending handshakes: giving up the oldest");
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        match error.kind() {
            // That one connection was gone before it was accepted.
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted => {}
            _ => {
                tracing::warn!(%error, "no connection can be accepted; trying again");
                self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
    }
}

/// The handshakes by age; those done are taken out when the oldest are looked at, and when there are
/// many.
#[derive(Debug, Default)]
struct Pending {
    by_age: VecDeque<(AddressKey, AbortHandle)>,
    by_address: HashMap<AddressKey, usize>,
}

impl Pending {
    fn add(&mut self, address: IpAddr, handshake: AbortHandle) {
        let key = AddressKey::from(address);
        *self.by_address.entry(key).or_default() += 1;
        self.by_age.push_back((key, handshake));
    }

    fn count(&self, key: AddressKey) -> usize {
        self.by_address.get(&key).copied().unwrap_or_default()
    }

    /// Takes out those done in the middle once they are as many as may be pending: they would
    /// otherwise stay as long as the oldest.
    fn forget_finished_beyond(&mut self, max: usize) {
        if self.by_age.len() >= 2 * max {
            self.forget_finished();
        }
        while let Some((key, _)) = self.by_age.pop_front_if(|(_, handle)| handle.is_finished()) {
            self.uncount(key);
        }
    }

    fn forget_finished(&mut self) {
        self.by_address.clear();
        self.by_age.retain(|(key, handle)| {
            let under_way = !handle.is_finished();
            if under_way {
                *self.by_address.entry(*key).or_default() += 1;
            }
            under_way
        });
    }

    fn give_up_oldest(&mut self) -> bool {
        let Some((key, oldest)) = self.by_age.pop_front() else { return false };
        self.uncount(key);
        oldest.abort();
        true
    }

    fn give_up_oldest_of(&mut self, key: AddressKey) -> bool {
        let position = self.by_age.iter().position(|(address, _)| *address == key);
        let Some((_, oldest)) = position.and_then(|at| self.by_age.remove(at)) else {
            return false;
        };
        self.uncount(key);
        oldest.abort();
        true
    }

    fn uncount(&mut self, key: AddressKey) {
        if let Some(count) = self.by_address.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&key);
            }
        }
    }
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
