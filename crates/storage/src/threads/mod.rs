//! Threads for backends whose engine blocks: a pool that reads, and one thread that writes.
//!
//! Both carry a panic over to the task that waits for the answer, as if the code had run there.
//! Neither handles it: see "Panics" on the crate's front page.

mod readers;
mod writer;

pub use readers::{ReadExtent, ReaderThreads};
pub use writer::{WriterState, WriterThread};
