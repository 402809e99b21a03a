//! Transactions: the signed changes to a CoValue.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::DecodeError;
use crate::json;
use crate::json::transaction::Strings;
use crate::limits::Limits;

/// The length after which content is cut: 100 KiB, as in the reference (`MAX_RECOMMENDED_TX_SIZE`).
///
/// A session's log keeps a signature (a *checkpoint*) wherever more than this has been added since
/// the one before, counted in [`Transaction::changes_len`]. A content message ends with the run
/// that takes it over this length, counted in [`Transaction::changes_utf16_len`].
pub const CHUNK_LEN: u64 = 100 << 10;

/// Whether a transaction's changes are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Privacy {
    /// The changes are encrypted with a key of the owning group.
    Private,
    /// The changes are plain JSON.
    Trusting,
}

/// A transaction: its canonical JSON, and the facts that a server needs, which are parsed once.
///
/// Clones share the bytes. A transaction that was decoded from a frame is a slice of that frame, if
/// its run is not small against the frame.
#[derive(Debug, Clone)]
pub struct Transaction {
    pub(crate) json: Bytes,
    pub(crate) privacy: Privacy,
    pub(crate) made_at: f64,
    pub(crate) changes_len: u32,
    /// Whether the changes are ASCII, so that their lengths in UTF-8 and UTF-16 are equal.
    pub(crate) is_ascii: bool,
}

impl Transaction {
    /// Reads a transaction from its JSON.
    ///
    /// Canonical JSON is kept and shares the input's memory. Other JSON is rewritten canonically
    /// into a copy. The rules are those of the reference's native core, which hashes and verifies:
    ///
    /// - A transaction with the strings `encryptedChanges` and `keyUsed` is private. Any other
    ///   transaction must have the string `changes` and is trusting. `privacy` must be a string,
    ///   but its value does not matter.
    /// - `madeAt` is a whole number from 0 up to 2^64, in any notation.
    /// - `meta` is a string; `null` means no meta.
    /// - Other members are dropped.
    /// - Strings may hold any text without lone surrogates. Changes and meta need not be JSON.
    pub fn parse(json: &Bytes, limits: &Limits) -> Result<Self, DecodeError> {
        json::transaction::parse(json, limits)
    }

    /// Creates a private transaction.
    ///
    /// `encrypted_changes` (`encrypted_U…`) and `meta` are encrypted with the group's key
    /// `key_used` (`key_z…`). `made_at` is in milliseconds since the Unix epoch, and is rounded to
    /// a JavaScript number if it is above 2^53.
    pub fn private(
        encrypted_changes: &str,
        key_used: &str,
        made_at: u64,
        meta: Option<&str>,
    ) -> Self {
        json::transaction::build(encrypted_changes, Some(key_used), to_javascript(made_at), meta)
    }

    /// Creates a trusting transaction.
    ///
    /// `changes` is the text of a JSON array, and `meta` the text of a JSON object. `made_at` is in
    /// milliseconds since the Unix epoch, and is rounded to a JavaScript number if it is above
    /// 2^53.
    pub fn trusting(changes: &str, made_at: u64, meta: Option<&str>) -> Self {
        json::transaction::build(changes, None, to_javascript(made_at), meta)
    }

    /// The canonical JSON, which is hashed, stored and sent.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// Private or trusting.
    pub fn privacy(&self) -> Privacy {
        self.privacy
    }

    /// The time that the author claims, in milliseconds since the Unix epoch: a whole number from 0
    /// up to 2^64.
    pub fn made_at(&self) -> f64 {
        self.made_at
    }

    /// The changes of a trusting transaction. Clients write the text of a JSON array.
    pub fn changes(&self) -> Option<Cow<'_, str>> {
        (self.privacy == Privacy::Trusting).then(|| self.strings().changes)
    }

    /// The changes of a private transaction. Clients write `encrypted_U…`.
    pub fn encrypted_changes(&self) -> Option<Cow<'_, str>> {
        (self.privacy == Privacy::Private).then(|| self.strings().changes)
    }

    /// The id of the key that encrypts a private transaction.
    pub fn key_used(&self) -> Option<Cow<'_, str>> {
        self.strings().key_used
    }

    /// The meta. Clients write the text of a JSON object in a trusting transaction, and ciphertext
    /// in a private one.
    pub fn meta(&self) -> Option<Cow<'_, str>> {
        self.strings().meta
    }

    /// The length of `encryptedChanges` or `changes` in bytes of UTF-8, without escapes. The
    /// reference's native core places checkpoints by this length.
    pub fn changes_len(&self) -> u32 {
        self.changes_len
    }

    /// The length of `encryptedChanges` or `changes` in UTF-16 code units. The reference's
    /// JavaScript cuts content into messages by this length.
    pub fn changes_utf16_len(&self) -> u32 {
        if self.is_ascii {
            return self.changes_len;
        }
        u32::try_from(self.strings().changes.encode_utf16().count()).unwrap_or(u32::MAX)
    }

    /// Copies the transactions of a run out of a buffer that they are a small part of, so that
    /// keeping them does not keep the buffer.
    pub(crate) fn detach(run: &mut [Self], buffer_len: usize) {
        /// Beyond twice the run: most frames have one run of a few hundred bytes, and as much
        /// around it.
        const FRAME_AROUND: usize = 1 << 10;

        let len: usize = run.iter().map(|transaction| transaction.json.len()).sum();
        if buffer_len <= 2 * len + FRAME_AROUND {
            return;
        }
        let mut copy = Vec::with_capacity(len);
        for transaction in &*run {
            copy.extend_from_slice(&transaction.json);
        }
        let mut copy = Bytes::from(copy);
        for transaction in run {
            transaction.json = copy.split_to(transaction.json.len());
        }
    }

    fn strings(&self) -> Strings<'_> {
        str::from_utf8(&self.json)
            .ok()
            .and_then(|json| json::transaction::strings(json, self.privacy))
            .expect("the JSON of a transaction is canonical")
    }
}

/// Transactions are equal exactly if their canonical JSON is equal.
impl PartialEq for Transaction {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Transaction {}

/// The nearest JavaScript number to a time in milliseconds.
fn to_javascript(made_at: u64) -> f64 {
    /// The largest number below 2^64 that a JavaScript number can be.
    const MAX: u64 = u64::MAX << 11;
    #[expect(clippy::cast_precision_loss, reason = "the documentation promises rounding")]
    let made_at = made_at.min(MAX) as f64;
    made_at
}
