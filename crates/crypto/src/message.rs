//! The signed message of a hash.

use downbeat_protocol::LongHash;

use crate::base58::{self, MAX_DIGITS_OF_32};

const OPENING: &[u8] = b"\"hash_z";

const MAX_LEN: usize = OPENING.len() + MAX_DIGITS_OF_32 + 1;

/// The JSON string `"hash_z…"` of a hash, with its quotes. Built without allocation, because every
/// signature needs one.
pub(crate) struct SignedMessage {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl SignedMessage {
    pub(crate) fn new(hash: &LongHash) -> Self {
        let mut digits = [0; MAX_DIGITS_OF_32];
        let len = base58::encode_32(hash.as_bytes(), &mut digits);
        let end = OPENING.len() + len;
        let mut bytes = [0; MAX_LEN];
        bytes[..OPENING.len()].copy_from_slice(OPENING);
        bytes[OPENING.len()..end].copy_from_slice(&digits[..len]);
        bytes[end] = b'"';
        Self { bytes, len: end + 1 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_the_quoted_text_of_the_hash() {
        for byte in [0, 1, 127, 255] {
            let hash = LongHash::from_bytes([byte; 32]);
            assert_eq!(SignedMessage::new(&hash).as_bytes(), format!("\"{hash}\"").as_bytes());
        }
    }
}
