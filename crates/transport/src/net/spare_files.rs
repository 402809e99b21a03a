//! Spare file descriptors, for a process that has run out of them.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::{Domain, Socket, Type};

/// Spare file descriptors. A process that has run out of descriptors closes one of them, accepts a
/// connection with it, and opens it again when that connection has ended.
///
/// The listeners of a process share them: a public listener uses some of them to refuse clients,
/// and leaves the rest for the port that operators need.
#[derive(Debug)]
pub struct SpareFiles {
    /// The number at the start.
    size: usize,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    /// Sockets without an address: the cheapest thing that occupies a descriptor.
    spare: Vec<Socket>,
    taken: usize,
}

/// A spare descriptor that is in use elsewhere; opened again when this is dropped.
#[derive(Debug)]
pub struct SpareFile(Arc<SpareFiles>);

impl SpareFiles {
    /// Reserves this many descriptors, or as many as the system still gives.
    pub fn new(size: usize) -> Arc<Self> {
        let spare: Vec<Socket> =
            std::iter::repeat_with(spare).take(size).map_while(Result::ok).collect();
        let size = spare.len();
        Arc::new(Self { size, files: Mutex::new(Files { spare, taken: 0 }) })
    }

    /// Closes one descriptor, so that another one can be opened. `None` if only `keep` are left.
    pub fn take(self: &Arc<Self>, keep: usize) -> Option<SpareFile> {
        let mut files = self.files();
        files.refill(self.size);
        if files.spare.len() <= keep {
            return None;
        }
        files.spare.pop()?;
        files.taken += 1;
        Some(SpareFile(Arc::clone(self)))
    }

    /// Whether no descriptor is missing, after an attempt to open the missing ones again.
    pub fn is_complete(&self) -> bool {
        self.files().refill(self.size)
    }

    /// Nothing panics while the lock is held.
    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn refill(&mut self, size: usize) -> bool {
        while self.spare.len() + self.taken < size {
            match spare() {
                Ok(socket) => self.spare.push(socket),
                Err(_) => return false,
            }
        }
        true
    }
}

impl Drop for SpareFile {
    fn drop(&mut self) {
        let mut files = self.0.files();
        files.taken = files.taken.saturating_sub(1);
        files.refill(self.0.size);
    }
}

/// Whether this process, or the system, has run out of file descriptors.
pub fn is_out_of_files(error: &io::Error) -> bool {
    /// `EMFILE` and `ENFILE`; the numbers are the same on all systems that have them.
    const CODES: [i32; 2] = [24, 23];
    cfg!(unix) && error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

fn spare() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::DGRAM, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_left_for_others_and_a_returned_one_can_be_taken_again() {
        let spare_files = SpareFiles::new(4);
        let first = spare_files.take(2).unwrap();
        let second = spare_files.take(2).unwrap();
        assert!(spare_files.take(2).is_none());
        let _third = spare_files.take(0).unwrap();
        assert!(spare_files.is_complete(), "a taken one is not missing");
        drop((first, second));
        assert_eq!(spare_files.files().spare.len(), 3);
        assert!(spare_files.take(2).is_some());
    }
}
