//! The way in: limits first, then admission.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::{Admission, AdmissionRequest, Admitted, Refusal};
use crate::counters::TransportCounters;
use crate::net::{ConnectionLimits, Full, Gate, Place};

/// When a peer that found no place may try again: clients that are turned away all at once should
/// not come back all at once, and their own waits are spread.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Lets peers in, or says why not; and counts both.
pub struct Door {
    gate: Arc<Gate>,
    admission: Option<Arc<dyn Admission>>,
    counters: Arc<TransportCounters>,
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
    ) -> Self {
        Self { gate: Gate::new(limits, Arc::clone(&counters)), admission, counters }
    }

    /// Lets a peer in.
    pub fn enter(&self, request: &AdmissionRequest<'_>) -> Result<Pass, Refusal> {
        let place = self.gate.enter(request.remote).map_err(refusal)?;
        let admitted = match &self.admission {
            Some(admission) => admission.admit(request).inspect_err(|refusal| {
                self.counters.refused(refusal.kind);
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
