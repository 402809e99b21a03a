//! One benchmark for all backends. Each runs it in a `bench` target:
//!
//! ```no_run
//! # use std::path::PathBuf;
//! use downbeat_storage::benchmarks::{self, Sizes};
//! use downbeat_storage::{Durability, MemoryStorage};
//!
//! # #[tokio::main]
//! # async fn main() {
//! let directory = || PathBuf::from("/tmp/bench");
//! benchmarks::run(Sizes::default(), directory, |_dir, _durability: Durability| {
//!     MemoryStorage::new()
//! })
//! .await;
//! # }
//! ```
//!
//! It prints plain figures, without a benchmark harness: a measurement takes seconds and depends on
//! the disk, so it runs once. The first argument of the program selects the measurements whose
//! names contain it.

mod comparing;
mod reading;
mod writing;

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::conformance::{Author, CoValueFixture};
use crate::durability::Durability;
use crate::storage::Storage;
use downbeat_protocol::{SessionContent, Transaction};

pub use comparing::{Open, compare};

/// A flush ten times a second.
const RELAXED: Durability = Durability::Relaxed { within: Duration::from_millis(100) };

/// How much the measurements store, where backends differ in speed.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Sizes {
    /// CoValues in the store that is opened. Default: 100,000.
    pub opened_co_values: u64,
}

impl Sizes {
    /// Sets [`Self::opened_co_values`].
    #[must_use]
    pub fn with_opened_co_values(mut self, co_values: u64) -> Self {
        self.opened_co_values = co_values;
        self
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self { opened_co_values: 100_000 }
    }
}

/// Runs all measurements, and prints the results. `directory` makes an empty directory, and `open`
/// opens a store in it. Needs a Tokio runtime with several threads.
///
/// # Panics
///
/// If the store fails.
pub async fn run<P: AsRef<Path>, S: Storage>(
    sizes: Sizes,
    directory: impl Fn() -> P,
    open: impl Fn(&Path, Durability) -> S,
) {
    let filter = env::args().nth(1).filter(|arg| !arg.starts_with('-')).unwrap_or_default();
    let backend = Backend {
        directory: &directory,
        open: &|dir, durability| Arc::new(open(dir, durability)) as Arc<dyn Storage>,
    };
    macro_rules! measure {
        ($($module:ident::$name:ident($($argument:expr),*)),* $(,)?) => {
            $(if stringify!($name).contains(&filter) {
                $module::$name(&backend, $($argument),*).await;
            })*
        };
    }
    measure!(
        writing::append_one_by_one(Durability::Flushed, 1, 2_000),
        writing::append_one_by_one(Durability::Flushed, 64, 2_000),
        writing::append_one_by_one(RELAXED, 1, 20_000),
        writing::append_one_by_one(RELAXED, 64, 50_000),
        writing::append_through_a_batcher(64, 50_000),
        writing::append_through_a_batcher(1_024, 200_000),
        writing::append_in_batches(1_024, 200_000),
        writing::append_in_batches(4_096, 200_000),
        reading::load_warm(20_000),
        reading::read_small_appends(100_000),
        reading::look_up_and_read(4_000),
        reading::read_a_large_covalue(1_000),
        reading::open_with_many_covalues(sizes.opened_co_values),
    );
}

/// How to open a store of the measured backend.
struct Backend<'a, P> {
    directory: &'a dyn Fn() -> P,
    open: &'a dyn Fn(&Path, Durability) -> Arc<dyn Storage>,
}

impl<P: AsRef<Path>> Backend<'_, P> {
    /// A new store in a directory of its own.
    fn create(&self, durability: Durability) -> (P, Arc<dyn Storage>) {
        let directory = (self.directory)();
        let store = (self.open)(directory.as_ref(), durability);
        (directory, store)
    }

    /// The store in a directory, opened again.
    fn open(&self, directory: &P) -> Arc<dyn Storage> {
        (self.open)(directory.as_ref(), Durability::Flushed)
    }
}

/// An extension of one transaction that fits a log of length `after`. The signature is not valid.
fn extension(author: &Author, after: u64, transaction: &Transaction) -> SessionContent {
    SessionContent {
        session: author.session.clone(),
        after,
        transactions: vec![transaction.clone()],
        last_signature: author.signature(),
    }
}

/// The fixtures with these numbers.
fn fixtures(count: u64) -> Vec<CoValueFixture> {
    (0..count).map(CoValueFixture::new).collect()
}

#[cfg(unix)]
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = time.tv_sec.try_into().expect("CPU time is not negative");
    Duration::new(seconds, time.tv_nsec.try_into().expect("nanoseconds fit"))
}

/// Elapsed time, where the system gives no CPU time.
#[cfg(not(unix))]
fn cpu_time() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

fn report(name: &str, count: u64, time: Duration) {
    let numbers = f64::from(u32::try_from(count).expect("counts are small"));
    let each = time.as_secs_f64() * 1e6 / numbers;
    let rate = numbers / time.as_secs_f64();
    println!("{name:<44} {count:>12} in {time:>10.2?}: {rate:>9.0} /s, {each:>8.1} µs each");
}
