//! File descriptors that are kept back for when there are no others left.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::{Domain, Socket, Type};

/// Spare file descriptors. A process that has no other left gives one of them up, accepts with it,
/// and takes it back when that connection has ended.
///
/// Shared by the listeners of a process: a public one takes some of them, to tell clients that there
/// is no room, and leaves the others to a port that operators need.
#[derive(Debug)]
pub struct Reserve {
    /// How many there were at first.
    size: usize,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    /// A socket without an address is the cheapest that a descriptor can stand for.
    spare: Vec<Socket>,
    lent: usize,
}

/// A spare descriptor that was given up; taken back when this is dropped.
#[derive(Debug)]
pub struct Loan(Arc<Reserve>);

impl Reserve {
    /// Keeps this many back, or as many as there still are.
    pub fn new(size: usize) -> Arc<Self> {
        let spare: Vec<Socket> =
            std::iter::repeat_with(spare).take(size).map_while(Result::ok).collect();
        let size = spare.len();
        Arc::new(Self { size, files: Mutex::new(Files { spare, lent: 0 }) })
    }

    /// Gives up one descriptor, so that one can be opened, unless no more than `keep` would be left.
    pub fn lend(self: &Arc<Self>, keep: usize) -> Option<Loan> {
        let mut files = self.files();
        files.refill(self.size);
        if files.spare.len() <= keep {
            return None;
        }
        files.spare.pop()?;
        files.lent += 1;
        Some(Loan(Arc::clone(self)))
    }

    /// Whether nothing is missing, after trying to take back what is.
    pub fn is_whole(&self) -> bool {
        self.files().refill(self.size)
    }

    /// Nothing panics while the lock is held.
    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn refill(&mut self, size: usize) -> bool {
        while self.spare.len() + self.lent < size {
            match spare() {
                Ok(socket) => self.spare.push(socket),
                Err(_) => return false,
            }
        }
        true
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut files = self.0.files();
        files.lent = files.lent.saturating_sub(1);
        files.refill(self.0.size);
    }
}

fn spare() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::DGRAM, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_left_for_others_and_what_is_given_back_can_be_lent_again() {
        let reserve = Reserve::new(4);
        let first = reserve.lend(2).unwrap();
        let second = reserve.lend(2).unwrap();
        assert!(reserve.lend(2).is_none());
        let _third = reserve.lend(0).unwrap();
        assert!(reserve.is_whole(), "what is lent is not missing");
        drop((first, second));
        assert_eq!(reserve.files().spare.len(), 3);
        assert!(reserve.lend(2).is_some());
    }
}
