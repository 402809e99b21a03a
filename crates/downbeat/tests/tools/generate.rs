//! Generates stores with real signatures, the same for the same seed.

use std::sync::Arc;
use std::thread;

use downbeat_crypto::{AgentSecret, HashChain, delete_session_id, header_id, session_id};
use downbeat_protocol::{
    CoValueId, Header, Owner, Ruleset, SessionContent, SessionId, Transaction, Uniqueness,
};
use downbeat_storage::{Storage, Write};

/// The time of all content here, in milliseconds since the Unix epoch.
pub(crate) const MADE_AT: u64 = 1_700_000_000_000;

/// CoValues per batch.
const BATCH: u64 = 2_000;

/// The content to generate: accounts, one group for each account, and CoValues owned by the groups.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub seed: u64,
    pub accounts: u64,
    pub co_values: u64,
    /// Transactions of each CoValue, in one session.
    pub transactions: usize,
    /// Bytes of changes in each transaction.
    pub changes_len: usize,
}

/// An account, with its group.
#[derive(Clone)]
pub(crate) struct Person {
    pub secret: AgentSecret,
    pub account: CoValueId,
    pub account_header: Header,
    pub group: CoValueId,
    pub group_header: Header,
    pub session: SessionId,
}

/// The log of a session.
pub(crate) struct Log<'a> {
    person: &'a Person,
    session: SessionId,
    count: u64,
    chain: HashChain,
}

impl Person {
    /// The person with this number.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        let secret = AgentSecret::from_secret_seed(&bytes);
        let account_header = Header::account(&secret.agent());
        let account = header_id(&account_header);
        let initial_admin = Owner::Account(account);
        let group_header = Header::builder("comap", Ruleset::Group { initial_admin })
            .uniqueness(unique(seed, u64::MAX - number))
            .build()
            .unwrap();
        let session = session_id(&Owner::Account(account), number.to_le_bytes());
        let group = header_id(&group_header);
        Self { secret, account, account_header, group, group_header, session }
    }

    /// The log of this person's usual session.
    pub(crate) fn log(&self) -> Log<'_> {
        self.log_of(self.session.clone())
    }

    /// The log of a session that deletes a CoValue.
    pub(crate) fn delete_log(&self) -> Log<'_> {
        self.log_of(delete_session_id(&Owner::Account(self.account), [1; 7]))
    }

    /// The log of a session with another number.
    pub(crate) fn log_number(&self, number: u64) -> Log<'_> {
        self.log_of(session_id(&Owner::Account(self.account), number.to_le_bytes()))
    }

    fn log_of(&self, session: SessionId) -> Log<'_> {
        Log { person: self, session, count: 0, chain: HashChain::new() }
    }

    /// The header of a CoValue that this person's group owns.
    pub(crate) fn owned(&self, seed: u64, number: u64) -> Header {
        Header::builder("comap", Ruleset::OwnedByGroup { group: self.group })
            .uniqueness(unique(seed, number))
            .build()
            .unwrap()
    }

    /// The writes that create the account and the group.
    pub(crate) fn writes(&self) -> [Write; 2] {
        let admin = |key: &str, value: &str| {
            let changes = format!(r#"[{{"key":"{key}","op":"set","value":"{value}"}}]"#);
            Transaction::trusting(&changes, MADE_AT, None)
        };
        let agent = self.secret.agent();
        let of_account = self.log().write(vec![admin(agent.as_str(), "admin")]);
        let of_group = self
            .log()
            .write(vec![admin(self.account.as_str(), "admin"), admin("everyone", "reader")]);
        [
            create(self.account, &self.account_header, vec![of_account]),
            create(self.group, &self.group_header, vec![of_group]),
        ]
    }
}

impl Log<'_> {
    /// Extends the log.
    pub(crate) fn write(&mut self, transactions: Vec<Transaction>) -> SessionContent {
        let after = self.count;
        self.count += transactions.len() as u64;
        self.chain.append_all(transactions.iter().map(|transaction| &transaction.json()[..]));
        SessionContent {
            session: self.session.clone(),
            after,
            transactions,
            last_signature: self.person.secret.signer_secret().sign_chain(&self.chain),
        }
    }

    /// Extends the log by private transactions.
    pub(crate) fn write_private(&mut self, count: usize, changes_len: usize) -> SessionContent {
        let from = self.count;
        let transactions = (0..count as u64)
            .map(|index| {
                // Random enough that compression does not shrink it.
                let mut digits = blake3_text(from + index, changes_len);
                digits.insert_str(0, "encrypted_U");
                Transaction::private(&digits, "key_z1", MADE_AT + from + index, None)
            })
            .collect();
        self.write(transactions)
    }
}

/// The write that creates a CoValue.
pub(crate) fn create(id: CoValueId, header: &Header, sessions: Vec<SessionContent>) -> Write {
    Write::Append { id, header: Some(header.clone()), sessions }
}

/// Fills a store. Several threads sign the content.
pub(crate) fn fill(
    store: &Arc<dyn Storage>,
    runtime: &tokio::runtime::Handle,
    plan: &Plan,
    told: impl Fn(u64) + Sync,
) {
    let people: Vec<_> = (0..plan.accounts).map(|number| Person::new(plan.seed, number)).collect();
    for batch in people.chunks(1_000) {
        let writes = batch.iter().flat_map(Person::writes).collect();
        append(store, runtime, writes);
    }
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    thread::scope(|scope| {
        for thread in 0..threads {
            let (people, told) = (&people, &told);
            scope.spawn(move || {
                let mut start = thread * BATCH;
                while start < plan.co_values {
                    let end = (start + BATCH).min(plan.co_values);
                    let writes = (start..end).map(|number| {
                        let person = &people[usize::try_from(number % plan.accounts).unwrap()];
                        let header = person.owned(plan.seed, number);
                        let content =
                            person.log().write_private(plan.transactions, plan.changes_len);
                        create(header_id(&header), &header, vec![content])
                    });
                    append(store, runtime, writes.collect());
                    told(end - start);
                    start += threads * BATCH;
                }
            });
        }
    });
}

/// Appends a batch. All its content must be stored.
pub(crate) fn append(
    store: &Arc<dyn Storage>,
    runtime: &tokio::runtime::Handle,
    batch: Vec<Write>,
) {
    let outcomes = runtime.block_on(store.append(batch)).unwrap();
    assert!(outcomes.iter().all(downbeat_storage::Outcome::is_complete));
}

fn unique(seed: u64, number: u64) -> Uniqueness {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&seed.to_le_bytes()[..4]);
    Uniqueness::from_bytes(bytes)
}

fn blake3_text(number: u64, len: usize) -> String {
    let mut text = String::with_capacity(len + 64);
    let mut part = 0;
    while text.len() < len {
        let hash = downbeat_crypto::hash(format!("{number} {part}").as_bytes());
        text.push_str(&hash.to_string()["hash_z".len()..]);
        part += 1;
    }
    text.truncate(len);
    text
}
