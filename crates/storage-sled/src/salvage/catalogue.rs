//! Which records a scan has found, and where the best version of each can be read.
//!
//! A record has a checksum over its key and value, so it is trusted wherever it is found. The log
//! holds several versions of most records. The catalogue takes the one that was written last. That
//! is safe, because what the records say only grows: logs and heads are extended, and a deletion is
//! final. Only erased content can come back from an old version, and the deletion hides it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::Path;

use downbeat_protocol::{CoValueId, SessionId};

use super::encoding::{Node, NodeData, leaf_values, parse_set};
use super::scan::{Message, MessageKind, Origin, scan};
use crate::keys::{self, Key};
use crate::record::{self, CoValueRecord, HeadRecord, TotalsRecord};

/// Everything that was found.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) co_values: BTreeMap<CoValueId, FoundCoValue>,
    pub(super) totals: Option<TotalsRecord>,
    /// Records in all versions.
    pub(super) records: u64,
}

/// The records of a CoValue.
#[derive(Debug, Default)]
pub(super) struct FoundCoValue {
    pub(super) record: Option<Version>,
    /// Whether any record says so.
    pub(super) deleted: bool,
    pub(super) header_chunks: BTreeMap<u32, Version>,
    pub(super) sessions: BTreeMap<SessionId, FoundSession>,
}

/// The records of a session.
#[derive(Debug, Default)]
pub(super) struct FoundSession {
    /// The number of transactions in the highest head, and that head.
    pub(super) head: Option<(u64, Version)>,
    /// By the number of transactions at the end of the extension, and the number of the chunk.
    pub(super) chunks: BTreeMap<(u64, u32), Version>,
}

/// A version of a record.
#[derive(Debug)]
pub(super) struct Version {
    /// Its place in the order of writing.
    lsn: u64,
    pub(super) place: Place,
}

/// Where the value of a record is.
#[derive(Debug)]
pub(super) enum Place {
    Log { offset: u64, len: u32 },
    Blob { name: i64, offset: u64, len: u32 },
    Memory(Box<[u8]>),
}

impl Catalogue {
    /// Scans the log of a store, twice: the changes of a leaf do not repeat the prefix of its keys,
    /// and the leaf can stand behind them. `progress` gets the number of bytes that were read.
    pub(super) fn read(dir: &Path, mut progress: impl FnMut(u64)) -> io::Result<Self> {
        let mut catalogue = Self::default();
        let mut pages = Pages::default();
        let nodes = |message: Message<'_>| {
            if message.kind == MessageKind::Node {
                catalogue.add_node(&message, &mut pages);
            }
        };
        scan(dir, nodes, &mut progress)?;
        let links = |message: Message<'_>| {
            if message.kind == MessageKind::Link {
                catalogue.add_link(&message, &pages);
            }
        };
        scan(dir, links, &mut progress)?;
        Ok(catalogue)
    }

    fn add_node(&mut self, message: &Message<'_>, pages: &mut Pages) {
        let Some(node) = Node::parse(message.body) else { return };
        match node.data {
            NodeData::Leaf { keys, values_at } => {
                pages.add_leaf(message, node.prefix, node.low);
                let is_valid = |index: usize, value: &[u8]| {
                    record::is_intact(&[node.prefix, keys[index]], value)
                };
                let count = keys.len();
                leaf_values(message.body, values_at, count, is_valid, |index, place| {
                    let key = [node.prefix, keys[index]].concat();
                    self.add(&key, message, place);
                });
            }
            NodeData::Index { children } => {
                for (key, page) in children {
                    let low = [node.prefix, key].concat();
                    pages.lows.entry(page).or_insert(low);
                }
            }
        }
    }

    fn add_link(&mut self, message: &Message<'_>, pages: &Pages) {
        let Some((suffix, place)) = parse_set(message.body) else { return };
        let value = &message.body[place.clone()];
        if let Some(key) = pages.whole_key(message, suffix, value) {
            self.add(&key, message, place);
        }
    }

    /// Adds an intact record of a message.
    fn add(&mut self, key: &[u8], message: &Message<'_>, place: Range<usize>) {
        let Some(parsed) = keys::parse(key) else { return };
        self.records += 1;
        let value = &message.body[place.clone()];
        let version = || version(message, &place);
        match parsed {
            Key::CoValue(id) => {
                let Ok(record) = record::decode::<CoValueRecord<'_>>(key, value) else { return };
                let co_value = self.co_values.entry(id).or_default();
                co_value.deleted |= record.deleted;
                replace(&mut co_value.record, version());
            }
            Key::HeaderChunk(id, chunk) => {
                let chunks = &mut self.co_values.entry(id).or_default().header_chunks;
                replace_in(chunks, chunk, version());
            }
            Key::Head(id, session) => {
                let Ok(head) = record::decode::<HeadRecord<'_>>(key, value) else { return };
                let session = self.session(id, session);
                if session.head.as_ref().is_none_or(|(count, _)| *count < head.count) {
                    session.head = Some((head.count, version()));
                }
            }
            Key::LogChunk(id, session, end, chunk) => {
                replace_in(&mut self.session(id, session).chunks, (end, chunk), version());
            }
            Key::Deleted(id) => self.co_values.entry(id).or_default().deleted = true,
            Key::Totals => {
                let Ok(totals) = record::decode::<TotalsRecord>(key, value) else { return };
                if self.totals.is_none_or(|known| known.batches < totals.batches) {
                    self.totals = Some(totals);
                }
            }
        }
    }

    fn session(&mut self, id: CoValueId, session: SessionId) -> &mut FoundSession {
        self.co_values.entry(id).or_default().sessions.entry(session).or_default()
    }
}

fn version(message: &Message<'_>, place: &Range<usize>) -> Version {
    let (start, len) = (place.start as u64, u32::try_from(place.len()).unwrap_or(u32::MAX));
    let place = match message.origin {
        Origin::Log(offset) => Place::Log { offset: offset + start, len },
        Origin::Blob(name, offset) => Place::Blob { name, offset: offset + start, len },
        Origin::Repaired => Place::Memory(message.body[place.clone()].into()),
    };
    Version { lsn: message.lsn, place }
}

fn replace(known: &mut Option<Version>, new: Version) {
    if known.as_ref().is_none_or(|known| known.lsn < new.lsn) {
        *known = Some(new);
    }
}

fn replace_in<K: Ord>(known: &mut BTreeMap<K, Version>, key: K, new: Version) {
    let is_newer = known.get(&key).is_none_or(|known| known.lsn < new.lsn);
    if is_newer {
        known.insert(key, new);
    }
}

/// What is known of the pages of the tree, to complete the keys of changes.
#[derive(Debug, Default)]
struct Pages {
    /// The prefixes that leaves had.
    prefixes: HashMap<u64, Vec<Vec<u8>>>,
    /// The first keys of pages. Their prefixes are prefixes of these keys.
    lows: HashMap<u64, Vec<u8>>,
}

impl Pages {
    fn add_leaf(&mut self, message: &Message<'_>, prefix: &[u8], low: &[u8]) {
        self.lows.entry(message.page).or_insert_with(|| low.to_vec());
        let prefixes = self.prefixes.entry(message.page).or_default();
        if !prefixes.iter().any(|known| known == prefix) {
            prefixes.push(prefix.to_vec());
        }
    }

    /// The whole key of a change. The checksum of the value tells which prefix is right.
    fn whole_key(&self, message: &Message<'_>, suffix: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let is_right = |prefix: &&[u8]| record::is_intact(&[prefix, suffix], value);
        let prefixes = self.prefixes.get(&message.page).into_iter().flatten();
        let known = prefixes.map(Vec::as_slice).find(is_right);
        // The leaf itself may be lost.
        let guessed = || {
            let low = self.lows.get(&message.page)?;
            (0..=low.len()).rev().map(|len| &low[..len]).find(is_right)
        };
        let prefix = known.or_else(guessed).or_else(|| Some(&[][..]).filter(is_right))?;
        Some([prefix, suffix].concat())
    }
}
