//! Directories as a disk may hold them after a power failure.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use fastrand::Rng;

use super::disk::{Change, DirState, Disk, FileState, Node, apply_entries};

/// The part of the changes that survives, of those that are not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Nothing,
    Everything,
    /// Some calls, each one completely.
    Calls,
    /// Some sectors of this many bytes, and some calls that change lengths and names.
    Sectors(u64),
}

/// The chances of a call to survive, one for each image.
const CHANCES: [f64; 3] = [0.1, 0.5, 0.9];

impl Kept {
    /// All that are tested at each cut.
    pub(crate) fn all(rng: &mut Rng) -> [Self; 4] {
        let sector = if rng.bool() { 512 } else { 4096 };
        [Self::Nothing, Self::Everything, Self::Calls, Self::Sectors(sector)]
    }
}

/// Writes the directory into an empty one, as it is if the power fails now.
pub(crate) fn write(disk: &Disk, kept: Kept, rng: &mut Rng, to: &Path) -> io::Result<()> {
    let chance = rng.choice(CHANCES).unwrap_or_default();
    let mut image = Image { nodes: disk.nodes(), kept, chance, rng };
    match &disk.nodes()[0] {
        Node::Dir(dir) => image.write_dir(dir, to),
        Node::File(_) => Ok(()),
    }
}

struct Image<'a> {
    nodes: &'a [Node],
    kept: Kept,
    chance: f64,
    rng: &'a mut Rng,
}

impl Image<'_> {
    fn write_dir(&mut self, dir: &DirState, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        let mut entries = dir.durable.clone();
        for (_, changes) in &dir.pending {
            if self.survives() {
                apply_entries(&mut entries, changes);
            }
        }
        for (name, node) in entries {
            match &self.nodes[node] {
                Node::Dir(dir) => self.write_dir(dir, &to.join(name))?,
                Node::File(file) => fs::write(to.join(name), self.content(file))?,
            }
        }
        Ok(())
    }

    fn survives(&mut self) -> bool {
        match self.kept {
            Kept::Nothing => false,
            Kept::Everything => true,
            Kept::Calls | Kept::Sectors(_) => self.rng.f64() < self.chance,
        }
    }

    fn content(&mut self, file: &FileState) -> Vec<u8> {
        let mut content = match self.kept {
            Kept::Sectors(sector) => self.torn(file, sector),
            _ => self.whole(file),
        };
        if file.is_mapped && matches!(self.kept, Kept::Calls | Kept::Sectors(_)) {
            self.rng.fill(&mut content);
        }
        content
    }

    /// The content with some calls. A call that survives also brings the content that earlier calls
    /// gave to its sectors.
    fn whole(&mut self, file: &FileState) -> Vec<u8> {
        let mut content = file.durable.clone();
        let survivors: Vec<_> = file.pending.iter().map(|_| self.survives()).collect();
        if self.kept != Kept::Calls {
            let survivors = file.pending.iter().zip(survivors).filter(|(_, survives)| *survives);
            survivors.for_each(|((_, change), _)| change.apply(&mut content));
            return content;
        }
        let mut newest = HashMap::new();
        let mut len = content.len() as u64;
        for (number, (_, change)) in file.pending.iter().enumerate() {
            if !survivors[number] {
                continue;
            }
            len = change.len_after(len);
            for sector in sectors(change, SECTOR) {
                newest.insert(sector, number);
            }
        }
        apply_sectors(file, &mut content, SECTOR, &newest, |number| survivors[number]);
        content.resize(index(len), 0);
        content
    }

    /// The content with some sectors, each as some call left it, and with one of the lengths that
    /// the file had.
    fn torn(&mut self, file: &FileState, sector: u64) -> Vec<u8> {
        let mut content = file.durable.clone();
        let mut calls: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut lens = vec![content.len() as u64];
        for (number, (_, change)) in file.pending.iter().enumerate() {
            lens.push(change.len_after(lens[number]));
            for sector in sectors(change, sector) {
                calls.entry(sector).or_default().push(number);
            }
        }
        let mut calls: Vec<_> = calls.into_iter().collect();
        calls.sort_unstable();
        let mut newest = HashMap::new();
        for (sector, calls) in calls {
            if self.survives() {
                newest.extend(self.rng.choice(calls).map(|call| (sector, call)));
            }
        }
        let all = lens.len() - 1;
        let length = if self.survives() { all } else { self.rng.usize(..=all) };
        apply_sectors(file, &mut content, sector, &newest, |number| number < length);
        content.resize(index(lens[length]), 0);
        content
    }
}

/// The sectors of a file that survive together if whole calls do.
const SECTOR: u64 = 4096;

/// The sectors that a change touches.
fn sectors(change: &Change, sector: u64) -> RangeInclusive<u64> {
    match change {
        Change::Write { offset, data } => {
            offset / sector..=(offset + data.len() as u64 - 1) / sector
        }
        #[expect(clippy::reversed_empty_ranges, reason = "a new length touches no sector")]
        Change::SetLength(_) => 1..=0,
    }
}

/// Applies the changes to each sector up to the newest that survives in it, and the lengths that
/// survive.
fn apply_sectors(
    file: &FileState,
    content: &mut Vec<u8>,
    sector: u64,
    newest: &HashMap<u64, usize>,
    is_length_kept: impl Fn(usize) -> bool,
) {
    for (number, (_, change)) in file.pending.iter().enumerate() {
        let (offset, data) = match change {
            Change::Write { offset, data } => (*offset, data),
            Change::SetLength(len) => {
                if is_length_kept(number) {
                    content.resize(index(*len), 0);
                }
                continue;
            }
        };
        for at in sectors(change, sector) {
            if newest.get(&at).is_none_or(|newest| *newest < number) {
                continue;
            }
            let start = (at * sector).max(offset);
            let end = ((at + 1) * sector).min(offset + data.len() as u64);
            if content.len() < index(end) {
                content.resize(index(end), 0);
            }
            let part = &data[index(start - offset)..index(end - offset)];
            content[index(start)..index(end)].copy_from_slice(part);
        }
    }
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("the model is in memory")
}
