//! The bytes that are signed for a hash.

use downbeat_protocol::LongHash;

const OPENING: &[u8] = b"\"hash_z";

/// 32 bytes have at most 44 base58 digits.
const MAX_DIGITS: usize = 44;

const MAX_LEN: usize = OPENING.len() + MAX_DIGITS + 1;

/// The JSON string `"hash_z…"` of a hash, quotes included, built in place because one is needed
/// for every signature.
pub(crate) struct SignedMessage {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl SignedMessage {
    pub(crate) fn new(hash: &LongHash) -> Self {
        let mut bytes = [0; MAX_LEN];
        let (opening, rest) = bytes.split_at_mut(OPENING.len());
        opening.copy_from_slice(OPENING);
        let digits = bs58::encode(hash.as_bytes())
            .onto(&mut rest[..MAX_DIGITS])
            .expect("32 bytes have at most 44 base58 digits");
        rest[digits] = b'"';
        Self { bytes, len: OPENING.len() + digits + 1 }
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
