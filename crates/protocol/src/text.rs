//! Short texts of base58 digits, kept inline so that they can be copied.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// Whether all characters are base58 digits (Bitcoin's alphabet, as Jazz uses it).
pub(crate) fn is_base58(text: &str) -> bool {
    // A table without branches is faster for long texts such as signatures.
    text.bytes().fold(true, |all, byte| all & IS_BASE58[usize::from(byte)])
}

const IS_BASE58: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 256")]
        let char = byte as u8;
        table[byte] = char.is_ascii_alphanumeric() && !matches!(char, b'0' | b'O' | b'I' | b'l');
        byte += 1;
    }
    table
};

/// An ASCII text of at most `N` bytes (and at most 255), stored inline.
#[derive(Clone, Copy)]
pub(crate) struct InlineText<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> InlineText<N> {
    /// Copies the text. Returns `None` if it is longer than `N` or not ASCII.
    pub(crate) fn new(text: &str) -> Option<Self> {
        if !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; N];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { len: u8::try_from(text.len()).ok()?, bytes })
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("only ASCII is stored")
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

// The unused bytes are always zero, so whole arrays can be compared.
impl<const N: usize> PartialEq for InlineText<N> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.bytes == other.bytes
    }
}

impl<const N: usize> Eq for InlineText<N> {}

impl<const N: usize> PartialOrd for InlineText<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for InlineText<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl<const N: usize> Hash for InlineText<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Hashes the whole array in words, without branches. A CoValue id has four.
        let (words, rest) = self.bytes.as_chunks::<8>();
        for word in words {
            state.write_u64(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        state.write_u64(u64::from_le_bytes(last));
    }
}

/// A text that is stored inline if it is ASCII and has at most `N` bytes, and on the heap
/// otherwise.
pub(crate) enum ShortText<const N: usize> {
    Inline(InlineText<N>),
    Heap(Box<str>),
}

impl<const N: usize> ShortText<N> {
    pub(crate) fn new(text: &str) -> Self {
        InlineText::new(text).map_or_else(|| Self::Heap(text.into()), Self::Inline)
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Inline(text) => text.as_str(),
            Self::Heap(text) => text,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline(text) => text.as_bytes(),
            Self::Heap(text) => text.as_bytes(),
        }
    }
}
