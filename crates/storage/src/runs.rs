//! How the extensions of a log become the runs that a reader gets: one rule for all backends.

use downbeat_protocol::{CHUNK_LEN, KnownState, SessionContent, SessionId, Signature, Transaction};

/// What has gathered in a log since its last checkpoint.
///
/// A backend keeps this for each session, and asks at each extension whether it ends at a
/// checkpoint. The answer depends on the log and its extensions alone, so every backend cuts a log
/// in the same places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SinceCheckpoint(pub u64);

impl SinceCheckpoint {
    /// Counts an extension in, and tells whether it ends at a checkpoint.
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

/// Gathers what [`Storage::read`](crate::Storage::read) answers: takes stored extensions in the
/// order of the logs, merges them up to the next checkpoint, and says when it is enough.
#[derive(Debug)]
pub struct Runs {
    done: Vec<SessionContent>,
    open: bool,
    budget: usize,
}

/// A stored extension, or the rest of one.
#[derive(Debug)]
pub struct Extension<I> {
    /// How many transactions of the session come before these.
    pub after: u64,
    /// The transactions, up to the end of the extension.
    pub transactions: I,
    /// The signature at the end.
    pub signature: Signature,
    /// Whether the end is a checkpoint.
    pub checkpoint: bool,
}

impl Runs {
    /// Nothing yet, with a budget of transaction JSON in bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self { done: Vec::new(), open: false, budget: max_bytes }
    }

    /// Adds an extension, and tells whether there is budget for more.
    ///
    /// The extensions of a session follow each other without a gap; where one does not, a new run
    /// begins.
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
        self.open = !extension.checkpoint;
        self.budget > 0
    }

    /// The runs.
    pub fn into_vec(self) -> Vec<SessionContent> {
        self.done
    }
}

/// Reads beyond one known state after the other within one budget, as
/// [`Storage::read_many`](crate::Storage::read_many) promises, for backends that read on a thread.
/// `read` is given what is left of the budget.
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

/// The bytes of transaction JSON that may still be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadBudget(usize);

impl ReadBudget {
    /// A budget in bytes.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self(max_bytes)
    }

    /// What the next reading may take.
    pub(crate) fn left(self) -> usize {
        self.0
    }

    /// Takes what a reading gave, and tells whether there is anything left for another. A reading
    /// that failed costs nothing.
    pub(crate) fn spend<E>(&mut self, answer: &Result<Vec<SessionContent>, E>) -> bool {
        let runs = answer.as_deref().unwrap_or_default();
        let transactions = runs.iter().flat_map(|run| &run.transactions);
        let read = transactions.map(|transaction| transaction.json().len()).sum();
        self.0 = self.0.saturating_sub(read);
        self.0 > 0
    }
}
