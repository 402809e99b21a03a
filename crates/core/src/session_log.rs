//! The log of one session: its transactions, their hash chain, and the stored signatures.

use downbeat_crypto::{HashChain, SignerSecret, VerifyError, VerifyingKey};
use downbeat_protocol::{CHUNK_LEN, SessionContent, SessionId, Signature, Transaction};

/// A position in a log at which a signature is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The number of transactions that the signature covers.
    pub end: u64,
    /// The signature over them.
    pub signature: Signature,
}

/// Why a run of transactions cannot extend a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The run starts beyond the end of the log.
    #[error("the log has {have} transactions, but the new ones start after {after}")]
    Gap {
        /// The number of transactions that the log has.
        have: u64,
        /// The number of transactions after which the run starts.
        after: u64,
    },
    /// The signature does not cover the log with the new transactions.
    #[error(transparent)]
    Signature(#[from] VerifyError),
}

/// The transactions of a run that a log of `have` transactions lacks, or an error if there is a gap
/// before the run.
pub fn new_part(have: u64, run: &SessionContent) -> Result<&[Transaction], LogError> {
    let gap = LogError::Gap { have, after: run.after };
    let known = have.checked_sub(run.after).ok_or(gap)?;
    // No run has more transactions than there are addresses.
    let new = usize::try_from(known).ok().and_then(|known| run.transactions.get(known..));
    Ok(new.unwrap_or_default())
}

/// The hash chain of a log with new transactions added, if `check` accepts that chain: if the
/// signature of the transactions is valid for it.
pub fn extend_chain<E>(
    chain: &HashChain,
    new: &[Transaction],
    check: impl FnOnce(&HashChain) -> Result<(), E>,
) -> Result<HashChain, E> {
    let mut longer = chain.clone();
    longer.append_all(new.iter().map(|transaction| &transaction.json()[..]));
    check(&longer)?;
    Ok(longer)
}

/// The append-only, verified log of one session.
///
/// Signatures of the session's agent cover all transactions. A content message can end at the end
/// of the log and at each [`Checkpoint`], because the signatures there are kept.
///
/// ```
/// use downbeat_core::SessionLog;
/// use downbeat_crypto::{AgentSecret, VerifyingKey, random_session_id};
/// use downbeat_protocol::{Owner, SessionContent, Transaction};
///
/// // The author's log.
/// let secret = AgentSecret::generate()?;
/// let session = random_session_id(&Owner::Agent(secret.agent()))?;
/// let mut log = SessionLog::new(session.clone());
/// let hello = Transaction::trusting(r#"["hello"]"#, 1_700_000_000_000, None);
/// let signature = log.append(hello.clone(), secret.signer_secret());
///
/// // A peer's copy.
/// let mut copy = SessionLog::new(session.clone());
/// let run = SessionContent { session, after: 0, transactions: vec![hello], last_signature: signature };
/// let key = VerifyingKey::new(secret.agent().signer())?;
/// assert_eq!(copy.extend(&run, &key)?, 1);
/// assert_eq!(copy.extend(&run, &key)?, 0, "known transactions are skipped");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SessionLog {
    session: SessionId,
    transactions: Vec<Transaction>,
    chain: HashChain,
    last_signature: Option<Signature>,
    checkpoints: Vec<Checkpoint>,
    /// Bytes of changes after the last checkpoint.
    since_checkpoint: u64,
}

impl SessionLog {
    /// An empty log.
    pub fn new(session: SessionId) -> Self {
        Self {
            session,
            transactions: Vec::new(),
            chain: HashChain::new(),
            last_signature: None,
            checkpoints: Vec::new(),
            since_checkpoint: 0,
        }
    }

    /// Adds a run of transactions if its signature covers the extended log. Returns the number of
    /// added transactions. An error leaves the log unchanged.
    ///
    /// Transactions that the log has already are skipped without a comparison. If the run has no
    /// others, its signature is not verified.
    ///
    /// `key` is the key of the session's agent. The session id of the run is not compared.
    pub fn extend(&mut self, run: &SessionContent, key: &VerifyingKey) -> Result<u64, LogError> {
        let new = self.new_part(run)?;
        if new.is_empty() {
            return Ok(0);
        }
        let is_valid = |chain: &_| key.verify_chain(chain, &run.last_signature);
        let chain = extend_chain(&self.chain, new, is_valid)?;
        self.commit(new, chain, run.last_signature);
        Ok(new.len() as u64)
    }

    /// The transactions of a run that the log lacks, or an error if there is a gap before the run.
    pub fn new_part<'a>(&self, run: &'a SessionContent) -> Result<&'a [Transaction], LogError> {
        new_part(self.len(), run)
    }

    /// Adds and signs a new transaction. `secret` is the secret of the session's agent.
    pub fn append(&mut self, transaction: Transaction, secret: &SignerSecret) -> Signature {
        let mut chain = self.chain.clone();
        chain.append(transaction.json());
        let signature = secret.sign_chain(&chain);
        self.commit(&[transaction], chain, signature);
        signature
    }

    /// The transactions, in order.
    pub fn transactions(&self) -> &[Transaction] {
        &self.transactions
    }

    /// The number of transactions.
    pub fn len(&self) -> u64 {
        self.transactions.len() as u64
    }

    /// Whether the log has no transactions.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The signature that covers the whole log, or `None` if the log is empty.
    pub fn last_signature(&self) -> Option<Signature> {
        self.last_signature
    }

    /// The kept signatures, in order. A run is never divided, so a checkpoint is at the end of the
    /// run with which more than [`CHUNK_LEN`] of changes have been added since the checkpoint
    /// before.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.checkpoints
    }

    /// The hash chain up to the end of the log.
    pub fn chain(&self) -> &HashChain {
        &self.chain
    }

    fn commit(&mut self, new: &[Transaction], chain: HashChain, signature: Signature) {
        self.transactions.extend_from_slice(new);
        self.chain = chain;
        self.last_signature = Some(signature);
        self.since_checkpoint +=
            new.iter().map(|transaction| u64::from(transaction.changes_len())).sum::<u64>();
        if self.since_checkpoint > CHUNK_LEN {
            self.checkpoints.push(Checkpoint { end: self.len(), signature });
            self.since_checkpoint = 0;
        }
    }
}
