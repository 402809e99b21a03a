//! The scenario of a run, derived from its seed: the nodes, the clients, their connections, and the
//! kinds and probabilities of faults.

use downbeat_driver::TurnLimits;
use downbeat_sync::{Config, Millis};

use crate::rng::Rng;

/// Limits so small that a few transactions need several messages and turns.
const SMALL_TURNS: TurnLimits = TurnLimits { turn_bytes: 500, message_bytes: 200 };

/// The parameters of a run, fixed before it starts.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches")]
pub(crate) struct Scenario {
    pub shape: &'static str,
    pub nodes: Vec<NodePlan>,
    /// For each honest client, the node that it connects to.
    pub clients: Vec<usize>,
    /// For each lying peer, the node that it connects to.
    pub liars: Vec<usize>,
    /// The number of acts of each honest client.
    pub acts_per_client: usize,
    /// The number of acts of each lying peer.
    pub acts_per_liar: usize,
    /// The longest pause between two acts of a client.
    pub pause: Millis,
    /// The shortest and the longest delay of a message.
    pub delay: (Millis, Millis),
    /// The longest duration of a storage operation.
    pub storage_delay: Millis,
    /// The longest duration of a verification.
    pub verify_delay: Millis,
    /// The longest time between two faults.
    pub misfortune_pause: Millis,
    pub misfortunes: Misfortunes,
    /// The probability that a storage operation fails, in percent.
    pub storage_failures: usize,
    /// Whether every client reconnects after the faults have ended.
    pub reconnects_at_last: bool,
    /// Whether there are CoValues so large that they are sent in several pieces.
    pub large: bool,
    /// The limits for splitting content into turns and messages.
    pub turns: TurnLimits,
    /// Whether clients delete CoValues.
    pub deletions: bool,
    /// The probability that another writer writes to a node's storage before the node does, in
    /// percent.
    pub foreign_writes: usize,
    /// Whether clients drop copies, or lose the end of their sessions.
    pub forgetful: bool,
    /// The probability that a client reconciles all its copies when it connects, in percent.
    pub comparisons: usize,
    /// The probability that a node loses data when it stops, in percent.
    pub losses: usize,
    /// Whether nodes refuse some content of clients, as with quotas.
    pub refusals: bool,
}

/// The kinds of faults that are injected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Misfortunes {
    pub lost_links: bool,
    pub restarts: bool,
    pub slow_clients: bool,
}

/// A node.
#[derive(Debug, Clone)]
pub(crate) struct NodePlan {
    pub config: Config,
    /// The nodes that it connects to as its upstreams.
    pub upstreams: Vec<usize>,
    /// The content bytes that a peer may send before the node has released some.
    pub credit: i64,
    /// Bytes of durable content kept in memory.
    pub hot_bytes: u64,
}

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let (shape, upstreams) = shape(rng);
        let reconnects_at_last = rng.percent(30);
        let node_count = upstreams.len();
        let calm = rng.percent(10);
        let misfortunes = Misfortunes {
            lost_links: !calm && rng.percent(70),
            restarts: !calm && rng.percent(50),
            slow_clients: rng.percent(40),
        };
        let above: Vec<usize> = upstreams.iter().flatten().copied().collect();
        let mut nodes: Vec<NodePlan> = upstreams
            .into_iter()
            .map(|upstreams| NodePlan::new(rng, upstreams, reconnects_at_last))
            .collect();
        for node in above {
            // A node loads the CoValues of all its clients from its upstreams.
            nodes[node].config.subscriptions_per_peer = MAX_SUBSCRIPTIONS_OF_NODES;
        }
        let homes = |rng: &mut Rng, count: usize| -> Vec<usize> {
            (0..count).map(|_| rng.below(node_count)).collect()
        };
        let client_count = 1 + rng.below(4);
        let liar_count = if rng.percent(40) { 1 + rng.below(2) } else { 0 };
        Self {
            shape,
            nodes,
            clients: homes(rng, client_count),
            liars: homes(rng, liar_count),
            acts_per_client: 3 + rng.below(12),
            acts_per_liar: 5 + rng.below(25),
            pause: rng.one_of([5, 50, 500, 3_000]),
            delay: rng.one_of([(0, 0), (0, 3), (1, 40), (20, 200)]),
            storage_delay: rng.one_of([0, 5, 50, 500]),
            verify_delay: rng.one_of([0, 2, 30]),
            misfortune_pause: rng.one_of([50, 400, 3_000]),
            misfortunes,
            storage_failures: rng.one_of([0, 0, 0, 5, 30]),
            reconnects_at_last,
            large: rng.percent(12),
            turns: rng.one_of([TurnLimits::default(), SMALL_TURNS]),
            deletions: rng.percent(40),
            foreign_writes: rng.one_of([0, 0, 0, 10]),
            forgetful: rng.percent(30),
            comparisons: rng.one_of([0, 0, 50]),
            losses: rng.one_of([0, 0, 60]),
            refusals: rng.percent(20),
        }
    }

    /// Whether a node may lose data. A client that is connected to the node must still have all
    /// lost content. So the node must not be an upstream, and its clients must not drop content.
    pub(crate) fn may_lose(&self, node: usize) -> bool {
        let is_upstream = self.nodes.iter().any(|other| other.upstreams.contains(&node));
        !is_upstream && !self.forgetful && self.foreign_writes == 0
    }
}

impl NodePlan {
    fn new(rng: &mut Rng, upstreams: Vec<usize>, reconnects_at_last: bool) -> Self {
        let config = Config {
            warm_co_values: rng.one_of([1, 2, 5, 1_000, 1_000]),
            warm_chains: rng.one_of([0, 1, 3, 1_000, 1_000]),
            // Content that is dropped after the hold time is sent again only if the client
            // reconnects.
            hold_time: if reconnects_at_last {
                rng.one_of([20_000, 60_000])
            } else {
                LONG_HOLD_TIME
            },
            load_time: rng.one_of([1_000, 10_000, 60_000]),
            loads_per_upstream: rng.one_of([1, 2, 1_000]),
            upstreams_per_co_value: rng.one_of([1, usize::MAX, usize::MAX]),
            full_storage_reconciliation: rng.percent(30),
            storage_retry: rng.one_of([10, 1_000]),
            held_bytes_per_peer: 8 << 20,
            warm_bytes: u64::MAX,
            bytes_per_peer: u64::MAX,
            peer_bytes: u64::MAX,
            dependencies_per_peer: usize::MAX,
            subscriptions_per_peer: MAX_SUBSCRIPTIONS,
        };
        Self {
            config,
            upstreams,
            credit: rng.one_of([1, 2_000, 1 << 20]),
            hot_bytes: rng.one_of([0, 2_000, 1 << 20]),
        }
    }
}

/// Longer than any wait of a client.
const LONG_HOLD_TIME: Millis = 600_000;

/// More subscriptions than honest clients need, and fewer than lying peers request.
const MAX_SUBSCRIPTIONS: usize = 200;

/// More subscriptions than nodes need, even if they forward the requests of lying peers.
const MAX_SUBSCRIPTIONS_OF_NODES: usize = 5_000;

/// The upstreams of each node.
fn shape(rng: &mut Rng) -> (&'static str, Vec<Vec<usize>>) {
    let many = rng.percent(5);
    let size = |rng: &mut Rng, few: usize| if many { 4 + rng.below(5) } else { 2 + rng.below(few) };
    match rng.below(10) {
        0..3 => ("client/server", vec![Vec::new()]),
        3..6 => {
            let count = size(rng, 2);
            (
                "chain",
                (0..count)
                    .map(|n| (n + 1 < count).then_some(n + 1).into_iter().collect())
                    .collect(),
            )
        }
        6 => {
            let count = size(rng, 3);
            ("star", (0..count).map(|n| if n == 0 { Vec::new() } else { vec![0] }).collect())
        }
        7 => {
            let count = size(rng, 3);
            ("ring", (0..count).map(|n| vec![(n + 1) % count]).collect())
        }
        _ => {
            let count = size(rng, 2) + 1;
            let upstreams = (0..count)
                .map(|n| {
                    let first = (n + 1 + rng.below(count - 1)) % count;
                    let second = (n + 1 + rng.below(count - 1)) % count;
                    let mut upstreams = vec![first, second];
                    upstreams.dedup();
                    upstreams
                })
                .collect();
            ("mesh", upstreams)
        }
    }
}
