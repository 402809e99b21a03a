//! Damage to the files of a store, one place at a time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use fastrand::Rng;

use crate::content;
use crate::examine::{Remains, truth_of};
use crate::kind::{Kind, files};

/// CoValues of a store, and their edits.
const CO_VALUES: u64 = 2_000;
const EDITS: u64 = 10_000;

/// Bytes that one erasure overwrites: a sector of a disk.
const SECTOR: usize = 512;

/// The kinds of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    /// One bit is flipped.
    Bit,
    /// A sector is overwritten with zeros.
    Sector,
    /// The file ends early.
    Cut,
}

/// What became of the stores with one kind of damage.
#[derive(Debug, Default)]
struct Tally {
    trials: usize,
    refused: usize,
    /// Trials in which the process that read the store died.
    died: usize,
    unharmed: usize,
    /// CoValues that were reported to be damaged, in each store that opened and reported some.
    reported: Vec<usize>,
    /// Trials in which content was missing or different without a word, and how many CoValues.
    silent: Vec<usize>,
}

/// Damages stores of each kind.
pub(crate) async fn run(trials: usize, seed: u64, only: Option<Kind>) -> Result<()> {
    println!(
        "\nDamaged stores of {CO_VALUES} CoValues. Columns: trials; the store does not open; the \
         reader dies; all content is read; some is reported as damaged (CoValues in the median and \
         at most); some is missing in silence (trials, CoValues at most):\n"
    );
    for kind in Kind::ALL.into_iter().filter(|kind| only.is_none_or(|only| only == *kind)) {
        let place = tempfile::tempdir()?;
        let (original, damaged) = (place.path().join("original"), place.path().join("damaged"));
        let truth = place.path().join("truth");
        fs::create_dir(&original)?;
        let store = kind.open(&original)?;
        content::append(&*store, content::edits(CO_VALUES, EDITS)).await;
        fs::write(&truth, serde_json::to_vec(&truth_of(&*store).await?)?)?;
        store.close().await?;
        let mut tallies = BTreeMap::<Harm, Tally>::new();
        let mut rng = Rng::with_seed(seed);
        for trial in 0..trials {
            let harm = [Harm::Bit, Harm::Sector, Harm::Cut][trial % 3];
            copy(&original, &damaged)?;
            let place = inflict(harm, &damaged, &mut rng)?;
            let remains = examine(kind, &damaged, &truth)?;
            if let Some(Remains { silent, .. }) = &remains
                && !silent.is_empty()
            {
                println!("{kind}: {harm:?} at {place}: missing in silence: {}", silent.join(" "));
                // To find out why.
                let kept = std::env::temp_dir().join(format!("damaged-{kind}-{seed}-{trial}"));
                copy(&damaged, &kept)?;
                println!("    the store is in {}", kept.display());
            }
            tallies.entry(harm).or_default().add(remains.as_ref());
        }
        for (harm, tally) in &tallies {
            println!("{:<12}{:<8}{tally}", kind.to_string(), format!("{harm:?}"));
        }
    }
    Ok(())
}

/// Damages a place that is chosen by the sizes of the files. Returns it.
fn inflict(harm: Harm, dir: &Path, rng: &mut Rng) -> Result<String> {
    let files = files(dir)?;
    let total: u64 = files.iter().map(|(_, len)| len).sum();
    let mut at = rng.u64(..total.max(1));
    let chosen = files.iter().find(|(_, len)| {
        let is_here = at < *len;
        if !is_here {
            at -= len;
        }
        is_here
    });
    let (path, _) = chosen.context("the store has no content")?;
    let mut bytes = fs::read(path)?;
    let at = usize::try_from(at)?;
    match harm {
        Harm::Bit => bytes[at] ^= 1 << rng.u8(..8),
        Harm::Sector => {
            let start = at - at % SECTOR;
            let end = bytes.len().min(start + SECTOR);
            bytes[start..end].fill(0);
        }
        Harm::Cut => bytes.truncate(at),
    }
    fs::write(path, bytes)?;
    let name = path.strip_prefix(dir)?.display().to_string();
    Ok(format!("{name}:{at}"))
}

/// Reads a store in a process of its own. `None` if the process dies.
fn examine(kind: Kind, dir: &Path, truth: &Path) -> Result<Option<Remains>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["examine", "--kind", &kind.to_string()]).arg("--dir").arg(dir);
    let output = command.arg("--truth").arg(truth).stderr(Stdio::null()).output()?;
    Ok(output.status.success().then(|| serde_json::from_slice(&output.stdout)).transpose()?)
}

/// Copies the files of a store to a directory that holds nothing else.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir(to)?;
    let mut left: Vec<PathBuf> = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        for entry in fs::read_dir(from.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                fs::create_dir(to.join(&path))?;
                left.push(path);
            } else {
                fs::copy(entry.path(), to.join(&path))?;
            }
        }
    }
    Ok(())
}

impl Tally {
    fn add(&mut self, remains: Option<&Remains>) {
        self.trials += 1;
        match remains {
            None => self.died += 1,
            Some(Remains { opens: false, .. }) => self.refused += 1,
            Some(Remains { reported: 0, silent, .. }) if silent.is_empty() => self.unharmed += 1,
            Some(Remains { reported, silent, .. }) => {
                if *reported > 0 {
                    self.reported.push(*reported);
                }
                if !silent.is_empty() {
                    self.silent.push(silent.len());
                }
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut reported = self.reported.clone();
        reported.sort_unstable();
        let median = reported.get(reported.len() / 2).copied().unwrap_or(0);
        let most = reported.last().copied().unwrap_or(0);
        let Self { trials, refused, died, unharmed, .. } = self;
        write!(f, "{trials:>5}{refused:>5}{died:>5}{unharmed:>5}")?;
        write!(f, "{:>5} ({median}, {most})", reported.len())?;
        write!(f, "{:>5} ({})", self.silent.len(), self.silent.iter().max().unwrap_or(&0))
    }
}
