//! The written content: every transaction that an author has signed.
//!
//! Nodes must store and send only this content, because no other content verifies.

use std::collections::BTreeMap;

use downbeat_core::CoValue;
use downbeat_crypto::{HashChain, SignerSecret};
use downbeat_protocol::{CoValueId, SessionContent, SessionId, Signature, Transaction};

/// The logs of all sessions. A forked session has several logs.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    logs: BTreeMap<(CoValueId, SessionId), Vec<TrueLog>>,
}

type TrueLog = Vec<(Transaction, Signature)>;

impl Truth {
    /// Signs a transaction that follows the transactions `before` of a session, and adds it.
    pub(crate) fn sign(
        &mut self,
        id: CoValueId,
        session: &SessionId,
        before: &[Transaction],
        transaction: Transaction,
        secret: &SignerSecret,
    ) -> SessionContent {
        let mut chain = HashChain::new();
        chain.append_all(before.iter().chain([&transaction]).map(|tx| &tx.json()[..]));
        let signature = secret.sign_chain(&chain);
        self.add(id, session, before, transaction.clone(), signature);
        SessionContent {
            session: session.clone(),
            after: before.len() as u64,
            transactions: vec![transaction],
            last_signature: signature,
        }
    }

    /// Adds a signed transaction that follows the transactions `before`. If a log has another
    /// transaction there, the session is forked: it gets another log.
    pub(crate) fn add(
        &mut self,
        id: CoValueId,
        session: &SessionId,
        before: &[Transaction],
        transaction: Transaction,
        signature: Signature,
    ) {
        let logs = self.logs.entry((id, session.clone())).or_default();
        let starts_with_before = |log: &TrueLog| {
            log.len() >= before.len()
                && log.iter().zip(before).all(|((tx, _), other)| same(tx, other))
        };
        if let Some(log) =
            logs.iter_mut().find(|log| log.len() == before.len() && starts_with_before(log))
        {
            log.push((transaction, signature));
            return;
        }
        let source = logs.iter().find(|log| starts_with_before(log));
        let mut log: TrueLog = source.map(|log| log[..before.len()].to_vec()).unwrap_or_default();
        log.push((transaction, signature));
        logs.push(log);
    }

    /// The first `count` transactions of a run, with the signature for them.
    pub(crate) fn begin(
        &self,
        id: CoValueId,
        run: &SessionContent,
        count: usize,
    ) -> Option<SessionContent> {
        let logs = self.logs.get(&(id, run.session.clone()))?;
        let from = usize::try_from(run.after).ok()?;
        let transactions = run.transactions.get(..count)?;
        let begins = |part: &&[(Transaction, Signature)]| {
            part.iter().zip(transactions).all(|((tx, _), other)| same(tx, other))
        };
        let mut parts = logs.iter().filter_map(|log| log.get(from..from + count));
        let (_, last_signature) = parts.find(begins)?.last()?;
        Some(SessionContent {
            session: run.session.clone(),
            after: run.after,
            transactions: transactions.to_vec(),
            last_signature: *last_signature,
        })
    }

    /// The first transactions of a session as a run, with the signature for them.
    pub(crate) fn run(
        &self,
        id: CoValueId,
        session: &SessionId,
        transactions: &[Transaction],
    ) -> Option<SessionContent> {
        let logs = self.logs.get(&(id, session.clone()))?;
        let last = transactions.len().checked_sub(1)?;
        let begins = |log: &&TrueLog| {
            log.len() > last && log.iter().zip(transactions).all(|((tx, _), other)| same(tx, other))
        };
        let (_, last_signature) = logs.iter().find(begins)?.get(last)?;
        Some(SessionContent {
            session: session.clone(),
            after: 0,
            transactions: transactions.to_vec(),
            last_signature: *last_signature,
        })
    }

    /// Whether the author has signed this run.
    pub(crate) fn holds(&self, id: CoValueId, run: &SessionContent) -> bool {
        let Some(logs) = self.logs.get(&(id, run.session.clone())) else { return false };
        let range = || Some(usize::try_from(run.after).ok()?..usize::try_from(run.end()).ok()?);
        let Some(range) = range() else { return false };
        logs.iter().any(|log| {
            log.get(range.clone()).is_some_and(|part| {
                part.iter().zip(&run.transactions).all(|((tx, _), other)| same(tx, other))
                    && part.last().is_none_or(|(_, signature)| *signature == run.last_signature)
            })
        })
    }

    /// Adds the last transaction of a session, which was just appended to the CoValue.
    pub(crate) fn note_last(&mut self, value: &CoValue, session: &SessionId) {
        let Some(log) = value.session(session) else { return };
        let (Some((last, before)), Some(signature)) =
            (log.transactions().split_last(), log.last_signature())
        else {
            return;
        };
        self.add(value.id(), session, before, last.clone(), signature);
    }
}

fn same(one: &Transaction, other: &Transaction) -> bool {
    one.json() == other.json()
}
