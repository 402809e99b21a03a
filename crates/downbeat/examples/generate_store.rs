//! Makes a store of any size, to try the tools and the server with:
//!
//! ```sh
//! cargo run --release -p downbeat --example generate_store -- \
//!     DIR [--co-values N] [--transactions N] [--changes-len N] [--accounts N] [--seed N] \
//!     [--large-bytes N]
//! ```
//!
//! All content is signed, and the same seed gives the same store. `--large-bytes` adds one CoValue
//! of about this size. The example prints its id, or otherwise the id of the last CoValue.

#[allow(dead_code, reason = "the tests of the tools use the rest")]
#[path = "../tests/tools/generate.rs"]
mod generate;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use downbeat_crypto::header_id;
use downbeat_storage::{Storage, Write};
use downbeat_storage_sled::SledStorage;
use generate::{Person, Plan, append, create, fill};

#[derive(Parser)]
struct Args {
    /// The directory of the new sled store.
    dir: PathBuf,
    #[arg(long, default_value_t = 10_000)]
    co_values: u64,
    #[arg(long, default_value_t = 5)]
    transactions: usize,
    #[arg(long, default_value_t = 150)]
    changes_len: usize,
    #[arg(long, default_value_t = 100)]
    accounts: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 0)]
    large_bytes: u64,
}

/// The changes of each transaction of the large CoValue: the size that clients use for file
/// uploads.
const LARGE_CHANGES_LEN: usize = 100 << 10;

fn main() {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let store: Arc<dyn Storage> = Arc::new(SledStorage::open(&args.dir).unwrap());
    let plan = Plan {
        seed: args.seed,
        accounts: args.accounts,
        co_values: args.co_values,
        transactions: args.transactions,
        changes_len: args.changes_len,
    };
    let done = AtomicU64::new(0);
    fill(&store, runtime.handle(), &plan, |more| {
        let before = done.fetch_add(more, Ordering::Relaxed);
        if before / 100_000 != (before + more) / 100_000 {
            eprintln!("{} CoValues", before + more);
        }
    });
    if args.large_bytes > 0 {
        let person = Person::new(args.seed, 0);
        let header = person.owned(args.seed, u64::MAX / 2);
        let id = header_id(&header);
        append(&store, runtime.handle(), vec![create(id, &header, Vec::new())]);
        let mut log = person.log();
        for _ in 0..args.large_bytes / LARGE_CHANGES_LEN as u64 {
            let sessions = vec![log.write_private(1, LARGE_CHANGES_LEN)];
            append(&store, runtime.handle(), vec![Write::Append { id, header: None, sessions }]);
        }
        println!("{id}");
    } else if let Some(last) = args.co_values.checked_sub(1) {
        let owner = Person::new(args.seed, last % args.accounts);
        println!("{}", header_id(&owner.owned(args.seed, last)));
    }
    runtime.block_on(store.close()).unwrap();
}
