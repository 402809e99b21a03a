//! Signature checks with a cache: each check runs once in a simulation.

use std::cell::RefCell;

use downbeat_crypto::{HashChain, InvalidKey, VerifyingKey};
use downbeat_driver::{Ed25519, SignatureCheck};
use downbeat_protocol::{LongHash, Signature, SignerId};
use rustc_hash::FxHashMap;

/// Checks signatures and remembers the results: many nodes verify the same logs.
#[derive(Default)]
pub(crate) struct CachedSignatures {
    ed25519: Ed25519,
    results: RefCell<FxHashMap<(SignerId, LongHash, Signature), bool>>,
}

impl SignatureCheck for CachedSignatures {
    type Key = VerifyingKey;

    fn key(&self, signer: SignerId) -> Result<VerifyingKey, InvalidKey> {
        self.ed25519.key(signer)
    }

    fn is_valid(&self, key: &VerifyingKey, chain: &HashChain, signature: &Signature) -> bool {
        let check = (key.signer(), chain.head(), *signature);
        let mut results = self.results.borrow_mut();
        *results.entry(check).or_insert_with(|| self.ed25519.is_valid(key, chain, signature))
    }
}
