//! Records: values of a key-value engine, with a version and a checksum.
//!
//! A record has one byte of version, four bytes of checksum (CRC-32 of the version, the key and the
//! body, little-endian), and the body. The checksum covers the key, so it also finds a record under
//! a wrong key.
//!
//! Public for the crates of this workspace only. No stability is promised.

use bincode::config::{self, Configuration};
use bytes::Bytes;
use downbeat_protocol::{Limits, Signature, Transaction};
use serde::{Deserialize, Serialize};

/// The version of the records that are written.
const VERSION: u8 = 1;

/// Bytes before the body.
pub const PREFIX_LEN: usize = 1 + 4;

const ENCODING: Configuration = config::standard();

/// Stored content was checked when it was accepted, so there are no limits.
const STORED: Limits = Limits::unlimited();

/// Why bytes are no record. The caller adds the name of the expected record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// The record ends too early.
    #[error("the record is cut short")]
    Short,
    /// Another version.
    #[error("the record has version {0}, and only {VERSION} is known")]
    Version(u8),
    /// Other bytes than were written.
    #[error("the checksum is wrong")]
    Checksum,
    /// The bincode is malformed.
    #[error("the record does not decode: {0}")]
    Decode(String),
    /// A transaction is malformed.
    #[error("a transaction does not parse: {0}")]
    Transaction(String),
    /// The content is impossible.
    #[error("{0}")]
    Content(&'static str),
}

/// The state of a session's log.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeadRecord<'a> {
    /// Transactions.
    pub count: u64,
    /// Bytes since the last checkpoint.
    pub since_checkpoint: u64,
    /// Bytes of the transactions' JSON.
    pub bytes: u64,
    /// The signature of the log up to its end.
    pub signature: &'a str,
}

/// The description of an extension. The JSON of its transactions follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtensionRecord<'a> {
    /// Whether the log has a checkpoint at the end of the extension.
    pub checkpoint: bool,
    /// The signature of the log up to the end of the extension.
    pub signature: &'a str,
    /// Bytes of each transaction's JSON.
    pub lengths: Vec<u64>,
}

/// A record with a bincode body.
pub fn encode(key: &[u8], body: &impl Serialize, len_hint: usize) -> Vec<u8> {
    let mut record = begin(len_hint);
    encode_into(&mut record, body);
    seal(key, record)
}

/// A record whose body is just these bytes.
pub fn encode_bytes(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut record = begin(body.len());
    record.extend_from_slice(body);
    seal(key, record)
}

/// A record with an [`ExtensionRecord`] and the JSON of its transactions.
pub fn encode_extension(
    key: &[u8],
    transactions: &[Transaction],
    signature: &Signature,
    checkpoint: bool,
) -> Vec<u8> {
    let json: usize = transactions.iter().map(|tx| tx.json().len()).sum();
    let lengths = transactions.len() * size_of::<u64>();
    let mut record = begin(json + signature.as_str().len() + lengths);
    encode_extension_into(&mut record, transactions, signature, checkpoint);
    seal(key, record)
}

/// Appends an [`ExtensionRecord`] and the JSON of its transactions.
pub fn encode_extension_into(
    bytes: &mut Vec<u8>,
    transactions: &[Transaction],
    signature: &Signature,
    checkpoint: bool,
) {
    let lengths = transactions.iter().map(|tx| tx.json().len() as u64).collect();
    let signature = signature.as_str();
    encode_into(bytes, &ExtensionRecord { checkpoint, signature, lengths });
    for tx in transactions {
        bytes.extend_from_slice(tx.json());
    }
}

/// A record without its body and checksum.
fn begin(len_hint: usize) -> Vec<u8> {
    let mut record = Vec::with_capacity(PREFIX_LEN + len_hint);
    record.push(VERSION);
    record.extend_from_slice(&[0; 4]);
    record
}

/// Appends the bincode of a body.
pub fn encode_into(bytes: &mut Vec<u8>, body: &impl Serialize) {
    bincode::serde::encode_into_std_write(body, bytes, ENCODING)
        .expect("the records hold nothing that bincode cannot encode, and a Vec takes any bytes");
}

/// Adds the checksum.
fn seal(key: &[u8], mut record: Vec<u8>) -> Vec<u8> {
    let (prefix, body) = record.split_at_mut(PREFIX_LEN);
    prefix[1..].copy_from_slice(&checksum(&[key], body).to_le_bytes());
    record
}

/// Checks a record and decodes its body.
pub fn decode<'a, T: Deserialize<'a>>(key: &[u8], record: &'a [u8]) -> Result<T, InvalidRecord> {
    let (value, rest) = decode_from(decode_bytes(key, record)?)?;
    if rest.is_empty() { Ok(value) } else { Err(InvalidRecord::Content("bytes are left over")) }
}

/// Checks a record of [`encode_extension`], or one of [`encode_bytes`] that holds the bodies of
/// several of them. Returns the description and the JSON of each extension.
pub fn decode_extensions<'a>(
    key: &[u8],
    record: &'a [u8],
) -> Result<Vec<(ExtensionRecord<'a>, &'a [u8])>, InvalidRecord> {
    let mut body = decode_bytes(key, record)?;
    let mut extensions = Vec::with_capacity(1);
    while !body.is_empty() {
        let (extension, rest): (ExtensionRecord<'_>, _) = decode_from(body)?;
        let len = extension.lengths.iter().try_fold(0_u64, |sum, len| sum.checked_add(*len));
        let len = len.and_then(|len| usize::try_from(len).ok());
        let (json, rest) =
            len.and_then(|len| rest.split_at_checked(len)).ok_or(InvalidRecord::Short)?;
        extensions.push((extension, json));
        body = rest;
    }
    Ok(extensions)
}

/// Decodes a body, and returns the bytes after it.
pub fn decode_from<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), InvalidRecord> {
    let (value, len) = bincode::serde::borrow_decode_from_slice(bytes, ENCODING)
        .map_err(|error| InvalidRecord::Decode(error.to_string()))?;
    Ok((value, bytes.get(len..).ok_or(InvalidRecord::Short)?))
}

/// Splits the JSON of an extension into transactions, without the first `skip`.
pub fn split_transactions(
    json: &Bytes,
    lengths: &[u64],
    skip: u64,
) -> Result<Vec<Transaction>, InvalidRecord> {
    const WRONG: InvalidRecord =
        InvalidRecord::Content("the lengths of its transactions are wrong");
    let skip = usize::try_from(skip).map_err(|_| WRONG)?;
    let mut transactions = Vec::with_capacity(lengths.len().saturating_sub(skip));
    let mut start: usize = 0;
    for (index, &length) in lengths.iter().enumerate() {
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| start.checked_add(length))
            .filter(|&end| end <= json.len())
            .ok_or(WRONG)?;
        if index >= skip {
            let transaction = Transaction::parse(&json.slice(start..end), &STORED)
                .map_err(|error| InvalidRecord::Transaction(error.to_string()))?;
            transactions.push(transaction);
        }
        start = end;
    }
    if start == json.len() { Ok(transactions) } else { Err(WRONG) }
}

/// Checks a record, and returns its body.
pub fn decode_bytes<'a>(key: &[u8], record: &'a [u8]) -> Result<&'a [u8], InvalidRecord> {
    let (version, rest) = record.split_first().ok_or(InvalidRecord::Short)?;
    let (sum, body) = rest.split_first_chunk().ok_or(InvalidRecord::Short)?;
    if *version != VERSION {
        return Err(InvalidRecord::Version(*version));
    }
    if u32::from_le_bytes(*sum) != checksum(&[key], body) {
        return Err(InvalidRecord::Checksum);
    }
    Ok(body)
}

/// Whether these bytes are a record with a right checksum under this key, which is given in parts.
pub fn is_intact(key: &[&[u8]], record: &[u8]) -> bool {
    let Some((&VERSION, rest)) = record.split_first() else { return false };
    let Some((sum, body)) = rest.split_first_chunk() else { return false };
    u32::from_le_bytes(*sum) == checksum(key, body)
}

/// The key is given in parts.
fn checksum(key: &[&[u8]], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION]);
    for part in key {
        hasher.update(part);
    }
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: HeadRecord<'_> =
        HeadRecord { count: 70_000, since_checkpoint: 3, bytes: 900, signature: "signature_z1" };

    fn transactions() -> Vec<Transaction> {
        ["[1]", "[22]", "[333]"].map(|changes| Transaction::trusting(changes, 1, None)).to_vec()
    }

    #[test]
    fn a_record_comes_back_under_its_key() {
        let record = encode(b"key", &HEAD, 0);
        assert_eq!(decode::<HeadRecord<'_>>(b"key", &record), Ok(HEAD));
    }

    #[test]
    fn a_record_under_another_key_is_refused() {
        let record = encode(b"key", &HEAD, 0);
        assert_eq!(decode::<HeadRecord<'_>>(b"kez", &record), Err(InvalidRecord::Checksum));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let record = encode(b"key", &HEAD, 0);
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<HeadRecord<'_>>(b"key", &damaged).is_err(), "bit {bit}");
        }
        for len in 0..record.len() {
            assert!(decode::<HeadRecord<'_>>(b"key", &record[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn the_bytes_of_a_record_are_the_documented_ones() {
        let record = encode(b"key", &(3_u64, "body"), 4);
        assert_eq!(record[0], 1);
        let mut sum = crc32fast::Hasher::new();
        sum.update(b"\x01key\x03\x04body");
        assert_eq!(record[1..5], sum.finalize().to_le_bytes());
        assert_eq!(record[5..], *b"\x03\x04body");
    }

    #[test]
    fn a_newer_record_is_named_as_such() {
        let mut record = encode(b"key", &HEAD, 0);
        record[0] = 2;
        assert_eq!(decode::<HeadRecord<'_>>(b"key", &record), Err(InvalidRecord::Version(2)));
    }

    #[test]
    fn bytes_behind_the_body_are_refused() {
        let record = encode(b"key", &(HEAD, 7_u8), 0);
        assert_eq!(
            decode::<HeadRecord<'_>>(b"key", &record),
            Err(InvalidRecord::Content("bytes are left over"))
        );
    }

    #[test]
    fn an_extension_comes_back_from_any_transaction_on() {
        let (transactions, signature) = (transactions(), Signature::from_bytes(&[7; 64]));
        let record = encode_extension(b"key", &transactions, &signature, true);
        let extensions = decode_extensions(b"key", &record).unwrap();
        let [(extension, json)] = &extensions[..] else { panic!("{extensions:?}") };
        assert!(extension.checkpoint);
        assert_eq!(extension.signature, signature.as_str());
        let json = Bytes::copy_from_slice(json);
        for skip in 0..=3 {
            let read = split_transactions(&json, &extension.lengths, skip).unwrap();
            assert_eq!(read, transactions[usize::try_from(skip).unwrap()..]);
        }
        for wrong in [&[1, 2][..], &[u64::MAX], &[u64::MAX, 1], &[]] {
            assert!(split_transactions(&json, wrong, 0).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn several_extensions_come_back_from_one_record() {
        let signature = Signature::from_bytes(&[7; 64]);
        let single = |len| encode_extension(b"key", &transactions()[..len], &signature, len == 2);
        let bodies = [1, 2, 3].map(|len| single(len)[PREFIX_LEN..].to_vec());
        let record = encode_bytes(b"other key", &bodies.concat());
        let extensions = decode_extensions(b"other key", &record).unwrap();
        let lens: Vec<_> = extensions.iter().map(|(one, _)| one.lengths.len()).collect();
        assert_eq!(lens, [1, 2, 3]);
        assert!(extensions[1].0.checkpoint && !extensions[2].0.checkpoint);
        let cut = encode_bytes(b"key", &bodies.concat()[..bodies[0].len() + 100]);
        assert!(decode_extensions(b"key", &cut).is_err());
    }
}
