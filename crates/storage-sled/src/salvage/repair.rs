//! Repairs a message with one flipped bit. Its checksum tells which bit it is.

use super::encoding::{CRC_LEN, Header, Kind, MAX_BODY_LEN, MAX_HEADER_LEN};

/// The polynomial of CRC-32 (IEEE), with the bits in reverse order.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// Finds the message with one flipped bit at the start of these bytes, which begin with no intact
/// message. Returns the whole message as it was written.
pub(super) fn repair(bytes: &[u8]) -> Option<Vec<u8>> {
    repair_body(bytes).or_else(|| repair_header(bytes))
}

/// A flipped bit in the body or in the checksum.
fn repair_body(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = Header::parse(bytes).filter(is_worthwhile)?;
    let difference = header.crc_difference(bytes);
    let mut message = bytes[..header.message_len()].to_vec();
    if difference.is_power_of_two() {
        // The bit is in the checksum.
        message[..CRC_LEN].copy_from_slice(&(header.crc ^ difference).to_le_bytes());
        return Some(message);
    }
    // Behind the body, the checksum covers the header.
    let covered_header = header.len - CRC_LEN;
    let (behind, bit) = flipped_bit(difference, covered_header + header.body_len)?;
    let from_end = behind.checked_sub(covered_header)?;
    let at = message.len() - 1 - from_end;
    message[at] ^= 1 << bit;
    Some(message)
}

/// A flipped bit in the header, which may have hidden where the message ends.
fn repair_header(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy = bytes.to_vec();
    for bit in CRC_LEN * 8..bytes.len().min(MAX_HEADER_LEN) * 8 {
        copy[bit / 8] ^= 1 << (bit % 8);
        if let Some(header) = Header::parse(&copy).filter(is_worthwhile)
            && bit / 8 < header.len
            && header.crc_difference(&copy) == 0
        {
            copy.truncate(header.message_len());
            return Some(copy);
        }
        copy[bit / 8] ^= 1 << (bit % 8);
    }
    None
}

/// Whether the message may hold records.
fn is_worthwhile(header: &Header) -> bool {
    header.kind != Kind::Other && header.body_len <= MAX_BODY_LEN
}

/// Which bit of `len` bytes was flipped, if their checksum differs by `difference` and one bit was
/// flipped: the number of bytes behind it, and the bit in its byte.
fn flipped_bit(mut difference: u32, len: usize) -> Option<(usize, u32)> {
    for behind in 0..len {
        for _ in 0..8 {
            // One step of the checksum, backwards.
            let is_reduced = difference >> 31 == 1;
            difference =
                if is_reduced { ((difference ^ POLYNOMIAL) << 1) | 1 } else { difference << 1 };
        }
        if difference.is_power_of_two() && difference < 1 << 8 {
            return Some((behind, difference.trailing_zeros()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of a link with this body.
    fn message(body: &[u8]) -> Vec<u8> {
        let mut message = vec![0; CRC_LEN];
        message.extend([10, 241, u8::try_from(body.len() - 240).unwrap(), 3, 7]);
        message.extend_from_slice(body);
        let difference = Header::parse(&message).unwrap().crc_difference(&message);
        // The stored checksum is 0.
        message[..CRC_LEN].copy_from_slice(&difference.to_le_bytes());
        message
    }

    #[test]
    fn every_flipped_bit_is_repaired() {
        let body: Vec<u8> = (0..300_u32).map(|at| (at * 7 % 251) as u8).collect();
        let message = message(&body);
        assert_eq!(Header::parse(&message).unwrap().crc_difference(&message), 0);
        let mut followed = message.clone();
        followed.extend([5; 90]);
        for bit in 0..message.len() * 8 {
            let mut damaged = followed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(repair(&damaged).is_some_and(|repaired| repaired == message), "bit {bit}");
        }
    }

    #[test]
    fn more_damage_is_not_repaired() {
        let mut damaged = message(&[1; 300]);
        for at in [20, 50, 51, 200] {
            damaged[at] ^= 0xa5;
        }
        assert_eq!(repair(&damaged), None);
    }
}
