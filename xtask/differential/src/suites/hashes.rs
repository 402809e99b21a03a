//! Hashes of values, session counts and logs.

use std::collections::BTreeMap;

use anyhow::Result;
use downbeat_crypto::{HashChain, hash, sessions_hash, short_hash};
use downbeat_protocol::json::canonicalize;
use downbeat_protocol::{Limits, SessionCounts, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::given;
use crate::json_text::{self, Style};
use crate::random::Random;
use crate::suite::Rule;

pub(crate) struct Hashes;

#[derive(Serialize, Deserialize)]
pub(crate) struct Case {
    value: String,
    sessions: BTreeMap<String, u64>,
    chain: Vec<String>,
}

impl Rule for Hashes {
    type Case = Case;

    fn case(random: &mut Random) -> Case {
        let mut value = String::new();
        json_text::value(random, Style::WILD, &mut value);
        let sessions = (0..random.below(6))
            .map(|_| {
                let bits = random.below(53);
                (given::session(random), 1 + (random.next() >> (11 + bits)))
            })
            .collect();
        let chain = (0..random.below(5))
            .map(|_| {
                let mut text = String::new();
                json_text::value(random, Style::TAME, &mut text);
                text.repeat(1 + random.index(40))
            })
            .collect();
        Case { value, sessions, chain }
    }

    fn answer(case: &Case) -> Result<Value> {
        let canonical = canonicalize(&case.value.clone().into(), &Limits::unlimited())?;
        let counts = case
            .sessions
            .iter()
            .map(|(session, count)| Ok((SessionId::parse(session)?, *count)))
            .collect::<Result<SessionCounts>>()?;
        let mut chain = HashChain::new();
        let heads: Vec<_> = case
            .chain
            .iter()
            .map(|text| {
                chain.append(text.as_bytes());
                chain.head().to_string()
            })
            .collect();
        Ok(json!({
            "hash": hash(&canonical).to_string(),
            "shortHash": short_hash(&canonical).to_string(),
            "sessions": sessions_hash(&counts).to_string(),
            "heads": heads,
        }))
    }
}
