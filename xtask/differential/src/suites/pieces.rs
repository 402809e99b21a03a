//! Logs and content messages: the same cuts, signatures and expected counts.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use downbeat_core::CoValue;
use downbeat_crypto::{AgentSecret, HashChain, SignerSecret, header_id};
use downbeat_protocol::{
    CHUNK_LEN, CoValueId, Content, Header, KnownState, Limits, SessionContent, SessionCounts,
    SessionId, Signature, Transaction,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::given::{self, AGENTS, agent_secret};
use crate::random::Random;
use crate::suite::Rule;

pub(crate) struct Pieces;

#[derive(Serialize, Deserialize)]
pub(crate) struct Case {
    header: String,
    id: String,
    sessions: Vec<Author>,
    /// The counts that a trusted source announces.
    expect: Option<BTreeMap<String, u64>>,
    steps: Vec<Step>,
    /// The peers that receive content.
    peers: Vec<Option<Peer>>,
}

#[derive(Serialize, Deserialize)]
struct Author {
    session: String,
    secret: String,
}

/// A new transaction of the node, or a run from another author.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    author: usize,
    /// The signature of a run of another author. Without it, the node itself signs the only
    /// transaction.
    signature: Option<String>,
    /// The number of transactions at the start of the run that are already known.
    overlap: usize,
    /// The number of transactions that are missing before the run.
    gap: u64,
    transactions: Vec<Text>,
}

/// A transaction whose changes are a repeated text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    is_private: bool,
    unit: String,
    times: usize,
    made_at: u64,
    meta: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Peer {
    header: bool,
    sessions: BTreeMap<String, u64>,
}

impl Rule for Pieces {
    type Case = Case;

    fn case(random: &mut Random) -> Case {
        let header = header(random);
        let id = header_id(&header);
        let sessions: Vec<_> = (0..=random.below(4)).map(|_| Author::random(random)).collect();
        let mut made: Vec<Made> = sessions.iter().map(|_| Made::default()).collect();
        let steps = (0..random.below(9))
            .filter_map(|_| {
                let author = random.index(sessions.len());
                if made[author].is_spoilt {
                    return None;
                }
                let secret = AgentSecret::parse(&sessions[author].secret).expect("a valid secret");
                Some(Step::random(random, author, &mut made[author], secret.signer_secret()))
            })
            .collect();
        let counts: Vec<_> =
            sessions.iter().zip(&made).map(|(author, made)| (&author.session, made.len)).collect();
        // Peers do not announce content that the node writes itself.
        let foreign: Vec<_> = counts
            .iter()
            .zip(&made)
            .filter_map(|(counts, made)| (!made.is_own).then_some(*counts))
            .collect();
        let expect = random.percent(20).then(|| {
            let mut expect = some_counts(random, &foreign);
            expect.retain(|_, count| *count > 0);
            expect
        });
        let peers = (0..4)
            .map(|_| {
                random.percent(80).then(|| Peer {
                    header: random.percent(70),
                    sessions: some_counts(random, &counts),
                })
            })
            .chain([None])
            .collect();
        let header = String::from_utf8(header.json().to_vec()).expect("canonical JSON is text");
        Case { header, id: id.to_string(), sessions, expect, steps, peers }
    }

    fn answer(case: &Case) -> Result<Value> {
        let mut value =
            CoValue::new(Header::parse(&case.header.clone().into(), &Limits::unlimited())?);
        anyhow::ensure!(value.id().as_str() == case.id, "the id of the header differs");
        if let Some(expect) = &case.expect {
            value.expect(&counts(expect)?);
        }
        let steps = case
            .steps
            .iter()
            .map(|step| step.take(&mut value, &case.sessions[step.author]))
            .collect::<Result<Vec<_>>>()?;
        let pieces = case
            .peers
            .iter()
            .map(|peer| {
                let known = peer.as_ref().map(|peer| peer.known(value.id())).transpose()?;
                Ok(value.content_since(known.as_ref()).iter().map(summary).collect())
            })
            .collect::<Result<Vec<Vec<Value>>>>()?;
        Ok(json!({
            "steps": steps,
            "known": given::counts(&value.known_state().sessions),
            "isStreaming": value.is_streaming(),
            "pieces": pieces,
        }))
    }
}

/// The log of a session's author.
#[derive(Default)]
struct Made {
    chain: HashChain,
    len: u64,
    /// Whether the node itself has written to the session. The reference's native core cannot
    /// verify other transactions in such a session afterwards, which no node needs.
    is_own: bool,
    /// Whether a run was refused. The reference's native core keeps its transactions in the hash
    /// chain and then refuses all further runs, so nothing is compared afterwards.
    is_spoilt: bool,
}

impl Author {
    fn random(random: &mut Random) -> Self {
        let secret = agent_secret(random.byte() % AGENTS);
        let session = format!("{}_session_z{}", secret.agent(), random.base58(11));
        Self { session, secret: secret.expose_text().to_string() }
    }
}

impl Step {
    fn random(random: &mut Random, author: usize, made: &mut Made, secret: &SignerSecret) -> Self {
        let is_own = made.is_own || random.percent(35);
        made.is_own = is_own;
        let count = if is_own { 1 } else { 1 + random.below(6) };
        let mut transactions: Vec<_> = (0..count).map(|_| Text::random(random)).collect();
        let mut step = Self { author, signature: None, overlap: 0, gap: 0, transactions: vec![] };
        let mut chain = made.chain.clone();
        if is_own {
            // The reference encrypts the changes of private transactions itself.
            transactions[0].is_private = false;
        } else {
            if random.percent(20) {
                step.overlap = random.index(usize::try_from(made.len).unwrap_or(0).min(3) + 1);
            } else if random.percent(3) {
                step.gap = 1 + random.below(2);
            }
            if step.overlap > 0 && random.percent(20) {
                transactions.clear();
            }
        }
        for text in &transactions {
            chain.append(text.transaction().json());
        }
        if !is_own {
            let mut signed = chain.clone();
            if random.percent(5) {
                signed.append(b"something else");
            }
            step.signature = Some(secret.sign_chain(&signed).to_string());
            made.is_spoilt = signed.head() != chain.head() && !transactions.is_empty();
            if made.is_spoilt || step.gap > 0 {
                step.transactions = transactions;
                return step;
            }
        }
        made.chain = chain;
        made.len += transactions.len() as u64;
        step.transactions = transactions;
        step
    }

    /// Whether the transactions are accepted.
    fn take(&self, value: &mut CoValue, author: &Author) -> Result<bool> {
        let session = SessionId::parse(&author.session)?;
        let Some(signature) = &self.signature else {
            let text =
                self.transactions.first().context("a step of the node has no transaction")?;
            let secret = AgentSecret::parse(&author.secret)?;
            return Ok(value.append(&session, text.transaction(), secret.signer_secret()).is_ok());
        };
        let log = value.session(&session);
        let known = log.map_or(&[][..], |log| log.transactions());
        let first = known.len() - self.overlap;
        let mut transactions = known[first..].to_vec();
        transactions.extend(self.transactions.iter().map(Text::transaction));
        let run = SessionContent {
            session,
            after: first as u64 + self.gap,
            transactions,
            last_signature: Signature::parse(signature)?,
        };
        let content = Content {
            id: value.id(),
            header: None,
            priority: value.header().priority(),
            sessions: vec![run],
            malformed: Vec::new(),
            expect_content_until: None,
        };
        let ingested = value.ingest(&content, &|_: CoValueId| None)?;
        Ok(ingested.refused().count() == 0)
    }
}

impl Text {
    fn random(random: &mut Random) -> Self {
        let unit = random.pick(&["a", "a", "é", "日", "😀", "aé", "\\n"]);
        let (bytes, units) = (unit.len() as u64, unit.encode_utf16().count() as u64);
        let per_unit = if random.percent(50) { bytes } else { units };
        let length = match random.below(12) {
            0..=3 => random.below(200),
            4..=5 => 5_000 + random.below(20_000),
            6 => CHUNK_LEN / 2 - 8 + random.below(12),
            7 => CHUNK_LEN / 3 - 8 + random.below(12),
            8 => CHUNK_LEN - 12 + random.below(20),
            9 => random.below(CHUNK_LEN),
            10 => CHUNK_LEN + random.below(CHUNK_LEN),
            _ => 0,
        };
        Self {
            is_private: random.percent(50),
            unit: unit.to_owned(),
            times: usize::try_from(length / per_unit).unwrap_or(0),
            made_at: 1_700_000_000_000 + random.below(1_000),
            meta: random.percent(10).then(|| r#"{"a":"b"}"#.to_owned()),
        }
    }

    fn transaction(&self) -> Transaction {
        let text = self.unit.repeat(self.times);
        let meta = self.meta.as_deref();
        if self.is_private {
            Transaction::private(&format!("encrypted_U{text}"), "key_z1", self.made_at, meta)
        } else {
            Transaction::trusting(&format!("[\"{text}\"]"), self.made_at, meta)
        }
    }
}

impl Peer {
    fn known(&self, id: CoValueId) -> Result<KnownState> {
        Ok(KnownState { id, header: self.header, sessions: counts(&self.sessions)? })
    }
}

fn header(random: &mut Random) -> Header {
    const KINDS: &[(&str, &str)] =
        &[("comap", "null"), ("colist", "null"), ("costream", r#"{"type":"binary"}"#)];
    let (co_type, meta) = random.pick(KINDS);
    let json = format!(
        r#"{{"meta":{meta},"ruleset":{{"type":"unsafeAllowAll"}},"type":"{co_type}","uniqueness":"{}"}}"#,
        random.base58(16)
    );
    Header::parse(&json.into(), &Limits::unlimited()).expect("the header is valid")
}

fn some_counts(random: &mut Random, counts: &[(&String, u64)]) -> BTreeMap<String, u64> {
    let mut some = BTreeMap::new();
    for (session, count) in counts {
        if random.percent(60) {
            some.insert((*session).clone(), random.below(count + 2));
        }
    }
    if random.percent(10) {
        some.insert(given::session(random), 1 + random.below(3));
    }
    some
}

fn counts(counts: &BTreeMap<String, u64>) -> Result<SessionCounts> {
    counts.iter().map(|(session, count)| Ok((SessionId::parse(session)?, *count))).collect()
}

/// A content message without its transactions.
fn summary(piece: &Content) -> Value {
    let runs: Vec<_> = piece
        .sessions
        .iter()
        .map(|run| {
            let mut log = HashChain::new();
            for transaction in &run.transactions {
                log.append(transaction.json());
            }
            json!([
                run.session.as_str(),
                run.after,
                run.transactions.len(),
                run.last_signature.as_str(),
                log.head().to_string(),
            ])
        })
        .collect();
    json!({
        "header": piece.header.is_some(),
        "priority": piece.priority as u8,
        "runs": runs,
        "expect": piece.expect_content_until.as_ref().map(given::counts),
    })
}
