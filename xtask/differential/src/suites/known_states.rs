//! Known states: merging, comparing and subtracting.

use std::collections::BTreeMap;

use anyhow::Result;
use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, KnownState, SessionCounts, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::given;
use crate::random::Random;
use crate::suite::Rule;

pub(crate) struct KnownStates;

#[derive(Serialize, Deserialize)]
pub(crate) struct Case {
    target: State,
    source: State,
}

#[derive(Serialize, Deserialize)]
struct State {
    header: bool,
    sessions: BTreeMap<String, u64>,
}

impl Rule for KnownStates {
    type Case = Case;

    fn case(random: &mut Random) -> Case {
        let sessions: Vec<_> = (0..=random.below(8)).map(|_| given::session(random)).collect();
        let counts = 1 + random.below(5);
        let mut state = || State {
            header: random.percent(70),
            sessions: sessions
                .iter()
                .filter_map(|session| {
                    let is_there = random.percent(70);
                    let count = random.below(counts);
                    is_there.then(|| (session.clone(), count))
                })
                .collect(),
        };
        Case { target: state(), source: state() }
    }

    /// Removes sessions without transactions, which have no effect in the reference either.
    fn answer(case: &Case) -> Result<Value> {
        let (target, source) = (case.target.parse()?, case.source.parse()?);
        let mut merged = target.clone();
        known_state::merge(&mut merged, &source);
        let mut merged_counts = target.sessions.clone();
        known_state::merge_counts(&mut merged_counts, &source.sessions);
        Ok(json!({
            "merged": { "header": merged.header, "sessions": given::counts(&merged.sessions) },
            "mergedCounts": given::counts(&merged_counts),
            "isSubset": known_state::is_subset(&source.sessions, &target.sessions),
            "toSend": given::counts(&known_state::missing(&source.sessions, &target.sessions)),
        }))
    }
}

impl State {
    fn parse(&self) -> Result<KnownState> {
        let sessions = self
            .sessions
            .iter()
            .map(|(session, count)| Ok((SessionId::parse(session)?, *count)))
            .collect::<Result<SessionCounts>>()?;
        Ok(KnownState { id: CoValueId::parse("co_z1")?, header: self.header, sessions })
    }
}
