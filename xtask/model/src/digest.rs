//! A digest of the machine's state: a hash of its `Debug` output, without the stamps that record
//! the order of use.
//!
//! So every new field of the machine is included automatically. A field that does not affect the
//! machine's behaviour makes the state space larger, but no relevant field can be missing.

use std::fmt::{self, Write};
use std::hash::Hasher;

use rustc_hash::FxHasher;

/// Fields that depend on the number of uses. They only decide which entry is evicted first, and
/// with one CoValue there is only one entry.
const STAMPS: [&str; 2] = ["used", "uses"];

/// The digest of a machine.
pub(crate) fn of(machine: &impl fmt::Debug) -> u64 {
    let mut digest = Digest { hasher: FxHasher::default(), in_stamp: None };
    // Neither this writer nor the `Debug` of the machine fails.
    let _ = write!(digest, "{machine:?}");
    digest.hasher.finish()
}

/// A writer that hashes the text, which is much faster than formatting it first and scanning it.
struct Digest {
    hasher: FxHasher,
    /// The depth of brackets inside an omitted field, or `None` outside of one.
    in_stamp: Option<usize>,
}

impl Write for Digest {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.in_stamp.is_none() && STAMPS.contains(&piece) {
            self.in_stamp = Some(0);
            return Ok(());
        }
        let kept = if self.in_stamp.is_some() { self.behind_stamp(piece) } else { piece };
        // Writing an empty slice changes the hash as well.
        if !kept.is_empty() {
            self.hasher.write(kept.as_bytes());
        }
        Ok(())
    }
}

impl Digest {
    /// The part of a piece after the omitted field. The field ends at a comma or closing bracket
    /// outside its own brackets.
    fn behind_stamp<'a>(&mut self, piece: &'a str) -> &'a str {
        for (at, byte) in piece.bytes().enumerate() {
            let depth = self.in_stamp.unwrap_or_default();
            match byte {
                b'(' | b'[' | b'{' => self.in_stamp = Some(depth + 1),
                b')' | b']' | b'}' if depth > 0 => self.in_stamp = Some(depth - 1),
                b')' | b']' | b'}' | b',' if depth == 0 => {
                    self.in_stamp = None;
                    return &piece[at..];
                }
                _ => {}
            }
        }
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct with fields like those of the machine.
    #[derive(Debug, Clone)]
    #[allow(dead_code, reason = "read by `Debug`")]
    struct Machine {
        used: Vec<(u8, u64)>,
        entries: Vec<Entry>,
        reused: u64,
        ready: bool,
    }

    #[derive(Debug, Clone)]
    #[allow(dead_code, reason = "read by `Debug`")]
    struct Entry {
        pins: u32,
        used: u64,
    }

    #[test]
    fn stamps_are_left_out_and_nothing_else() {
        let machine = Machine {
            used: vec![(1, 1), (2, 2)],
            entries: vec![Entry { pins: 0, used: 1 }, Entry { pins: 0, used: 2 }],
            reused: 0,
            ready: false,
        };
        let digest = of(&machine);
        let mut other = machine.clone();
        other.used.push((3, 3));
        other.entries[0].used = 7;
        assert_eq!(of(&other), digest);
        assert_ne!(of(&Machine { ready: true, ..machine.clone() }), digest);
        assert_ne!(of(&Machine { reused: 1, ..machine.clone() }), digest);
        other.entries[1].pins = 1;
        assert_ne!(of(&other), digest);
    }
}
