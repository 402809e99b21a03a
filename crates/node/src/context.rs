//! What connections share with the node.

use std::sync::Arc;

use downbeat_driver::ContentStore;
use downbeat_sync::Event;
use tokio::sync::{mpsc, watch};

use crate::addresses::Addresses;
use crate::credit::CreditPool;
use crate::limits::NodeLimits;
use crate::output::Output;
use crate::policy::ContentPolicy;
use crate::stage::Stage;
use crate::stats::Counters;
use crate::turn_slot::FinishedTurns;
use crate::usage::Usage;

/// What a connection needs of the node.
#[derive(Clone)]
pub(crate) struct NodeContext {
    pub events: mpsc::Sender<Event>,
    pub finished: Arc<FinishedTurns>,
    pub content: ContentStore,
    pub stage: watch::Receiver<Stage>,
    pub counters: Arc<Counters>,
    pub usage: Arc<Usage>,
    pub policy: Arc<ContentPolicy>,
    pub limits: NodeLimits,
    pub addresses: Arc<Addresses>,
    pub credit: Arc<CreditPool>,
    pub output: Arc<Output>,
}
