//! A draft: the changes of a batch, before they are applied to the tree.

use std::collections::HashMap;

use downbeat_protocol::{CoValueId, Header, SessionContent, SessionId, Signature};
use downbeat_storage::cache::GenerationCache;
use downbeat_storage::{
    Damage, Outcome, SessionOutcome, SinceCheckpoint, StorageError, UnsyncedUpdate, Write,
};

use crate::chunks::{encode_co_value, encode_extension};
use crate::keys;
use crate::read::{decode_co_value, decode_head};
use crate::record::{self, CoValueRecord, HeadRecord, TotalsRecord};
use crate::tree::{Changes, Tree};

/// Entries of each kind in the writer's memory, about 10 MB. More sessions than clients of a node
/// write at the same time.
const CACHED: usize = 32_768;

/// The writer's cache of the tree, so that it does not have to read before it writes. It is the
/// only writer, so the cache is always current.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// Stored CoValues, and whether they are deleted.
    co_values: GenerationCache<CoValueId, bool, CACHED>,
    /// Heads by their keys; `None` for a session that is not stored.
    heads: GenerationCache<Vec<u8>, Option<Head>, CACHED>,
    pub(crate) totals: TotalsRecord,
}

impl Remembered {
    pub(crate) fn new(totals: TotalsRecord) -> Self {
        Self { co_values: GenerationCache::default(), heads: GenerationCache::default(), totals }
    }
}

/// The state of a session's log.
#[derive(Debug, Clone, Copy)]
struct Head {
    count: u64,
    since_checkpoint: SinceCheckpoint,
    bytes: u64,
    signature: Signature,
}

/// Changes to the tree that are not applied yet. Each write sees the writes before it.
pub(crate) struct Draft<'a> {
    tree: &'a Tree,
    remembered: &'a mut Remembered,
    batch: Changes,
    /// Whether CoValues are deleted, for those that the draft creates or deletes.
    co_values: HashMap<CoValueId, bool>,
    /// Headers of the CoValues that the draft creates.
    headers: HashMap<CoValueId, Header>,
    /// Heads that the draft changes.
    heads: HashMap<Vec<u8>, Head>,
    totals: TotalsRecord,
    damage_check: DamageCheck,
}

/// Which leaves of the tree are checked for damage before a record is put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DamageCheck {
    /// Only the leaf of the record.
    Leaf,
    /// Also the leaves beside it, with which sled may merge it. Used after a batch has met damage
    /// that the check of the leaf did not find.
    Neighbours,
}

/// Records on either side that [`DamageCheck::Neighbours`] reads: those of two leaves, which hold
/// about 20 each.
const NEIGHBOURS: usize = 40;

impl<'a> Draft<'a> {
    pub(crate) fn new(tree: &'a Tree, remembered: &'a mut Remembered, check: DamageCheck) -> Self {
        let totals = remembered.totals;
        Self {
            tree,
            remembered,
            batch: Changes::default(),
            co_values: HashMap::new(),
            headers: HashMap::new(),
            heads: HashMap::new(),
            totals,
            damage_check: check,
        }
    }

    /// Adds a write. After an error the tree cannot be read, and the draft must be dropped.
    pub(crate) fn write(&mut self, write: &Write) -> Result<Outcome, StorageError> {
        let id = write.id();
        let outcome = match write {
            Write::Append { header, sessions, .. } => self.append(id, header.as_ref(), sessions),
            Write::Tombstone { session, .. } => self.write_tombstone(id, session),
        };
        match outcome {
            Err(StorageError::Corrupt(damage)) => Ok(Outcome::Damaged(damage.while_reading(id))),
            outcome => outcome,
        }
    }

    /// Adds a change of the CoValues that an upstream has not acknowledged.
    pub(crate) fn track(&mut self, update: &UnsyncedUpdate) {
        let key = keys::unsynced(&update.entry);
        if update.synced {
            self.batch.remove(key);
        } else {
            let record = record::encode(&key, &(), 0);
            self.batch.insert(key, record);
        }
    }

    /// Applies the draft to the tree.
    pub(crate) fn apply(mut self) -> Result<(), StorageError> {
        for (key, head) in &self.heads {
            self.batch.insert(key.as_slice(), head.encode(key));
        }
        self.totals.batches += 1;
        self.batch.insert(keys::TOTALS, record::encode(keys::TOTALS, &self.totals, 0));
        self.tree.apply(self.batch)?;
        self.remembered.totals = self.totals;
        for (id, deleted) in self.co_values {
            self.remembered.co_values.insert(id, deleted);
        }
        for (key, head) in self.heads {
            self.remembered.heads.insert(key, Some(head));
        }
        Ok(())
    }

    fn append(
        &mut self,
        id: CoValueId,
        header: Option<&Header>,
        sessions: &[SessionContent],
    ) -> Result<Outcome, StorageError> {
        let stored = self.is_deleted(id)?;
        if stored.is_none() && header.is_none() {
            return Ok(Outcome::NoHeader);
        }
        if stored.is_none() {
            // A CoValue that is not stored has no sessions. This saves looking for them.
            for content in sessions {
                self.remembered.heads.insert(keys::head(id, &content.session), None);
            }
        }
        // Everything that can be damaged is read before the first change.
        self.check_neighbours(&keys::co_value(id))?;
        for content in sessions {
            self.head(id, &content.session)?;
            self.check_log(id, content)?;
        }
        if let (None, Some(header)) = (stored, header) {
            self.create(id, header.clone());
        }
        let deleted = stored == Some(true);
        let outcomes = sessions.iter().map(|content| {
            if deleted && !content.session.is_delete() {
                Ok(SessionOutcome::Deleted)
            } else {
                self.extend(id, content)
            }
        });
        outcomes.collect::<Result<_, StorageError>>().map(Outcome::Applied)
    }

    fn write_tombstone(
        &mut self,
        id: CoValueId,
        content: &SessionContent,
    ) -> Result<Outcome, StorageError> {
        let Some(deleted) = self.is_deleted(id)? else { return Ok(Outcome::NoHeader) };
        if !content.session.is_delete() {
            return Ok(Outcome::Applied(vec![SessionOutcome::Deleted]));
        }
        let stored = self.head(id, &content.session)?.map_or(0, |head| head.count);
        self.check_log(id, content)?;
        if content.transactions.is_empty() {
            return Ok(Outcome::Applied(vec![SessionOutcome::Conflict { stored }]));
        }
        let fits = stored == content.after || stored >= content.end();
        if fits && !deleted {
            self.mark_deleted(id)?;
        }
        let outcome = if stored >= content.end() {
            SessionOutcome::Applied
        } else {
            self.extend(id, content)?
        };
        Ok(Outcome::Applied(vec![outcome]))
    }

    fn create(&mut self, id: CoValueId, header: Header) {
        let batch = &mut self.batch;
        encode_co_value(id, &header, false, |key, value| batch.insert(key, value));
        self.headers.insert(id, header);
        self.co_values.insert(id, false);
        self.totals.co_values += 1;
    }

    fn mark_deleted(&mut self, id: CoValueId) -> Result<(), StorageError> {
        let batch = &mut self.batch;
        if let Some(header) = self.headers.get(&id) {
            encode_co_value(id, header, true, |key, value| batch.insert(key, value));
        } else {
            let key = keys::co_value(id);
            let missing = || Damage::in_co_value(id, "its record is missing");
            let value = self.tree.get(&key)?.ok_or_else(missing)?;
            let deleted = CoValueRecord { deleted: true, ..decode_co_value(id, &key, &value)? };
            let record = record::encode(&key, &deleted, value.len());
            batch.insert(key, record);
        }
        let key = keys::erasable(id);
        let record = record::encode(&key, &(), 0);
        self.batch.insert(key, record);
        self.co_values.insert(id, true);
        self.totals.deleted += 1;
        Ok(())
    }

    fn extend(
        &mut self,
        id: CoValueId,
        content: &SessionContent,
    ) -> Result<SessionOutcome, StorageError> {
        let head = self.head(id, &content.session)?;
        let stored = head.map_or(0, |head| head.count);
        if stored != content.after {
            return Ok(SessionOutcome::Conflict { stored });
        }
        if content.transactions.is_empty() {
            return Ok(SessionOutcome::Applied);
        }
        let mut since_checkpoint =
            head.map_or_else(SinceCheckpoint::default, |head| head.since_checkpoint);
        let checkpoint = since_checkpoint.extend(&content.transactions);
        let batch = &mut self.batch;
        encode_extension(
            &keys::log(id, &content.session),
            content.end(),
            &content.transactions,
            &content.last_signature,
            checkpoint,
            |key, value| batch.insert(key, value),
        );
        let added = content.json_len();
        self.totals.sessions += u64::from(head.is_none());
        self.totals.transactions += content.transactions.len() as u64;
        self.totals.transaction_bytes += added;
        let head = Head {
            count: content.end(),
            since_checkpoint,
            bytes: head.map_or(0, |head| head.bytes) + added,
            signature: content.last_signature,
        };
        self.heads.insert(keys::head(id, &content.session), head);
        Ok(SessionOutcome::Applied)
    }

    /// Whether a CoValue is deleted; `None` if it is not stored.
    fn is_deleted(&mut self, id: CoValueId) -> Result<Option<bool>, StorageError> {
        if let Some(&deleted) = self.co_values.get(&id) {
            return Ok(Some(deleted));
        }
        if let Some(&deleted) = self.remembered.co_values.get(&id) {
            return Ok(Some(deleted));
        }
        let key = keys::co_value(id);
        let Some(value) = self.tree.get(&key)? else { return Ok(None) };
        let deleted = decode_co_value(id, &key, &value)?.deleted;
        self.remembered.co_values.insert(id, deleted);
        Ok(Some(deleted))
    }

    /// Reads the leaves of the tree that an extension will change. If sled cannot read them, the
    /// error comes out here, as damage of one CoValue, and not when the whole batch is applied.
    fn check_log(&self, id: CoValueId, content: &SessionContent) -> Result<(), StorageError> {
        let log = keys::log(id, &content.session);
        let key = keys::log_chunk(&log, content.end(), 0);
        self.tree.get(&key)?;
        self.check_neighbours(&key)?;
        self.check_neighbours(&keys::head(id, &content.session))
    }

    fn check_neighbours(&self, key: &[u8]) -> Result<(), StorageError> {
        match self.damage_check {
            DamageCheck::Leaf => Ok(()),
            DamageCheck::Neighbours => self.tree.read_around(key, NEIGHBOURS),
        }
    }

    /// The head of a session; `None` if it has no transactions.
    fn head(&mut self, id: CoValueId, session: &SessionId) -> Result<Option<Head>, StorageError> {
        let key = keys::head(id, session);
        if let Some(&head) = self.heads.get(&key) {
            return Ok(Some(head));
        }
        if let Some(&head) = self.remembered.heads.get(&key) {
            return Ok(head);
        }
        let head = match self.tree.get(&key)? {
            Some(value) => Some(Head::decode(id, session, &key, &value)?),
            None => None,
        };
        self.remembered.heads.insert(key, head);
        Ok(head)
    }
}

impl Head {
    fn encode(&self, key: &[u8]) -> Vec<u8> {
        let record = HeadRecord {
            count: self.count,
            since_checkpoint: self.since_checkpoint.0,
            bytes: self.bytes,
            signature: self.signature.as_str(),
        };
        record::encode(key, &record, record.signature.len())
    }

    fn decode(
        id: CoValueId,
        session: &SessionId,
        key: &[u8],
        value: &[u8],
    ) -> Result<Self, Damage> {
        let (head, signature) = decode_head(id, session, key, value)?;
        Ok(Self {
            count: head.count,
            since_checkpoint: SinceCheckpoint(head.since_checkpoint),
            bytes: head.bytes,
            signature,
        })
    }
}
