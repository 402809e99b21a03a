//! What distinguishes one machine from another: everything that it says of itself with `Debug`,
//! but for the stamps by which it knows what was used last.
//!
//! Whatever is added to the machine is so taken in by itself. Where that is something that does
//! not matter, there are more states to look at than need be; what matters is never left out.

use std::fmt::{self, Write};
use std::hash::Hasher;

use rustc_hash::FxHasher;

/// Fields that depend on how often something was used, and decide only what is forgotten first.
/// With one CoValue there is nothing to choose from.
const STAMPS: [&str; 2] = ["used", "uses"];

/// The digest of a machine.
pub(crate) fn of(machine: &impl fmt::Debug) -> u64 {
    let mut digest = Digest { hasher: FxHasher::default(), in_stamp: None };
    // Nothing here fails, and neither does what the machine says of itself.
    let _ = write!(digest, "{machine:?}");
    digest.hasher.finish()
}

/// Takes text as it is made, which is much faster than to look through it afterwards.
struct Digest {
    hasher: FxHasher,
    /// The depth of brackets inside a field that is left out.
    in_stamp: Option<usize>,
}

impl Write for Digest {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.in_stamp.is_none() && STAMPS.contains(&piece) {
            self.in_stamp = Some(0);
            return Ok(());
        }
        let kept = if self.in_stamp.is_some() { self.behind_stamp(piece) } else { piece };
        // Even nothing at all changes the hash, once it is written.
        if !kept.is_empty() {
            self.hasher.write(kept.as_bytes());
        }
        Ok(())
    }
}

impl Digest {
    /// What of a piece is not part of the field that is left out: a field ends at the comma or
    /// bracket that is not inside its own brackets.
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

    /// Looks like the machine.
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
