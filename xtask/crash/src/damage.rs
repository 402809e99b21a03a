//! Damage to the files of a store: the server says so, or serves what is not damaged, and never
//! anything else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, KnownState};
use fastrand::Rng;

use crate::client::write_all;
use crate::copies::Copies;
use crate::kills::Run;
use crate::places::Place;
use crate::server::Program;
use crate::truth::Truth;

/// What each author does before there is damage.
const STEPS: usize = 80;

/// Lives of the server before that, so that the store has old and new parts.
const LIVES: u8 = 3;

/// How long the server may say nothing before it is taken to have said everything. What is damaged
/// is not answered at all.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Bytes that are overwritten at once: a disk's sector.
const SECTOR: usize = 512;

/// How often to look for a place that is not empty.
const TRIES: usize = 1_000;

/// A store that is damaged again and again, always from the same state.
struct Victim {
    program: Program,
    truth: Truth,
    data: PathBuf,
    /// Each file with its content.
    files: Vec<(PathBuf, Vec<u8>)>,
    states: BTreeMap<CoValueId, KnownState>,
}

/// How damaged stores came off.
#[derive(Debug, Default)]
struct Survival {
    refused: usize,
    /// Stores of which all was served.
    whole: usize,
    /// Stores of which a part was, and the rest was said to be damaged.
    partial: usize,
}

/// One thing that is done to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Flip(usize),
    Erase(usize),
    Cut(usize),
}

/// Damages a store at so many places, one at a time.
pub(crate) async fn run(run: &Run, places: usize) -> Result<()> {
    let place = Place::new(run.kind)?;
    let mut rng = Rng::with_seed(run.seed);
    let victim = Victim::prepare(&place, run).await?;
    let mut survival = Survival::default();
    for _ in 0..places {
        let (file, harm) = victim.choose(&mut rng);
        let what = || format!("{harm:?} in {} of a {} store", file.display(), run.kind);
        victim.restore()?;
        harm.inflict(&victim.data.join(file)).with_context(what)?;
        victim.examine(&mut survival).await.with_context(what)?;
    }
    println!(
        "{places} damaged stores of {}: {} refused, {} served in part, {} served as if nothing \
         had been",
        run.kind, survival.refused, survival.partial, survival.whole
    );
    ensure!(survival.refused + survival.partial > 0, "the damage makes no difference");
    Ok(())
}

impl Victim {
    async fn prepare(place: &Place, run: &Run) -> Result<Self> {
        let program = place.program(&run.binary);
        let truth = Truth::default();
        for life in 0..LIVES {
            let (mut server, url, _) = program.start().await?;
            write_all(run.seed + u64::from(life), &truth, &url, STEPS).await?;
            server.stop().await?;
        }
        let (mut server, url, _) = program.start().await?;
        let ids = truth.ids();
        let copies = Copies::load(&truth, &url, &ids, SILENCE).await?;
        copies.check(&ids)?;
        let states = copies.states();
        server.stop().await?;
        let data = place.data();
        let mut files = Vec::new();
        collect(&data, Path::new(""), &mut files)?;
        Ok(Self { program, truth, data, files, states })
    }

    /// A file, and something to do to it: mostly where there is something.
    fn choose(&self, rng: &mut Rng) -> (&Path, Harm) {
        let total: usize = self.files.iter().map(|(_, bytes)| bytes.len().max(SECTOR)).sum();
        let mut at = if rng.u32(..4) == 0 { 0 } else { rng.usize(..total) };
        let any = &self.files[rng.usize(..self.files.len())];
        let by_size = self.files.iter().find(|(_, bytes)| {
            let here = at < bytes.len().max(SECTOR);
            at = at.saturating_sub(bytes.len().max(SECTOR));
            here
        });
        let (path, bytes) = if rng.u32(..4) == 0 { any } else { by_size.unwrap_or(any) };
        let mut offset = 0;
        for _ in 0..TRIES {
            offset = rng.usize(..bytes.len().max(1));
            if bytes.get(offset).is_some_and(|byte| *byte != 0) {
                break;
            }
        }
        let harm = match rng.u32(..4) {
            0 => Harm::Cut(offset),
            1 => Harm::Erase(offset),
            _ => Harm::Flip(offset),
        };
        (path, harm)
    }

    fn restore(&self) -> Result<()> {
        fs::remove_dir_all(&self.data)?;
        for (path, bytes) in &self.files {
            let path = self.data.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, bytes)?;
        }
        Ok(())
    }

    /// Starts the server on what there is.
    async fn examine(&self, survival: &mut Survival) -> Result<()> {
        let mut server = self.program.spawn()?;
        let url = match server.listening().await? {
            Ok((url, _)) => url,
            Err(refusal) => {
                let names = [self.data.display().to_string(), "co_z".to_owned()];
                ensure!(
                    !refusal.status.success()
                        && names.iter().any(|name| refusal.message.contains(name)),
                    "the server refuses the store, and does not say what is damaged: {refusal}"
                );
                survival.refused += 1;
                return Ok(());
            }
        };
        let ids = self.states.keys().copied().collect();
        // Fails on anything that does not verify.
        let copies = Copies::load(&self.truth, &url, &ids, SILENCE).await?;
        copies.check_parts()?;
        let states = copies.states();
        let log = server.log()?;
        let mut missing = 0;
        for (id, expected) in &self.states {
            let is_whole = states
                .get(id)
                .is_some_and(|state| known_state::is_subset(&expected.sessions, &state.sessions));
            if !is_whole {
                missing += 1;
                let needed = self.truth.needed_for(*id);
                ensure!(
                    needed.iter().any(|id| log.contains(id.as_str())),
                    "{id} is not served, and the log does not say why:\n{log}"
                );
            }
        }
        if missing == 0 {
            survival.whole += 1;
        } else {
            survival.partial += 1;
        }
        server.kill().await
    }
}

impl Harm {
    fn inflict(self, path: &Path) -> Result<()> {
        let mut bytes = fs::read(path)?;
        match self {
            Self::Flip(at) => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0xff),
            Self::Erase(at) => bytes.iter_mut().skip(at).take(SECTOR).for_each(|byte| *byte = 0),
            Self::Cut(at) => bytes.truncate(at),
        }
        Ok(fs::write(path, bytes)?)
    }
}

fn collect(root: &Path, below: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<()> {
    let mut entries = fs::read_dir(root.join(below))?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.push((path, fs::read(entry.path())?));
        }
    }
    Ok(())
}
