//! Admission of peers to a listener: connection limits first, then [`Admission`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::{Admission, AdmissionRefusal, AdmissionRequest, Admitted};
use crate::counters::TransportCounters;
use crate::net::acceptor::Descriptors;
use crate::net::limiter::{ConnectionLimiter, ConnectionSlot, LimitReached};
use crate::net::log_throttle::LogThrottle;

/// Retry interval for a refused peer. Long enough that clients refused at the same moment, which
/// add a random delay of their own, do not all return at the same moment.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The reason sent to a client that is refused for want of capacity.
const NO_CAPACITY: &str = "this server has no room for more connections";

/// Admits or refuses peers, and counts both.
pub struct AdmissionControl {
    limiter: Arc<ConnectionLimiter>,
    admission: Option<Arc<dyn Admission>>,
    counters: Arc<TransportCounters>,
    log: Arc<LogThrottle>,
}

/// Held for as long as a connection lasts.
#[derive(Default)]
pub struct Permit {
    /// The name of the peer's key.
    pub label: Option<Arc<str>>,
    _slot: Option<ConnectionSlot>,
    _held: Option<Box<dyn Any + Send + Sync>>,
}

impl AdmissionControl {
    /// Applies this limiter, then `admission`. Without `admission` every peer is admitted.
    pub(super) fn new(
        limiter: Arc<ConnectionLimiter>,
        admission: Option<Arc<dyn Admission>>,
        counters: Arc<TransportCounters>,
        log: Arc<LogThrottle>,
    ) -> Self {
        Self { limiter, admission, counters, log }
    }

    /// Admits a peer, or says why not.
    pub fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        descriptors: Descriptors,
    ) -> Result<Permit, AdmissionRefusal> {
        if descriptors == Descriptors::Exhausted {
            // The acceptor has counted and logged it.
            return Err(AdmissionRefusal::unavailable(NO_CAPACITY, RETRY_AFTER));
        }
        let slot = self.limiter.acquire(request.remote, &self.counters).map_err(|limit| {
            self.log.warn(cause(limit, request.proxied), LoggedRequest(request));
            refusal(limit)
        })?;
        let admitted = match &self.admission {
            Some(admission) => admission.admit(request).inspect_err(|refusal| {
                self.counters.refused(refusal.kind);
                let cause = format!("connections refused: {}", refusal.reason);
                self.log.warn(cause, LoggedRequest(request));
            })?,
            None => Admitted::anonymous(),
        };
        Ok(Permit { label: admitted.label, _slot: Some(slot), _held: admitted.held })
    }

    /// The listener's counters.
    pub fn counters(&self) -> &Arc<TransportCounters> {
        &self.counters
    }
}

/// The log line for a limit that was reached, with the setting that changes it.
fn cause(limit: LimitReached, proxied: bool) -> &'static str {
    match limit {
        LimitReached::Total => {
            "connections refused: there are as many as `--max-connections` allows"
        }
        LimitReached::Address if proxied => {
            "connections refused: too many from one address, which is that of a proxy: name it with \
             `--trusted-proxy`, so that its clients are counted by their own addresses"
        }
        LimitReached::Address => {
            "connections refused: as many from one address as `--max-connections-per-address` \
             allows; if it is the address of a proxy, name it with `--trusted-proxy`"
        }
    }
}

/// A request as the log shows it: without its key.
struct LoggedRequest<'a>(&'a AdmissionRequest<'a>);

impl fmt::Display for LoggedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.remote)?;
        match self.0.origin {
            // The client chooses this text: keep it on one short line.
            Some(origin) => write!(f, " from a page of {:.100}", origin.escape_debug().to_string()),
            None => Ok(()),
        }
    }
}

fn refusal(limit: LimitReached) -> AdmissionRefusal {
    match limit {
        LimitReached::Total => AdmissionRefusal::unavailable(NO_CAPACITY, RETRY_AFTER),
        LimitReached::Address => AdmissionRefusal::too_many(
            "too many connections from your address (if this is a proxy's, the server must be set \
             to trust it)",
            RETRY_AFTER,
        ),
    }
}

impl fmt::Debug for AdmissionControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionControl").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("label", &self.label).finish_non_exhaustive()
    }
}
