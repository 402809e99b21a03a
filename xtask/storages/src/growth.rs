//! How a store grows with small edits, and what it gives back.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use downbeat_storage::Storage;
use downbeat_storage::conformance::CoValueFixture;

use crate::content;
use crate::kind::{Kind, files};

/// CoValues that are edited in turn.
const CO_VALUES: u64 = 1_000;

/// Writes edits to a store of each kind, and prints its sizes in MB.
pub(crate) async fn run(edits: u64) -> Result<()> {
    let content = content::edit_bytes(edits);
    println!(
        "\nMB for {edits} edits of {CO_VALUES} CoValues ({} MB of content):\n",
        megabytes(content)
    );
    let columns = ["written", "disk", "opened again", "all erased", "opened again"];
    println!("{:<12}{}", "", columns.map(|name| format!("{name:>14}")).concat());
    for kind in Kind::ALL {
        let dir = tempfile::tempdir()?;
        let dir = dir.path();
        let mut store = kind.open(dir)?;
        let before = bytes_written();
        content::append(&*store, content::edits(CO_VALUES, edits)).await;
        let written = bytes_written() - before;
        let disk = size(dir)?;
        reopen(&mut store, kind, dir).await?;
        let reopened = size(dir)?;
        content::append(&*store, content::tombstones(CO_VALUES)).await;
        for number in 0..CO_VALUES {
            while store.erase(CoValueFixture::new(number).id).await?.more {}
        }
        let erased = size(dir)?;
        reopen(&mut store, kind, dir).await?;
        let erased_reopened = size(dir)?;
        store.close().await?;
        let figures = [written, disk, reopened, erased, erased_reopened];
        let figures = figures.map(|bytes| format!("{:>14}", megabytes(bytes)));
        println!("{:<12}{}", kind.to_string(), figures.concat());
    }
    Ok(())
}

async fn reopen(store: &mut Arc<dyn Storage>, kind: Kind, dir: &Path) -> Result<()> {
    store.close().await?;
    *store = kind.open(dir)?;
    Ok(())
}

fn size(dir: &Path) -> Result<u64> {
    Ok(files(dir)?.iter().map(|(_, len)| len).sum())
}

fn megabytes(bytes: u64) -> u64 {
    (bytes + 500_000) / 1_000_000
}

/// Bytes that this process has passed to the disk; 0 where the system does not count them.
fn bytes_written() -> u64 {
    let counters = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    written.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}
