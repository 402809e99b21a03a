//! Public keys that are kept between checks.

use std::cell::RefCell;

use downbeat_crypto::{HashChain, InvalidKey, VerifyingKey};
use downbeat_protocol::{Signature, SignerId};

use super::SignatureCheck;

/// The number of keys that are kept: a key takes about 200 bytes.
const SLOTS: usize = 1024;

/// Checks each signature with Ed25519, and keeps the decompressed keys of about 1,000 recent
/// signers. Decompressing a key takes a tenth of a check.
///
/// Each thread has its own.
#[derive(Debug)]
pub struct Ed25519 {
    /// Each key has one slot in which it may be. So keys that were made to share a slot only slow
    /// down the checks of their own signers and of those who share it by chance.
    slots: RefCell<Vec<Option<VerifyingKey>>>,
}

impl Default for Ed25519 {
    fn default() -> Self {
        Self { slots: RefCell::new(vec![None; SLOTS]) }
    }
}

impl SignatureCheck for Ed25519 {
    type Key = VerifyingKey;

    fn key(&self, signer: SignerId) -> Result<VerifyingKey, InvalidKey> {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[slot_of(signer)];
        if let Some(key) = slot
            && key.signer() == signer
        {
            return Ok(key.clone());
        }
        let key = VerifyingKey::new(signer)?;
        *slot = Some(key.clone());
        Ok(key)
    }

    fn is_valid(&self, key: &VerifyingKey, chain: &HashChain, signature: &Signature) -> bool {
        key.verify_chain(chain, signature).is_ok()
    }
}

/// The slot of a key. The bytes of honest keys are as good as random.
fn slot_of(signer: SignerId) -> usize {
    let bytes = signer.as_bytes();
    usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(first: u8, last: u8) -> SignerId {
        // Of the y coordinates that begin with these bytes, about half are those of a point.
        (0..=u8::MAX)
            .map(|tried| {
                let mut bytes = [tried; 32];
                (bytes[0], bytes[1], bytes[31]) = (first, 0, last);
                SignerId::from_bytes(bytes)
            })
            .find(|signer| VerifyingKey::new(*signer).is_ok())
            .unwrap()
    }

    #[test]
    fn kept_keys_are_those_of_their_signers() {
        let keys = Ed25519::default();
        let same_slot = [signer(1, 1), signer(1, 2)];
        assert_eq!(slot_of(same_slot[0]), slot_of(same_slot[1]));
        for signer in [same_slot[0], same_slot[0], same_slot[1], same_slot[0], signer(2, 1)] {
            assert_eq!(keys.key(signer), VerifyingKey::new(signer));
        }
    }

    #[test]
    fn an_invalid_key_replaces_none() {
        let keys = Ed25519::default();
        let valid = signer(1, 1);
        keys.key(valid).unwrap();
        let invalid = (0..=u8::MAX)
            .map(|tried| {
                let mut bytes = [tried; 32];
                (bytes[0], bytes[1], bytes[31]) = (1, 0, 1);
                SignerId::from_bytes(bytes)
            })
            .find(|signer| VerifyingKey::new(*signer).is_err())
            .unwrap();
        assert_eq!(keys.key(invalid), Err(InvalidKey(invalid)));
        let slots = keys.slots.borrow();
        assert_eq!(slots[slot_of(valid)].as_ref().unwrap().signer(), valid);
    }
}
