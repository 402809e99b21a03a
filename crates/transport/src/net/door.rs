//! The way in: limits first, then admission.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::{Admission, AdmissionRequest, Admitted, Refusal};
use crate::counters::TransportCounters;
use crate::net::{ConnectionLimits, Full, Gate, Notices, Place};

/// When a peer that found no place may try again: clients that are turned away all at once should
/// not come back all at once, and their own waits are spread.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Lets peers in, or says why not; and counts both.
pub struct Door {
    gate: Arc<Gate>,
    admission: Option<Arc<dyn Admission>>,
    counters: Arc<TransportCounters>,
    notices: Arc<Notices>,
}

/// What a connection keeps as long as it lasts.
#[derive(Default)]
pub struct Pass {
    /// What the peer is known by.
    pub label: Option<Arc<str>>,
    _place: Option<Place>,
    _held: Option<Box<dyn Any + Send + Sync>>,
}

impl Door {
    /// A door with these limits; without `admission` everybody may come in.
    pub fn new(
        limits: ConnectionLimits,
        admission: Option<Arc<dyn Admission>>,
        counters: Arc<TransportCounters>,
        notices: Arc<Notices>,
    ) -> Self {
        Self { gate: Gate::new(limits, Arc::clone(&counters)), admission, counters, notices }
    }

    /// Lets a peer in.
    pub fn enter(&self, request: &AdmissionRequest<'_>) -> Result<Pass, Refusal> {
        let place = self.gate.enter(request.remote).map_err(|full| {
            self.notices.note(full_cause(full, request.proxied), Example(request));
            refusal(full)
        })?;
        let admitted = match &self.admission {
            Some(admission) => admission.admit(request).inspect_err(|refusal| {
                self.counters.refused(refusal.kind);
                let cause = format!("connections refused: {}", refusal.reason);
                self.notices.note(cause, Example(request));
            })?,
            None => Admitted::anonymous(),
        };
        Ok(Pass { label: admitted.label, _place: Some(place), _held: admitted.held })
    }

    /// Where everything is counted.
    pub fn counters(&self) -> &Arc<TransportCounters> {
        &self.counters
    }
}

/// What the operator is told of a limit that was reached.
fn full_cause(full: Full, proxied: bool) -> &'static str {
    match full {
        Full::Total => "connections refused: there are as many as `--max-connections` allows",
        Full::Address if proxied => {
            "connections refused: too many from one address, which is that of a proxy: name it with \
             `--trusted-proxy`, so that its clients are counted by their own addresses"
        }
        Full::Address => {
            "connections refused: as many from one address as `--max-connections-per-address` \
             allows; if it is the address of a proxy, name it with `--trusted-proxy`"
        }
    }
}

/// A request as the log shows it: without its key.
struct Example<'a>(&'a AdmissionRequest<'a>);

impl fmt::Display for Example<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.remote)?;
        match self.0.origin {
            // Whatever a client sends there, it is one short line.
            Some(origin) => write!(f, " from a page of {:.100}", origin.escape_debug().to_string()),
            None => Ok(()),
        }
    }
}

fn refusal(full: Full) -> Refusal {
    match full {
        Full::Total => {
            Refusal::unavailable("this server has no room for more connections", RETRY_AFTER)
        }
        Full::Address => Refusal::too_many(
            "too many connections from your address (if this is a proxy's, the server must be told \
             to trust it)",
            RETRY_AFTER,
        ),
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("label", &self.label).finish_non_exhaustive()
    }
}
