//! Transactions: one signed change to a CoValue.

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

/// A transaction, as its canonical JSON with the facts that a server needs read out once.
///
/// Clones share the bytes; a transaction decoded from a frame is a slice of that frame.
#[derive(Debug, Clone)]
pub struct Transaction {
    pub(crate) json: Bytes,
    pub(crate) privacy: Privacy,
    pub(crate) made_at: f64,
    pub(crate) changes_len: u32,
    /// Whether the changes are ASCII, and so as long in UTF-16 as in UTF-8.
    pub(crate) is_ascii: bool,
}

impl Transaction {
    /// Reads a transaction from its JSON.
    ///
    /// Canonical JSON is kept as it is, sharing the input's memory; anything else is rewritten
    /// canonically into a copy. As in the reference's native core, which decides what is hashed
    /// and signed:
    ///
    /// - A transaction with the strings `encryptedChanges` and `keyUsed` is private, any other one
    ///   must have the string `changes` and is trusting. `privacy` must be a string, but which one
    ///   does not matter.
    /// - `madeAt` is a whole number from 0 up to 2^64, written in any way.
    /// - `meta` is a string; `null` is as good as none.
    /// - Other members are dropped.
    /// - A string may hold anything but half a surrogate pair. Neither changes nor meta need to
    ///   hold JSON.
    pub fn parse(json: &Bytes, limits: &Limits) -> Result<Self, DecodeError> {
        json::transaction::parse(json, limits)
    }

    /// A private transaction: changes encrypted (`encrypted_U…`) with the group's key of this id
    /// (`key_z…`), made at a time in milliseconds since the Unix epoch, with meta, if any,
    /// encrypted in the same way.
    ///
    /// A time that no JavaScript number holds exactly (above 2^53) is rounded to one.
    pub fn private(
        encrypted_changes: &str,
        key_used: &str,
        made_at: u64,
        meta: Option<&str>,
    ) -> Self {
        json::transaction::build(encrypted_changes, Some(key_used), javascript(made_at), meta)
    }

    /// A trusting transaction: changes as the text of a JSON array, made at a time in milliseconds
    /// since the Unix epoch, with meta, if any, as the text of a JSON object.
    ///
    /// A time that no JavaScript number holds exactly (above 2^53) is rounded to one.
    pub fn trusting(changes: &str, made_at: u64, meta: Option<&str>) -> Self {
        json::transaction::build(changes, None, javascript(made_at), meta)
    }

    /// The canonical JSON, as it is hashed, stored and sent.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// Private or trusting.
    pub fn privacy(&self) -> Privacy {
        self.privacy
    }

    /// When the author says it was made, in milliseconds since the Unix epoch: a whole number from
    /// 0 up to 2^64.
    pub fn made_at(&self) -> f64 {
        self.made_at
    }

    /// The changes of a trusting transaction: the text of a JSON array, if the author is honest.
    pub fn changes(&self) -> Option<Cow<'_, str>> {
        (self.privacy == Privacy::Trusting).then(|| self.strings().changes)
    }

    /// The changes of a private transaction: `encrypted_U…`, if the author is honest.
    pub fn encrypted_changes(&self) -> Option<Cow<'_, str>> {
        (self.privacy == Privacy::Private).then(|| self.strings().changes)
    }

    /// The id of the key that a private transaction is encrypted with.
    pub fn key_used(&self) -> Option<Cow<'_, str>> {
        self.strings().key_used
    }

    /// The meta: of a trusting transaction the text of a JSON object, of a private one ciphertext,
    /// if the author is honest.
    pub fn meta(&self) -> Option<Cow<'_, str>> {
        self.strings().meta
    }

    /// The length of `encryptedChanges` or `changes` in bytes of UTF-8 (what the string stands
    /// for, not counting escapes). In these units the reference's native core places checkpoints.
    pub fn changes_len(&self) -> u32 {
        self.changes_len
    }

    /// The same length in UTF-16 code units, in which the reference's JavaScript counts when it
    /// cuts content into messages.
    pub fn changes_utf16_len(&self) -> u32 {
        if self.is_ascii {
            return self.changes_len;
        }
        u32::try_from(self.strings().changes.encode_utf16().count()).unwrap_or(u32::MAX)
    }

    fn strings(&self) -> Strings<'_> {
        str::from_utf8(&self.json)
            .ok()
            .and_then(|json| json::transaction::strings(json, self.privacy))
            .expect("the JSON was found or written canonical when this was made")
    }
}

/// Equal transactions have equal canonical JSON, and the other way round.
impl PartialEq for Transaction {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Transaction {}

/// The JavaScript number nearest to a count of milliseconds.
fn javascript(made_at: u64) -> f64 {
    /// The largest number below 2^64 that a JavaScript number can be.
    const MAX: u64 = u64::MAX << 11;
    #[expect(clippy::cast_precision_loss, reason = "said in the documentation")]
    let made_at = made_at.min(MAX) as f64;
    made_at
}
