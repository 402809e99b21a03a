//! A draft of changes: what writes would do to the tree, before any of it is done.

use std::collections::HashMap;

use downbeat_protocol::{CoValueId, Header, SessionContent, SessionId, Signature};
use downbeat_storage::{
    Damage, Outcome, SessionOutcome, SinceCheckpoint, StorageError, UnsyncedUpdate, Write,
};

use crate::cache::Cache;
use crate::keys;
use crate::parts::{encode_co_value, encode_extension};
use crate::read::{decode_co_value, decode_head};
use crate::record::{self, CoValueRecord, HeadRecord, TotalsRecord};
use crate::tree::{Changes, Tree};

/// Entries of each kind in the writer's memory: about 10 MB, and the sessions of many more writers
/// than a node has at a time.
const CACHED: usize = 32_768;

/// What the writer remembers of the tree, so that it need not read before it writes. It is the only
/// writer, so what it remembers is true.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// CoValues that are stored, and whether they are deleted.
    co_values: Cache<CoValueId, bool>,
    /// Heads by their keys; `None` for a session that is not stored.
    heads: Cache<Vec<u8>, Option<Head>>,
    pub(crate) totals: TotalsRecord,
}

impl Remembered {
    pub(crate) fn new(totals: TotalsRecord) -> Self {
        Self { co_values: Cache::new(CACHED), heads: Cache::new(CACHED), totals }
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

/// Changes to the tree that are not applied yet. Each write sees those before it.
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
    caution: Caution,
}

/// How far around a place in the tree to look for damage before something is put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caution {
    /// Only at the leaf itself.
    Usual,
    /// At the leaves beside it as well, with which sled may merge it: what to do when a batch ran
    /// into damage that the usual caution did not find.
    High,
}

/// Records on either side of a place that are read with [`Caution::High`]: those of two leaves,
/// which hold about 20 at most.
const NEIGHBOURS: usize = 40;

impl<'a> Draft<'a> {
    pub(crate) fn new(tree: &'a Tree, remembered: &'a mut Remembered, caution: Caution) -> Self {
        let totals = remembered.totals;
        Self {
            tree,
            remembered,
            batch: Changes::default(),
            co_values: HashMap::new(),
            headers: HashMap::new(),
            heads: HashMap::new(),
            totals,
            caution,
        }
    }

    /// Adds a write. An error says that the tree cannot be read; the draft is then of no use.
    pub(crate) fn write(&mut self, write: &Write) -> Result<Outcome, StorageError> {
        let id = write.id();
        let outcome = match write {
            Write::Append { header, sessions, .. } => self.append(id, header.as_ref(), sessions),
            Write::Tombstone { session, .. } => self.bury(id, session),
        };
        match outcome {
            Err(StorageError::Corrupt(damage)) => Ok(Outcome::Damaged(damage.on_the_way_to(id))),
            outcome => outcome,
        }
    }

    /// Adds a change in what an upstream has acknowledged.
    pub(crate) fn track(&mut self, update: &UnsyncedUpdate) {
        let key = keys::unsynced(&update.entry);
        if update.synced {
            self.batch.remove(key);
        } else {
            let mark = record::encode(&key, &(), 0);
            self.batch.insert(key, mark);
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
            // What is not stored has no sessions, which need not be looked for.
            for content in sessions {
                self.remembered.heads.insert(keys::head(id, &content.session), None);
            }
        }
        // All that can turn out damaged is read before anything is changed.
        self.look_around(&keys::co_value(id))?;
        for content in sessions {
            self.head(id, &content.session)?;
            self.touch_log(id, content)?;
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

    fn bury(&mut self, id: CoValueId, content: &SessionContent) -> Result<Outcome, StorageError> {
        let Some(deleted) = self.is_deleted(id)? else { return Ok(Outcome::NoHeader) };
        if !content.session.is_delete() {
            return Ok(Outcome::Applied(vec![SessionOutcome::Deleted]));
        }
        let stored = self.head(id, &content.session)?.map_or(0, |head| head.count);
        self.touch_log(id, content)?;
        if content.transactions.is_empty() {
            return Ok(Outcome::Applied(vec![SessionOutcome::Conflict { stored }]));
        }
        let may_bury = stored == content.after || stored >= content.end();
        if may_bury && !deleted {
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
        let mark = keys::erasable(id);
        let record = record::encode(&mark, &(), 0);
        self.batch.insert(mark, record);
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
        let added: u64 = content.transactions.iter().map(|tx| tx.json().len() as u64).sum();
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

    /// Reads the places in the tree where an extension will be put. If sled cannot, that must come
    /// out here, where it is one CoValue's damage, and not when the whole batch is applied.
    fn touch_log(&self, id: CoValueId, content: &SessionContent) -> Result<(), StorageError> {
        let log = keys::log(id, &content.session);
        let key = keys::log_part(&log, content.end(), 0);
        self.tree.get(&key)?;
        self.look_around(&key)?;
        self.look_around(&keys::head(id, &content.session))
    }

    fn look_around(&self, key: &[u8]) -> Result<(), StorageError> {
        match self.caution {
            Caution::Usual => Ok(()),
            Caution::High => self.tree.around(key, NEIGHBOURS),
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
