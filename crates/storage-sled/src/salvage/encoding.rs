//! What sled 0.34 writes into its log: messages, and the tree nodes and changes in them.
//!
//! Everything here reads bytes that may be damaged, so nothing is trusted: a read beyond the end is
//! `None`.

use std::ops::Range;

use crc32fast::Hasher;

use crate::open::SEGMENT_SIZE;

/// Bytes of the checksum at the start of a message.
pub(super) const CRC_LEN: usize = 4;

/// The longest header of a message: a checksum, a kind, and three numbers.
pub(super) const MAX_HEADER_LEN: usize = CRC_LEN + 1 + 3 * 9;

/// sled writes longer nodes into files of their own.
pub(super) const MAX_BODY_LEN: usize = SEGMENT_SIZE / 4;

/// sled's table of pages has fewer pages than this.
const MAX_PAGES: u64 = 1 << 37;

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A tree node as a whole.
    Node,
    /// A change of a leaf.
    Link,
    /// The same in a file of its own, whose name is in the message.
    BlobNode,
    BlobLink,
    /// Anything that holds no records.
    Other,
}

/// The fields before the body of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) crc: u32,
    pub(super) kind: Kind,
    /// The page of the node.
    pub(super) page: u64,
    /// The number of the segment in the order of writing.
    pub(super) segment: u64,
    /// Bytes of this header.
    pub(super) len: usize,
    pub(super) body_len: usize,
}

impl Header {
    /// Parses the header at the start of these bytes, the rest of a segment. `None` if they cannot
    /// begin with a message.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let crc = u32::from_le_bytes(reader.take(CRC_LEN)?.try_into().ok()?);
        let kind = match reader.byte()? {
            1..=7 => Kind::Other,
            8 => Kind::Node,
            9 => Kind::BlobNode,
            10 => Kind::Link,
            11 => Kind::BlobLink,
            _ => return None,
        };
        let body_len = usize::try_from(reader.number()?).ok()?;
        let segment = reader.number()?;
        let page = reader.number()?;
        let len = reader.at;
        let is_possible = body_len <= bytes.len() - len
            // Batches belong to a page with a special number above all others.
            && (page < MAX_PAGES || kind == Kind::Other)
            && segment < (1 << 40);
        is_possible.then_some(Self { crc, kind, page, segment, len, body_len })
    }

    /// Whether these bytes have the kind of a message where a message has it.
    pub(super) fn may_begin(bytes: &[u8]) -> bool {
        matches!(bytes.get(CRC_LEN), Some(1..=11))
    }

    pub(super) fn message_len(&self) -> usize {
        self.len + self.body_len
    }

    /// The body in the bytes from which the header was parsed.
    pub(super) fn body<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.len..self.message_len()]
    }

    /// The difference of the message's checksum and the stored one: 0 if the message is intact.
    pub(super) fn crc_difference(&self, bytes: &[u8]) -> u32 {
        let mut hasher = Hasher::new();
        hasher.update(self.body(bytes));
        hasher.update(&bytes[CRC_LEN..self.len]);
        // sled stores the complement.
        hasher.finalize() ^ !self.crc
    }

    /// The message's place in the order of writing, if it is at this offset in the log.
    pub(super) fn lsn(&self, offset: u64) -> u64 {
        self.segment * SEGMENT_SIZE as u64 + offset % SEGMENT_SIZE as u64
    }
}

/// Reads fields one after the other.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// A number of variable length.
    pub(super) fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        Some(match first {
            0..=240 => u64::from(first),
            241..=248 => 240 + 256 * u64::from(first - 241) + u64::from(self.byte()?),
            249 => 2_288 + 256 * u64::from(self.byte()?) + u64::from(self.byte()?),
            250..=255 => {
                let bytes = self.take(usize::from(first - 247))?;
                let mut number = [0; 8];
                number[..bytes.len()].copy_from_slice(bytes);
                u64::from_le_bytes(number)
            }
        })
    }

    /// Bytes after their length.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        self.range().map(|range| &self.bytes[range])
    }

    /// The place of bytes after their length.
    fn range(&mut self) -> Option<Range<usize>> {
        let len = usize::try_from(self.number()?).ok()?;
        self.take(len)?;
        Some(self.at - len..self.at)
    }
}

/// A node of the tree.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// The first key that belongs to it.
    pub(super) low: &'a [u8],
    /// The prefix that its keys do not repeat.
    pub(super) prefix: &'a [u8],
    pub(super) data: NodeData<'a>,
}

#[derive(Debug)]
pub(super) enum NodeData<'a> {
    /// The keys, and where their values begin in the body.
    Leaf { keys: Vec<&'a [u8]>, values_at: usize },
    /// The keys and pages of other nodes.
    Index { children: Vec<(&'a [u8], u64)> },
}

impl<'a> Node<'a> {
    /// Parses a node. If it is damaged, some of the keys may be wrong.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let _next = reader.number()?;
        let _merging_child = reader.number()?;
        let _is_merging = reader.byte()?;
        let prefix_len = usize::from(reader.byte()?);
        let low = reader.bytes()?;
        let _high = reader.bytes()?;
        let prefix = low.get(..prefix_len)?;
        let kind = reader.byte()?;
        let count = usize::try_from(reader.number()?).ok()?;
        // A key has at least a byte of length.
        let mut keys = Vec::with_capacity(count.min(body.len()));
        for _ in 0..count {
            keys.push(reader.bytes()?);
        }
        let data = match kind {
            0 => NodeData::Leaf { keys, values_at: reader.at },
            1 => {
                let child = |key| Some((key, reader.number()?));
                NodeData::Index { children: keys.into_iter().map_while(child).collect() }
            }
            _ => return None,
        };
        Some(Self { low, prefix, data })
    }
}

/// Finds the values of a leaf, in the order of their keys. `is_valid` decides whether a value
/// belongs to the key with an index, and `found` gets the index and the place of each.
///
/// After a damaged value it looks for the next one that is valid.
pub(super) fn leaf_values(
    body: &[u8],
    values_at: usize,
    count: usize,
    mut is_valid: impl FnMut(usize, &[u8]) -> bool,
    mut found: impl FnMut(usize, Range<usize>),
) {
    let mut reader = Reader { bytes: body, at: values_at };
    let mut next = 0;
    // After damage, any of the keys may be the next.
    let mut is_lost = false;
    while next < count && reader.at < body.len() {
        let at = reader.at;
        let candidates = if is_lost { next..count } else { next..next + 1 };
        let value = reader.range().and_then(|place| {
            let mut candidates = candidates;
            Some((candidates.find(|&key| is_valid(key, &body[place.clone()]))?, place))
        });
        if let Some((key, place)) = value {
            found(key, place);
            next = key + 1;
            is_lost = false;
        } else {
            is_lost = true;
            reader.at = at + 1;
        }
    }
}

/// A change of a leaf that sets a value: the key without the prefix of the leaf, and the place of
/// the value in the body. `None` for other changes.
pub(super) fn parse_set(body: &[u8]) -> Option<(&[u8], Range<usize>)> {
    let mut reader = Reader::new(body);
    if reader.byte()? != 0 {
        return None;
    }
    Some((reader.bytes()?, reader.range()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_read() {
        let cases: [(&[u8], u64); 7] = [
            (&[240], 240),
            (&[241, 1], 241),
            (&[248, 255], 2_287),
            (&[249, 255, 255], 67_823),
            (&[250, 1, 2, 3], 0x03_0201),
            (&[254, 1, 0, 0, 0, 0, 0, 1], 0x01_0000_0000_0001),
            (&[255, 1, 0, 0, 0, 0, 0, 0, 1], 0x0100_0000_0000_0001),
        ];
        for (bytes, number) in cases {
            assert_eq!(Reader::new(bytes).number(), Some(number), "{bytes:?}");
            assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).number(), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_value_after_a_damaged_one_is_found() {
        // Values of one byte, valid under the key with their number.
        let body = [1, 0, 1, 1, 200, 7, 9, 1, 3, 1, 4];
        let mut values = Vec::new();
        let is_valid = |key, value: &[u8]| value == [u8::try_from(key).unwrap()];
        leaf_values(&body, 0, 5, is_valid, |key, place| values.push((key, place)));
        assert_eq!(values, [(0, 1..2), (1, 3..4), (3, 8..9), (4, 10..11)]);
    }
}
