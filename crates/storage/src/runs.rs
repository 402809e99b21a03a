//! How stored extensions become the runs that a reader gets. One rule for all backends.

use downbeat_protocol::{CHUNK_LEN, KnownState, SessionContent, SessionId, Signature, Transaction};

/// The bytes in a log since its last checkpoint.
///
/// A backend keeps this number for each session, and calls [`Self::extend`] with each extension.
/// The result depends on nothing but the log, so all backends cut a log at the same positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SinceCheckpoint(pub u64);

impl SinceCheckpoint {
    /// Adds an extension. Returns whether it ends at a checkpoint.
    pub fn extend(&mut self, transactions: &[Transaction]) -> bool {
        let added: u64 = transactions.iter().map(|tx| u64::from(tx.changes_len())).sum();
        self.0 = self.0.saturating_add(added);
        let checkpoint = self.0 > CHUNK_LEN;
        if checkpoint {
            self.0 = 0;
        }
        checkpoint
    }
}

/// Builds the answer of [`Storage::read`](crate::Storage::read): takes stored extensions in the
/// order of the logs, merges them up to the next checkpoint, and ends at the budget.
#[derive(Debug, Clone)]
pub struct Runs {
    done: Vec<SessionContent>,
    open: bool,
    budget: usize,
    merge: bool,
}

/// A stored extension, or the rest of one.
#[derive(Debug)]
pub struct Extension<I> {
    /// Number of transactions of the session before these.
    pub after: u64,
    /// The transactions, up to the end of the extension.
    pub transactions: I,
    /// The signature at the end.
    pub signature: Signature,
    /// Whether the extension ends at a checkpoint.
    pub checkpoint: bool,
}

impl Runs {
    /// An empty answer, with a budget in bytes of transaction JSON.
    pub fn new(max_bytes: usize) -> Self {
        Self { done: Vec::new(), open: false, budget: max_bytes, merge: true }
    }

    /// An empty answer of [`Storage::read_extensions`](crate::Storage::read_extensions), which
    /// merges nothing.
    pub fn unmerged(max_bytes: usize) -> Self {
        Self { merge: false, ..Self::new(max_bytes) }
    }

    /// Adds an extension. Returns whether there is budget for more.
    ///
    /// An extension that does not follow the one before it without a gap begins a new run.
    pub fn push<I>(&mut self, session: &SessionId, extension: Extension<I>) -> bool
    where
        I: IntoIterator<Item = Transaction>,
    {
        let joins = |run: &SessionContent| run.session == *session && run.end() == extension.after;
        if !(self.open && self.done.last().is_some_and(joins)) {
            self.done.push(SessionContent {
                session: session.clone(),
                after: extension.after,
                transactions: Vec::new(),
                last_signature: extension.signature,
            });
        }
        if let Some(run) = self.done.last_mut() {
            let before = run.transactions.len();
            run.transactions.extend(extension.transactions);
            run.last_signature = extension.signature;
            let read: usize = run.transactions[before..].iter().map(|tx| tx.json().len()).sum();
            self.budget = self.budget.saturating_sub(read);
        }
        self.open = self.merge && !extension.checkpoint;
        self.budget > 0
    }

    /// The answer.
    pub fn into_vec(self) -> Vec<SessionContent> {
        self.done
    }
}

/// Calls `read` for one known state after the other within one budget, as
/// [`Storage::read_many`](crate::Storage::read_many) promises. For backends that read on a thread.
/// The second argument of `read` is the rest of the budget.
pub fn read_each<E>(
    have: Vec<KnownState>,
    max_bytes: usize,
    mut read: impl FnMut(KnownState, usize) -> Result<Vec<SessionContent>, E>,
) -> Vec<Result<Vec<SessionContent>, E>> {
    let mut budget = ReadBudget::new(max_bytes);
    let mut answers = Vec::with_capacity(have.len());
    for have in have {
        let answer = read(have, budget.left());
        let may_go_on = budget.spend(&answer);
        answers.push(answer);
        if !may_go_on {
            break;
        }
    }
    answers
}

/// Bytes of transaction JSON that may still be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadBudget(usize);

impl ReadBudget {
    /// A budget in bytes.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self(max_bytes)
    }

    /// The budget of the next read.
    pub(crate) fn left(self) -> usize {
        self.0
    }

    /// Subtracts an answer. Returns whether any budget is left. A failed read costs nothing.
    pub(crate) fn spend<E>(&mut self, answer: &Result<Vec<SessionContent>, E>) -> bool {
        let runs = answer.as_deref().unwrap_or_default();
        let read: u64 = runs.iter().map(SessionContent::json_len).sum();
        self.0 = self.0.saturating_sub(usize::try_from(read).unwrap_or(usize::MAX));
        self.0 > 0
    }
}
