//! Unusual signatures: accepted exactly if the reference accepts them, as tests of the reference
//! with the same keys and signatures have shown.

use downbeat_crypto::{AgentSecret, InvalidKey, VerifyError, VerifyingKey, hash};
use downbeat_protocol::{LongHash, Signature, SignerId};

/// The order of the group's base point, little-endian.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The neutral point, whose order is 1.
const NEUTRAL: [u8; 32] = bytes(1, 0, 0);
/// The neutral point with a y coordinate that is not reduced (p + 1).
const NEUTRAL_UNREDUCED: [u8; 32] = bytes(0xee, 0xff, 0x7f);
/// The neutral point with the sign of an x coordinate that is zero.
const NEUTRAL_SIGNED: [u8; 32] = bytes(1, 0, 0x80);
/// The point of order 2 (y = -1).
const ORDER_TWO: [u8; 32] = bytes(0xec, 0xff, 0x7f);

const fn bytes(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

fn signature(r: [u8; 32], s: [u8; 32]) -> Signature {
    let mut joined = [0; 64];
    joined[..32].copy_from_slice(&r);
    joined[32..].copy_from_slice(&s);
    Signature::from_bytes(&joined)
}

fn accepts(key: [u8; 32], hash: &LongHash, signature: &Signature) -> bool {
    VerifyingKey::new(SignerId::from_bytes(key)).unwrap().verify(hash, signature).is_ok()
}

#[test]
fn an_unreduced_scalar_is_refused() {
    let secret = AgentSecret::from_secret_seed(&[5; 32]);
    let hash = hash(b"log");
    let good = secret.signer_secret().sign(&hash).to_bytes().unwrap();
    let (r, s) = (good[..32].try_into().unwrap(), &good[32..]);
    let mut unreduced = [0; 32];
    let mut carry = 0;
    for (index, byte) in unreduced.iter_mut().enumerate() {
        carry += u16::from(s[index]) + u16::from(GROUP_ORDER[index]);
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    let key = *secret.agent().signer().as_bytes();
    assert!(accepts(key, &hash, &Signature::from_bytes(&good)));
    assert!(!accepts(key, &hash, &signature(r, unreduced)));
}

#[test]
fn keys_of_small_order_are_accepted_in_every_encoding() {
    let zero_scalar = signature(NEUTRAL, [0; 32]);
    for key in [NEUTRAL, NEUTRAL_UNREDUCED, NEUTRAL_SIGNED] {
        assert!(accepts(key, &hash(b"log"), &zero_scalar), "{key:x?}");
    }
}

#[test]
fn r_is_compared_by_its_bytes() {
    for r in [NEUTRAL_UNREDUCED, NEUTRAL_SIGNED] {
        assert!(!accepts(NEUTRAL, &hash(b"log"), &signature(r, [0; 32])), "{r:x?}");
    }
}

/// With a key of order 2 and S = 0, the equation without cofactor holds for R neutral where the
/// challenge is even; the one with cofactor would hold for every message.
#[test]
fn the_equation_has_no_cofactor() {
    let zero_scalar = signature(NEUTRAL, [0; 32]);
    let accepted =
        (0..64_u8).filter(|&message| accepts(ORDER_TWO, &hash(&[message]), &zero_scalar)).count();
    assert!((1..64).contains(&accepted), "{accepted}");
}

#[test]
fn errors_say_what_was_wrong() {
    let secret = AgentSecret::from_secret_seed(&[1; 32]);
    let (signer, hash) = (secret.agent().signer(), hash(b"log"));
    let key = VerifyingKey::new(signer).unwrap();
    let wrong = Signature::from_bytes(&[0; 64]);
    assert_eq!(key.verify(&hash, &wrong), Err(VerifyError::WrongSignature { signer, hash }));
    let short = "signature_z22".parse().unwrap();
    assert!(matches!(key.verify(&hash, &short), Err(VerifyError::MalformedSignature(_))));
    let not_a_key = SignerId::from_bytes(bytes(2, 0, 0));
    assert_eq!(VerifyingKey::new(not_a_key).unwrap_err(), InvalidKey(not_a_key));
}
