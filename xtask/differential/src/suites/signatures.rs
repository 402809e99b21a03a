//! Signatures: both sides create and accept the same ones. Some keys and signatures are damaged or
//! specially crafted.

use anyhow::Result;
use downbeat_crypto::{AgentSecret, HashChain, VerifyingKey};
use downbeat_protocol::{Limits, Signature, SignerId, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::given::{AGENTS, agent_secret};
use crate::random::Random;
use crate::suite::Rule;

pub(crate) struct Signatures;

#[derive(Serialize, Deserialize)]
pub(crate) struct Case {
    /// `sealerSecret_z…/signerSecret_z…`.
    secret: String,
    /// The transactions of the log.
    transactions: Vec<Text>,
    /// The signer and signature to verify for the log. They may be damaged.
    signer: String,
    signature: String,
}

/// A trusting transaction.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    changes: String,
    made_at: u64,
    meta: Option<String>,
}

impl Rule for Signatures {
    type Case = Case;

    fn case(random: &mut Random) -> Case {
        let secret = agent_secret(random.byte() % AGENTS);
        let transactions: Vec<_> = (0..=random.below(4)).map(|_| Text::random(random)).collect();
        let mut log = transactions.clone();
        let mut key = *secret.agent().signer().as_bytes();
        if random.percent(10) {
            // A signature of other transactions.
            log.pop();
        }
        let chain = chain(&log);
        let signature = secret.signer_secret().sign_chain(&chain);
        let mut signature = signature.to_bytes().expect("a new signature is valid");
        match random.below(10) {
            0 => signature[random.index(64)] ^= 1 << random.below(8),
            1 => key[random.index(32)] ^= 1 << random.below(8),
            2 => key = *agent_secret(random.byte() % AGENTS).agent().signer().as_bytes(),
            3 => add_group_order(&mut signature),
            4 => {
                key = small_order_point(random);
                signature = [0; 64];
                signature[..32].copy_from_slice(&small_order_point(random));
            }
            5 if random.percent(50) => signature[..32].copy_from_slice(&small_order_point(random)),
            _ => {}
        }
        Case {
            secret: secret.expose_text().to_string(),
            transactions,
            signer: SignerId::from_bytes(key).to_string(),
            signature: mangled(random, Signature::from_bytes(&signature).to_string()),
        }
    }

    fn answer(case: &Case) -> Result<Value> {
        let secret = AgentSecret::parse(&case.secret)?;
        let signatures: Vec<_> = (1..=case.transactions.len())
            .map(|end| secret.signer_secret().sign_chain(&chain(&case.transactions[..end])))
            .map(|signature| signature.to_string())
            .collect();
        let transactions = case
            .transactions
            .iter()
            .map(|text| Ok(String::from_utf8(text.transaction().json().to_vec())?))
            .collect::<Result<Vec<_>>>()?;
        let chain = chain(&case.transactions);
        let accepts = Signature::parse(&case.signature).is_ok_and(|signature| {
            SignerId::parse(&case.signer).is_ok_and(|signer| {
                VerifyingKey::new(signer)
                    .is_ok_and(|key| key.verify_chain(&chain, &signature).is_ok())
            })
        });
        Ok(json!({
            "agent": secret.agent().as_str(),
            "signatures": signatures,
            "transactions": transactions,
            "signatureOfHash": secret.signer_secret().sign(&chain.head()).as_str(),
            "acceptsLog": accepts,
            "acceptsHash": accepts,
        }))
    }
}

impl Text {
    fn random(random: &mut Random) -> Self {
        const PARTS: &[&str] = &["a", "é", "😀", "\"", "\\", "\n", "\u{1}", "encrypted_U", "[]"];
        let text = |random: &mut Random| (0..random.below(6)).map(|_| random.pick(PARTS)).collect();
        Self {
            changes: text(random),
            made_at: random.next() >> random.pick(&[11, 24, 40]),
            meta: random.percent(30).then(|| text(random)),
        }
    }

    fn transaction(&self) -> Transaction {
        let made = Transaction::trusting(&self.changes, self.made_at, self.meta.as_deref());
        // Parsing, as for received transactions, must give the same result.
        let read = Transaction::parse(made.json(), &Limits::unlimited());
        debug_assert_eq!(read.as_ref(), Ok(&made));
        made
    }
}

fn chain(transactions: &[Text]) -> HashChain {
    let mut chain = HashChain::new();
    for text in transactions {
        chain.append(text.transaction().json());
    }
    chain
}

/// Adds the order of the group to the scalar of a signature. The equation still holds, but the
/// scalar is not reduced.
fn add_group_order(signature: &mut [u8; 64]) {
    /// 2^252 + 27742317777372353535851937790883648493, little-endian.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        [*byte, _] = sum.to_le_bytes();
        carry = sum >> 8;
    }
}

/// An encoding, reduced or not, of a point whose order divides 8.
fn small_order_point(random: &mut Random) -> [u8; 32] {
    const ORDER_8: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let mut point = [0; 32];
    match random.below(6) {
        0 => point[0] = 1,
        1 => {}
        // p - 1, p and p + 1, for the prime p = 2^255 - 19.
        2 => {
            point = [0xff; 32];
            point[0] = random.pick(&[0xec, 0xed, 0xee]);
            point[31] = 0x7f;
        }
        number => point = ORDER_8[usize::from(number % 2 == 0)],
    }
    if random.percent(50) {
        // The sign of the other coordinate.
        point[31] ^= 0x80;
    }
    point
}

/// Sometimes replaces the signature with a text that does not encode 64 bytes.
fn mangled(random: &mut Random, mut signature: String) -> String {
    if random.percent(4) {
        match random.below(4) {
            0 => drop(signature.pop()),
            1 => signature.push('1'),
            2 => "signature_z".clone_into(&mut signature),
            _ => signature.insert(11, '1'),
        }
    }
    signature
}
