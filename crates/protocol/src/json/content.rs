//! Decoding the sessions of content messages.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::{DecodeError, Limit};
use crate::id::SessionId;
use crate::json::scan::Scanner;
use crate::json::slot::Slot;
use crate::json::transaction;
use crate::json::value;
use crate::key::Signature;
use crate::limits::Limits;
use crate::message::SessionContent;
use crate::sessions::{Sessions, last_of_each};
use crate::transaction::Transaction;

/// Reads `new`: an object of session contents by session id.
pub(crate) fn read(
    scanner: &mut Scanner<'_>,
    frame: &Bytes,
    limits: &Limits,
) -> Result<Sessions, DecodeError> {
    value::expect_object(scanner, "new")?;
    let mut transactions_left = limits.transactions;
    let mut sessions: Vec<(Cow<'_, str>, Result<SessionContent, DecodeError>)> = Vec::new();
    scanner.object(|scanner, name| {
        if sessions.len() >= limits.sessions {
            return Err(DecodeError::limit(Limit::Sessions, limits.sessions));
        }
        let id = name.decode_lossy();
        let session = scanner.attempt(|scanner| {
            let session = SessionId::parse(&id)?;
            read_session(scanner, session, frame, limits, &mut transactions_left)
        })?;
        sessions.push((id, session));
        Ok(())
    })?;
    Ok(last_of_each(sessions))
}

fn read_session(
    scanner: &mut Scanner<'_>,
    session: SessionId,
    frame: &Bytes,
    limits: &Limits,
    transactions_left: &mut usize,
) -> Result<SessionContent, DecodeError> {
    value::expect_object(scanner, "new[]")?;
    let mut after = Slot::empty();
    let mut transactions = Slot::empty();
    let mut last_signature = Slot::empty();
    scanner.object(|scanner, name| match name.decode().as_deref() {
        Some("after") => after.fill(scanner, |s| value::count(s, "after")),
        Some("newTransactions") => {
            transactions.fill(scanner, |s| read_transactions(s, frame, limits, transactions_left))
        }
        Some("lastSignature") => last_signature.fill(scanner, |scanner| {
            Ok(Signature::parse(&value::text(scanner, "lastSignature")?)?)
        }),
        _ => scanner.skip(),
    })?;
    let mut transactions = transactions.required("newTransactions")?;
    Transaction::detach(&mut transactions, frame.len());
    Ok(SessionContent {
        session,
        after: after.required("after")?,
        transactions,
        last_signature: last_signature.required("lastSignature")?,
    })
}

fn read_transactions(
    scanner: &mut Scanner<'_>,
    frame: &Bytes,
    limits: &Limits,
    transactions_left: &mut usize,
) -> Result<Vec<Transaction>, DecodeError> {
    value::expect_array(scanner, "newTransactions")?;
    let mut transactions = Vec::new();
    scanner.array(|scanner| {
        *transactions_left = transactions_left
            .checked_sub(1)
            .ok_or(DecodeError::limit(Limit::Transactions, limits.transactions))?;
        transactions.push(transaction::read(scanner, frame)?);
        Ok(())
    })?;
    Ok(transactions)
}
