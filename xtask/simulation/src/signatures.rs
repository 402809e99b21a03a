//! Signature checks with a cache: each check runs once in a simulation.

use std::cell::RefCell;
use std::collections::hash_map::Entry;

use downbeat_crypto::{HashChain, InvalidKey};
use downbeat_driver::{Ed25519, SignatureCheck};
use downbeat_protocol::{LongHash, Signature, SignerId};
use rustc_hash::FxHashMap;

/// Checks signatures and remembers the results: many nodes verify the same logs.
#[derive(Default)]
pub(crate) struct CachedSignatures {
    keys: RefCell<FxHashMap<SignerId, <Ed25519 as SignatureCheck>::Key>>,
    results: RefCell<FxHashMap<(SignerId, LongHash, Signature), bool>>,
}

impl SignatureCheck for CachedSignatures {
    type Key = SignerId;

    fn key(&self, signer: SignerId) -> Result<SignerId, InvalidKey> {
        if let Entry::Vacant(entry) = self.keys.borrow_mut().entry(signer) {
            entry.insert(Ed25519.key(signer)?);
        }
        Ok(signer)
    }

    fn is_valid(&self, signer: &SignerId, chain: &HashChain, signature: &Signature) -> bool {
        let key = (*signer, chain.head(), *signature);
        *self.results.borrow_mut().entry(key).or_insert_with(|| {
            let keys = self.keys.borrow();
            keys.get(signer).is_some_and(|key| Ed25519.is_valid(key, chain, signature))
        })
    }
}
