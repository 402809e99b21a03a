//! Content with valid signatures, created from a seed.

use downbeat_crypto::{AgentSecret, HashChain, header_id, session_id};
use downbeat_protocol::{
    CoValueId, Content, Header, KnownState, Owner, Ruleset, SessionContent, SessionCounts,
    SessionId, Signature, Transaction, Uniqueness,
};

/// The time of all transactions, in milliseconds since the Unix epoch.
const MADE_AT: u64 = 1_700_000_000_000;

/// The length of encrypted changes that set a key to a short text: about 100 bytes of JSON, in
/// base64.
const SMALL_CHANGES: usize = 150;

/// A small generator of pseudo-random numbers (`SplitMix64`).
pub(crate) struct Random(u64);

/// An account and its group, with the secret that signs for them.
pub(crate) struct Author {
    secret: AgentSecret,
    account: CoValueId,
    group: CoValueId,
    /// The content of the account and the group, which all other content depends on.
    basics: Vec<Content>,
    seed: u64,
}

/// The log of one session of a CoValue, for writing.
pub(crate) struct Log {
    header: Header,
    id: CoValueId,
    session: SessionId,
    chain: HashChain,
    count: u64,
    signature: Option<Signature>,
    random: Random,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Text that resembles base64 of encrypted bytes.
    fn base64(&mut self, length: usize) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::with_capacity(length + 10);
        while text.len() < length {
            let mut bits = self.next();
            for _ in 0..10 {
                text.push(char::from(DIGITS[(bits & 63) as usize]));
                bits >>= 6;
            }
        }
        text.truncate(length);
        text
    }
}

impl Author {
    pub(crate) fn new(seed: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let secret = AgentSecret::from_secret_seed(&key);
        let agent = secret.agent();
        let account_header = Header::account(&agent);
        let account = header_id(&account_header);
        let group_header = header(
            "comap",
            Ruleset::Group { initial_admin: Owner::Account(account) },
            None,
            seed,
            "group",
        );
        let group = header_id(&group_header);
        let mut author = Self { secret, account, group, basics: Vec::new(), seed };
        let own = session_id(&Owner::Agent(agent.clone()), [1; 8]);
        let mut account_log = Log::new(account_header, own, seed);
        let admin = format!(r#"[{{"key":"{agent}","op":"set","value":"admin"}}]"#);
        let mut group_log = Log::new(group_header, author.session(0), seed);
        let member = format!(r#"[{{"key":"{account}","op":"set","value":"admin"}}]"#);
        author.basics = vec![
            account_log.write_trusting(&author, &admin),
            group_log.write_trusting(&author, &member),
        ];
        author
    }

    /// The content that all other content of the author depends on.
    pub(crate) fn basics(&self) -> &[Content] {
        &self.basics
    }

    /// One of the account's sessions.
    pub(crate) fn session(&self, number: u64) -> SessionId {
        session_id(&Owner::Account(self.account), number.to_be_bytes())
    }

    /// A map of the group, for writing in one of the sessions.
    pub(crate) fn map(&self, name: &str, session: u64) -> Log {
        let ruleset = Ruleset::OwnedByGroup { group: self.group };
        let header = header("comap", ruleset, None, self.seed, name);
        Log::new(header, self.session(session), self.seed ^ session)
    }

    /// A binary stream of the group.
    pub(crate) fn stream(&self, name: &str) -> Log {
        let ruleset = Ruleset::OwnedByGroup { group: self.group };
        let header = header("costream", ruleset, Some(r#"{"type":"binary"}"#), self.seed, name);
        Log::new(header, self.session(0), self.seed)
    }
}

impl Log {
    fn new(header: Header, session: SessionId, seed: u64) -> Self {
        let id = header_id(&header);
        // The texts of two CoValues differ, too.
        let salt = id.as_str().bytes().fold(seed, |sum, byte| sum.rotate_left(7) ^ u64::from(byte));
        Self {
            header,
            id,
            session,
            chain: HashChain::new(),
            count: 0,
            signature: None,
            random: Random::new(salt),
        }
    }

    pub(crate) fn id(&self) -> CoValueId {
        self.id
    }

    pub(crate) fn session(&self) -> &SessionId {
        &self.session
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The signature of the whole log.
    pub(crate) fn signature(&self) -> Option<Signature> {
        self.signature
    }

    /// The known state of the log.
    pub(crate) fn known_state(&self) -> KnownState {
        let mut sessions = SessionCounts::new();
        sessions.set(&self.session, self.count);
        KnownState { id: self.id, header: true, sessions }
    }

    /// Writes small private transactions with one signature. The first content includes the header.
    pub(crate) fn write(&mut self, author: &Author, transactions: usize) -> Content {
        self.write_sized(author, transactions, SMALL_CHANGES)
    }

    /// Writes private transactions with one signature. `changes` is the length of the encrypted
    /// changes of each.
    pub(crate) fn write_sized(
        &mut self,
        author: &Author,
        transactions: usize,
        changes: usize,
    ) -> Content {
        let transactions = (0..transactions)
            .map(|_| {
                let changes = format!("encrypted_U{}", self.random.base64(changes));
                Transaction::private(&changes, "key_z8kWXpyEpVLFcGgn4L", MADE_AT, None)
            })
            .collect();
        self.sign(author, transactions)
    }

    fn write_trusting(&mut self, author: &Author, changes: &str) -> Content {
        self.sign(author, vec![Transaction::trusting(changes, MADE_AT, None)])
    }

    fn sign(&mut self, author: &Author, transactions: Vec<Transaction>) -> Content {
        for transaction in &transactions {
            self.chain.append(transaction.json());
        }
        let after = self.count;
        self.count += transactions.len() as u64;
        let last_signature = author.secret.signer_secret().sign_chain(&self.chain);
        self.signature = Some(last_signature);
        Content {
            id: self.id,
            header: (after == 0).then(|| self.header.clone()),
            priority: self.header.priority(),
            sessions: vec![SessionContent {
                session: self.session.clone(),
                after,
                transactions,
                last_signature,
            }],
            malformed: Vec::new(),
            expect_content_until: None,
        }
    }
}

fn header(co_type: &str, ruleset: Ruleset, meta: Option<&str>, seed: u64, name: &str) -> Header {
    let mut builder = Header::builder(co_type, ruleset)
        .created_at("2026-01-01T00:00:00.000Z")
        .uniqueness(Uniqueness::Text(format!("z{seed} {name}")));
    if let Some(meta) = meta {
        builder = builder.meta(meta);
    }
    builder.build().expect("the members of a benchmark's header are valid")
}

#[cfg(test)]
mod tests {
    use downbeat_core::CoValue;
    use downbeat_protocol::AgentId;

    use super::*;

    #[test]
    fn what_an_author_writes_verifies() {
        let author = Author::new(3);
        let mut log = author.map("a", 1);
        let [first, second] = [log.write(&author, 10), log.write(&author, 1)];
        let agent = author.secret.agent();
        let accounts =
            |id: CoValueId| -> Option<AgentId> { (id == author.account).then(|| agent.clone()) };
        let (mut copy, ingested) = CoValue::from_content(&first, &accounts).unwrap();
        assert_eq!(ingested.refused().count(), 0);
        assert_eq!(copy.ingest(&second, &accounts).unwrap().refused().count(), 0);
        assert_eq!(copy.known_state(), log.known_state());
        for basic in author.basics() {
            let (_, ingested) = CoValue::from_content(basic, &accounts).unwrap();
            assert_eq!(ingested.refused().count(), 0);
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_content() {
        let make = |seed| {
            let author = Author::new(seed);
            let mut log = author.map("a", 0);
            log.write(&author, 3)
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1).id, make(2).id);
    }
}
