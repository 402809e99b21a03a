//! Allocations for hashing and verifying. Unlike times, they are the same in every run.

use downbeat_crypto::{AgentSecret, HashChain, VerifyingKey};

#[test]
fn verifying_ten_transactions_allocates_the_chain_and_one_buffer() {
    let secret = AgentSecret::from_secret_seed(&[1; 32]);
    let transactions = [[7; 240]; 10];
    let mut signed = HashChain::new();
    signed.append_all(transactions.iter().map(|one| &one[..]));
    let signature = secret.signer_secret().sign_chain(&signed);
    let key = VerifyingKey::new(secret.agent().signer()).unwrap();

    let info = allocation_counter::measure(|| {
        let mut chain = HashChain::new();
        chain.append_all(transactions.iter().map(|one| &one[..]));
        key.verify_chain(&chain, &signature).unwrap();
    });
    // Measured: 2 of 10112 bytes. The bytes may be a tenth more.
    assert!(info.count_total <= 2 && info.bytes_total <= 11_100, "{info:?}");
}
