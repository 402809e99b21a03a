//! Damage to the files of a store. The server must report the damage or serve undamaged content. It
//! must never serve damaged content.
//!
//! The seed determines the bytes of the store, the damage, and the result. So the store is written
//! without a server. A missing answer is not accepted as a result: the log must name each CoValue
//! that is not served.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, Content, KnownState, SessionContent};
use downbeat_storage::{Outcome, Write};
use fastrand::Rng;
use tokio::time::Instant;

use crate::client::write_in_turns;
use crate::copies::Copies;
use crate::data_dir::{DataDir, Kind};
use crate::kills::Run;
use crate::server::Program;
use crate::truth::Truth;

/// Steps of each author before the damage.
const STEPS: usize = 80;

/// Openings of the store before the damage, so that it has old and new parts.
const LIVES: u8 = 3;

/// Silence of the server after which the log is read. A request for a damaged CoValue gets no
/// answer.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Time limit for the log to name a CoValue that is not served, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// The length of a segment of sled's log, and the key of a store's totals.
const SEGMENT: usize = 2 << 20;
const TOTALS: &[u8] = b"s";

/// Suffix of files without content.
const WITHOUT_CONTENT: &str = "reserve";

/// Bytes that one erasure overwrites: a sector of a disk.
const SECTOR: usize = 512;

/// Attempts to find a position that is not zero.
const TRIES: usize = 1_000;

/// A store that is damaged many times, each time from the same state.
struct Victim {
    program: Program,
    truth: Truth,
    data: PathBuf,
    /// Each file with its content.
    files: Vec<(PathBuf, Vec<u8>)>,
    states: BTreeMap<CoValueId, KnownState>,
}

/// The result of opening a damaged store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Verdict {
    Refused,
    /// The server reported damage.
    Partial,
    Whole,
}

/// Results of all damaged stores.
#[derive(Debug, Default)]
struct Survival {
    refused: usize,
    /// Stores that were served in full.
    whole: usize,
    /// Stores that were served in part, with the rest reported as damaged.
    partial: usize,
}

/// One change of a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Flip(usize),
    Erase(usize),
    Cut(usize),
}

/// Damages a store at `places` places, one at a time.
pub(crate) async fn run(run: &Run, places: usize) -> Result<()> {
    let place = DataDir::new(run.kind)?;
    let mut rng = Rng::with_seed(run.seed);
    let victim = Victim::prepare(&place, run).await?;
    let mut survival = Survival::default();
    let mut verdicts = DefaultHasher::new();
    for _ in 0..places {
        let (file, harm) = victim.choose(&mut rng);
        let what = || format!("{harm:?} in {} of a {} store", file.display(), run.kind);
        victim.restore()?;
        harm.inflict(&victim.data.join(file)).with_context(what)?;
        let verdict = victim.examine().await.with_context(what)?;
        what().hash(&mut verdicts);
        verdict.hash(&mut verdicts);
        match verdict {
            Verdict::Refused => survival.refused += 1,
            Verdict::Partial => survival.partial += 1,
            Verdict::Whole => survival.whole += 1,
        }
    }
    println!(
        "{places} damaged stores of {}: {} refused, {} served in part, {} served in full",
        run.kind, survival.refused, survival.partial, survival.whole
    );
    println!("    store {:016x}, verdicts {:016x}", victim.digest(), verdicts.finish());
    ensure!(survival.refused + survival.partial > 0, "the damage had no effect");
    Ok(())
}

impl Victim {
    async fn prepare(place: &DataDir, run: &Run) -> Result<Self> {
        let program = place.program(&run.binary);
        let truth = Truth::default();
        for life in 0..LIVES {
            let storage = place.open()?;
            let mut batches = Vec::new();
            let mut room = content_per_life(run.kind);
            write_in_turns(run.seed + u64::from(life), &truth, STEPS, |content| {
                // Later content depends on earlier content. So writing ends with the first piece
                // that does not fit.
                room = room.checked_sub(content_bytes(&content))?;
                batches.push(writes_of(content));
                Some(())
            })?;
            for batch in batches {
                let outcomes = storage.append(batch).await?;
                ensure!(outcomes.iter().all(Outcome::is_complete), "not stored: {outcomes:?}");
            }
            storage.close().await?;
        }
        let storage = place.open()?;
        let copies = Copies::read_all(&truth, &*storage).await?;
        storage.close().await?;
        let states = copies.states();
        for state in states.values() {
            truth.acknowledge(state)?;
        }
        copies.check(&truth.ids())?;
        let data = place.data();
        if run.kind == Kind::Sled {
            in_fixed_order(&data).context("cannot write the store again")?;
        }
        let mut files = Vec::new();
        collect(&data, Path::new(""), &mut files)?;
        Ok(Self { program, truth, data, files, states })
    }

    /// Chooses a file, and a change for it, mostly at a position with content.
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

    /// Starts the server on the damaged store.
    async fn examine(&self) -> Result<Verdict> {
        let mut server = self.program.spawn()?;
        let url = match server.listening().await? {
            Ok((url, _)) => url,
            Err(refusal) => {
                let names = [self.data.display().to_string(), "co_z".to_owned()];
                ensure!(
                    !refusal.status.success()
                        && names.iter().any(|name| refusal.message.contains(name)),
                    "the server refuses the store without naming the damage: {refusal}"
                );
                return Ok(Verdict::Refused);
            }
        };
        let patience = Instant::now() + PATIENCE;
        let mut left: BTreeSet<_> = self.states.keys().copied().collect();
        let mut missing = BTreeSet::new();
        while !left.is_empty() {
            // Fails if served content does not verify.
            let copies = Copies::load(&self.truth, &url, &left, SILENCE).await?;
            copies.check_parts()?;
            let states = copies.states();
            left.retain(|id| {
                let expected = &self.states[id].sessions;
                let state = states.get(id);
                !state.is_some_and(|state| known_state::is_subset(expected, &state.sessions))
            });
            let log = server.log()?;
            let is_named = |id: &CoValueId| {
                self.truth.needed_for(*id).iter().any(|needed| log.contains(needed.as_str()))
            };
            missing.extend(left.extract_if(.., |id| is_named(id)));
            ensure!(
                left.is_empty() || Instant::now() < patience,
                "{left:?} are not served, and the log does not say why:\n{log}"
            );
        }
        let said = server.log()?.contains("damaged data");
        server.kill().await?;
        Ok(if missing.is_empty() && !said { Verdict::Whole } else { Verdict::Partial })
    }

    /// A hash of the bytes of the store.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.files.hash(&mut hasher);
        hasher.finish()
    }
}

/// Writes a sled store again, in a fixed order. sled applies the changes of a batch in a random
/// order, so two stores with the same records have different bytes.
fn in_fixed_order(data: &Path) -> Result<()> {
    let rewritten = data.with_file_name("rewritten");
    let open = |dir: &Path| {
        // Without the background thread, which writes and cleans at any time.
        let config = sled::Config::new().path(dir).segment_size(SEGMENT).flush_every_ms(None);
        config.open().with_context(|| format!("cannot open {}", dir.display()))
    };
    let records: Vec<_> = open(data)?.iter().collect::<Result<_, _>>()?;
    let (totals, records): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|(key, _)| key.as_ref() == TOTALS);
    for life in 0..usize::from(LIVES) {
        let db = open(&rewritten)?;
        for (key, value) in records.iter().skip(life).step_by(LIVES.into()) {
            db.insert(key, value)?;
        }
        db.flush()?;
    }
    // The totals come last, as in each batch. So they exist only if everything before them exists.
    let db = open(&rewritten)?;
    for (key, value) in totals {
        db.insert(key, value)?;
    }
    db.flush()?;
    drop(db);
    for dir in [data, &rewritten] {
        let is_original = dir == data;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let is_log = text == "db" || text == "conf" || text.starts_with("snap.");
            match (is_log, is_original) {
                (true, true) => fs::remove_file(entry.path())?,
                (true, false) => fs::rename(entry.path(), data.join(&name))?,
                (false, _) => {}
            }
        }
    }
    Ok(fs::remove_dir_all(rewritten)?)
}

/// Bytes of content that are written between two openings. With several segments of 2 MiB, sled
/// cleans its log in the background, and the bytes depend on timing.
fn content_per_life(kind: Kind) -> usize {
    match kind {
        Kind::Sled => 64 << 10,
        Kind::Sqlite | Kind::Native => usize::MAX,
    }
}

fn content_bytes(content: &Content) -> usize {
    let bytes = content.sessions.iter().map(SessionContent::json_len).sum::<u64>();
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The writes with which a server stores content.
fn writes_of(content: Content) -> Vec<Write> {
    let Content { id, header, sessions, .. } = content;
    let (deletions, sessions): (Vec<_>, Vec<_>) =
        sessions.into_iter().partition(|run| run.session.is_delete());
    let mut writes = Vec::new();
    if header.is_some() || !sessions.is_empty() {
        writes.push(Write::Append { id, header, sessions });
    }
    writes.extend(deletions.into_iter().map(|session| Write::Tombstone { id, session }));
    writes
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
        } else if !path.to_string_lossy().ends_with(WITHOUT_CONTENT) {
            files.push((path, fs::read(entry.path())?));
        }
    }
    Ok(())
}
