//! Values that several suites use.

use std::collections::BTreeMap;

use downbeat_crypto::AgentSecret;
use downbeat_protocol::SessionCounts;

use crate::random::Random;

/// The number of agents. Small, so that both sides can cache them.
pub(crate) const AGENTS: u8 = 6;

/// The secret of one of the agents.
pub(crate) fn agent_secret(number: u8) -> AgentSecret {
    AgentSecret::from_secret_seed(&[number; 32])
}

/// A session id of an account or an agent.
pub(crate) fn session(random: &mut Random) -> String {
    let owner = if random.percent(80) {
        format!("co_z{}", random.base58(25))
    } else {
        agent_secret(random.byte() % AGENTS).agent().to_string()
    };
    format!("{owner}_session_z{}", random.base58(11))
}

/// Counts in the form of the comparison.
pub(crate) fn counts(counts: &SessionCounts) -> BTreeMap<String, u64> {
    counts.iter().map(|(session, count)| (session.to_string(), *count)).collect()
}
