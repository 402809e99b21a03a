//! The verdicts on tens of thousands of unusual keys and signatures are those of ed25519-dalek 2,
//! recorded in `verdicts.txt`. Servers and clients that judge a signature differently would split
//! the network permanently, so a new version of the library must not change a single verdict.

use std::fmt::Write;

use blake3::{Hasher, OutputReader};
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::{EdwardsPoint, Scalar};
use downbeat_crypto::{AgentSecret, VerifyingKey};
use downbeat_protocol::{LongHash, Signature, SignerId};
use sha2::{Digest, Sha512};

type Bytes = [u8; 32];

/// The order of the group's base point, little-endian.
const ORDER: Bytes = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The cases of a kind so far. The inputs have a hash of their own to tell a change of the
/// generator from a change of verdicts.
#[derive(Default)]
struct Kind {
    cases: u32,
    accepted: u32,
    invalid_keys: u32,
    inputs: Hasher,
    verdicts: Hasher,
}

impl Kind {
    fn judge(&mut self, key: &Bytes, hash: &Bytes, r: &Bytes, s: &Bytes) {
        for part in [key, hash, r, s] {
            self.inputs.update(part);
        }
        let verdict = match VerifyingKey::new(SignerId::from_bytes(*key)) {
            Ok(key) => {
                let signature = Signature::from_bytes(&joined(r, s));
                u8::from(key.verify(&LongHash::from_bytes(*hash), &signature).is_ok())
            }
            Err(_) => 2,
        };
        self.cases += 1;
        self.accepted += u32::from(verdict == 1);
        self.invalid_keys += u32::from(verdict == 2);
        self.verdicts.update(&[verdict]);
    }

    fn line(&self, name: &str) -> String {
        let Self { cases, accepted, invalid_keys, .. } = self;
        let (inputs, verdicts) = (self.inputs.finalize(), self.verdicts.finalize());
        format!("{name} {cases} {accepted} {invalid_keys} {inputs} {verdicts}\n")
    }
}

/// Bytes that look random but are the same in every run.
struct Seeded(OutputReader);

impl Seeded {
    fn new(kind: &str) -> Self {
        Self(Hasher::new_derive_key("Downbeat verdicts").update(kind.as_bytes()).finalize_xof())
    }

    fn bytes(&mut self) -> Bytes {
        let mut bytes = [0; 32];
        self.0.fill(&mut bytes);
        bytes
    }

    fn scalar(&mut self) -> Scalar {
        Scalar::from_bytes_mod_order(self.bytes())
    }
}

fn joined(r: &Bytes, s: &Bytes) -> [u8; 64] {
    let mut joined = [0; 64];
    joined[..32].copy_from_slice(r);
    joined[32..].copy_from_slice(s);
    joined
}

/// The scalar that the signer's key is multiplied with.
fn challenge(r: &Bytes, key: &Bytes, hash: &Bytes) -> Scalar {
    let message = format!("\"{}\"", LongHash::from_bytes(*hash));
    let digest = Sha512::new().chain_update(r).chain_update(key).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&digest.into())
}

fn encoded(point: EdwardsPoint) -> Bytes {
    point.compress().to_bytes()
}

/// 2^255 - 19 + `offset`, for offsets from -19 to 18.
fn modulus_plus(offset: i8) -> Bytes {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed_u8.wrapping_add_signed(offset);
    bytes[31] = 0x7f;
    bytes
}

fn small(number: u8) -> Bytes {
    let mut bytes = [0; 32];
    bytes[0] = number;
    bytes
}

/// With the other sign of x.
fn flipped(mut bytes: Bytes) -> Bytes {
    bytes[31] ^= 0x80;
    bytes
}

/// The sum as 256-bit numbers, or nothing if it does not fit.
fn sum(left: &Bytes, right: &Bytes) -> Option<Bytes> {
    let mut carry = 0;
    let mut sum = [0; 32];
    for (digit, (left, right)) in sum.iter_mut().zip(left.iter().zip(right)) {
        carry += u16::from(*left) + u16::from(*right);
        *digit = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    (carry == 0).then_some(sum)
}

/// Every encoding of the 8 points of small order: reduced and not, and zero with either sign.
fn small_orders() -> Vec<Bytes> {
    let mut all: Vec<_> = EIGHT_TORSION.iter().map(|point| encoded(*point)).collect();
    for y in [small(0), small(1), modulus_plus(-1), modulus_plus(0), modulus_plus(1)] {
        for encoding in [y, flipped(y)] {
            if !all.contains(&encoding) {
                all.push(encoding);
            }
        }
    }
    all
}

/// A signature of `hash` for the key with secret `a` and the small-order part `key_part`, with a
/// nonce `r` and the small-order part `r_part`.
fn signed(
    (a, key_part): (Scalar, EdwardsPoint),
    (r, r_part): (Scalar, EdwardsPoint),
    hash: &Bytes,
) -> (Bytes, Bytes, Bytes) {
    let key = encoded(EdwardsPoint::mul_base(&a) + key_part);
    let r_bytes = encoded(EdwardsPoint::mul_base(&r) + r_part);
    let s = r + challenge(&r_bytes, &key, hash) * a;
    (key, r_bytes, s.to_bytes())
}

fn keys(kind: &mut Kind, seeded: &mut Seeded) {
    let zero = small(0);
    let numbers = (0..=255).map(small).chain((-19..=18).map(modulus_plus));
    for key in numbers.flat_map(|number| [number, flipped(number)]).chain(small_orders()) {
        kind.judge(&key, &seeded.bytes(), &small(1), &zero);
    }
    for _ in 0..5000 {
        kind.judge(&seeded.bytes(), &seeded.bytes(), &seeded.bytes(), &seeded.scalar().to_bytes());
    }
}

/// Both the key and R of small order, with each S that could make a difference.
fn small_order_keys_and_r(kind: &mut Kind, seeded: &mut Seeded) {
    let scalars = [small(0), small(8), ORDER];
    for key in small_orders() {
        for r in small_orders() {
            for _ in 0..16 {
                let hash = seeded.bytes();
                for s in &scalars {
                    kind.judge(&key, &hash, &r, s);
                }
            }
        }
    }
}

/// A key of small order in each encoding, with an R that has its part.
fn small_order_keys(kind: &mut Kind, seeded: &mut Seeded) {
    for key in small_orders() {
        for r_part in EIGHT_TORSION {
            for _ in 0..24 {
                let (s, hash) = (seeded.scalar(), seeded.bytes());
                let r = encoded(EdwardsPoint::mul_base(&s) + r_part);
                kind.judge(&key, &hash, &r, s.as_bytes());
            }
        }
    }
}

/// R of small order in each encoding, with a key that has a large and a small part.
fn small_order_r(kind: &mut Kind, seeded: &mut Seeded) {
    for key_part in EIGHT_TORSION {
        for r in small_orders() {
            for _ in 0..40 {
                let (a, hash) = (seeded.scalar(), seeded.bytes());
                let key = encoded(EdwardsPoint::mul_base(&a) + key_part);
                let s = challenge(&r, &key, &hash) * a;
                kind.judge(&key, &hash, &r, s.as_bytes());
            }
        }
    }
}

/// The key and R have a large and a small part each.
fn mixed_order(kind: &mut Kind, seeded: &mut Seeded) {
    for key_part in EIGHT_TORSION {
        for r_part in EIGHT_TORSION {
            for _ in 0..96 {
                let (a, r, hash) = (seeded.scalar(), seeded.scalar(), seeded.bytes());
                let (key, r, s) = signed((a, key_part), (r, r_part), &hash);
                kind.judge(&key, &hash, &r, &s);
                kind.judge(&key, &hash, &flipped(r), &s);
                kind.judge(&flipped(key), &hash, &r, &s);
            }
        }
    }
}

/// S plus each multiple of the order that fits, and S with each of its upper bits flipped.
fn scalars(kind: &mut Kind, seeded: &mut Seeded) {
    for round in 0..256 {
        let part = EIGHT_TORSION[round % 8];
        let (a, r, hash) = (seeded.scalar(), seeded.scalar(), seeded.bytes());
        let (key, r, s) = signed((a, part), (r, part), &hash);
        let mut next = Some(s);
        while let Some(s) = next {
            kind.judge(&key, &hash, &r, &s);
            next = sum(&s, &ORDER);
        }
        for bit in 0..8 {
            let mut s = s;
            s[31] ^= 1 << bit;
            kind.judge(&key, &hash, &r, &s);
        }
    }
}

/// Valid signatures, and each of them with every single bit flipped.
fn bit_flips(kind: &mut Kind, seeded: &mut Seeded) {
    for _ in 0..10 {
        let (secret, hash) = (AgentSecret::from_secret_seed(&seeded.bytes()), seeded.bytes());
        let signature = secret.signer_secret().sign(&LongHash::from_bytes(hash));
        let signature = signature.to_bytes().unwrap();
        let mut parts = [[0; 32]; 4];
        parts[0] = *secret.agent().signer().as_bytes();
        parts[1] = hash;
        parts[2].copy_from_slice(&signature[..32]);
        parts[3].copy_from_slice(&signature[32..]);
        kind.judge(&parts[0], &parts[1], &parts[2], &parts[3]);
        for (part, bit) in (0..4).flat_map(|part| (0..256).map(move |bit| (part, bit))) {
            let mut parts = parts;
            parts[part][bit / 8] ^= 1 << (bit % 8);
            kind.judge(&parts[0], &parts[1], &parts[2], &parts[3]);
        }
    }
}

/// Well-known numbers as key, R and S, each with each.
fn constants(kind: &mut Kind, seeded: &mut Seeded) {
    let mut before_order = ORDER;
    before_order[0] -= 1;
    let mut numbers = small_orders();
    numbers.extend([[0xff; 32], small(2), modulus_plus(18), flipped(modulus_plus(18)), ORDER]);
    numbers.extend([before_order, sum(&ORDER, &small(1)).unwrap()]);
    numbers.extend([Scalar::ONE, Scalar::from(8_u8)].map(|s| encoded(EdwardsPoint::mul_base(&s))));
    let hash = seeded.bytes();
    for key in &numbers {
        for r in &numbers {
            for s in &numbers {
                kind.judge(key, &hash, r, s);
            }
        }
    }
}

fn valid(kind: &mut Kind, seeded: &mut Seeded) {
    for _ in 0..1000 {
        let (a, r, hash) = (seeded.scalar(), seeded.scalar(), seeded.bytes());
        let neutral = EIGHT_TORSION[0];
        let (key, r, s) = signed((a, neutral), (r, neutral), &hash);
        kind.judge(&key, &hash, &r, &s);
    }
}

#[test]
fn verdicts_are_those_of_dalek_2() {
    type Generate = fn(&mut Kind, &mut Seeded);
    let kinds: [(&str, Generate); 9] = [
        ("keys", keys),
        ("small_order_keys_and_r", small_order_keys_and_r),
        ("small_order_keys", small_order_keys),
        ("small_order_r", small_order_r),
        ("mixed_order", mixed_order),
        ("scalars", scalars),
        ("bit_flips", bit_flips),
        ("constants", constants),
        ("valid", valid),
    ];
    let mut found = String::from("# kind, cases, accepted, invalid keys, BLAKE3 of the inputs, ");
    writeln!(found, "BLAKE3 of the verdicts (0 refused, 1 accepted, 2 invalid key)").unwrap();
    for (name, generate) in kinds {
        let mut kind = Kind::default();
        generate(&mut kind, &mut Seeded::new(name));
        found.push_str(&kind.line(name));
    }
    assert!(found == include_str!("verdicts.txt"), "other verdicts or inputs:\n{found}");
}
