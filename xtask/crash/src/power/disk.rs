//! A model of the files below a directory, and of the part of them that survives a power failure.
//!
//! A flush of a file makes its content and length durable, but not its name. A flush of a directory
//! makes the names in it durable. Everything else may be lost or kept, call by call and sector by
//! sector. A sector that survives holds all changes up to some time, because the system writes whole
//! pages from memory.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::recording::Call;

/// Files that SQLite maps into memory and rebuilds after a crash. Their content is lost.
const MAPPED: &str = "-shm";

/// Shorter writes, such as those of counters, are not looked for when they overwrite.
const LONG: usize = 512;

/// The files below a directory.
pub(crate) struct Disk {
    /// The path of the directory, with a slash.
    root: String,
    /// Files and directories, also those without a name. The first is the root.
    nodes: Vec<Node>,
    open: HashMap<i32, usize>,
    /// Running flushes by thread: the node, and the number of the first change that is not covered.
    flushes: HashMap<i32, (usize, u64)>,
    /// Number of the next change.
    next: u64,
    /// The end of the names of files whose flushes do nothing. For the test of this test.
    lying: Option<&'static [&'static str]>,
}

pub(super) enum Node {
    File(FileState),
    Dir(DirState),
}

#[derive(Default)]
pub(super) struct FileState {
    /// The content on the disk.
    pub(super) durable: Vec<u8>,
    /// Changes that are not flushed, oldest first, with their numbers.
    pub(super) pending: Vec<(u64, Change)>,
    /// The length as programs see it.
    pub(super) len: u64,
    /// Whether the content is lost in any case.
    pub(super) is_mapped: bool,
}

/// A change of a file.
pub(super) enum Change {
    Write { offset: u64, data: Vec<u8> },
    SetLength(u64),
}

#[derive(Default)]
pub(super) struct DirState {
    /// The entries as programs see them.
    now: Entries,
    pub(super) durable: Entries,
    /// Changes that are not flushed. A rename changes two entries, together.
    pub(super) pending: Vec<(u64, Vec<Entry>)>,
}

/// The nodes of a directory by name.
pub(super) type Entries = BTreeMap<String, usize>;

/// A name and its new node, if it has one.
pub(super) type Entry = (String, Option<usize>);

impl Disk {
    /// An empty directory.
    pub(crate) fn new(root: &str) -> Self {
        Self {
            root: format!("{root}/"),
            nodes: vec![Node::Dir(DirState::default())],
            open: HashMap::new(),
            flushes: HashMap::new(),
            next: 0,
            lying: None,
        }
    }

    /// A directory with the content of another one, all of it durable.
    pub(crate) fn copy_of(root: &str, base: &Path) -> Result<Self> {
        let mut disk = Self::new(root);
        disk.nodes[0] = Node::Dir(disk.read_dir(base)?);
        Ok(disk)
    }

    fn read_dir(&mut self, dir: &Path) -> Result<DirState> {
        let mut state = DirState::default();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let node = if entry.file_type()?.is_dir() {
                Node::Dir(self.read_dir(&entry.path())?)
            } else {
                let durable = fs::read(entry.path())?;
                let len = durable.len() as u64;
                Node::File(FileState { durable, len, ..FileState::default() })
            };
            let name = entry.file_name().into_string();
            let name = name.ok().context("the name of a file is not text")?;
            state.now.insert(name, self.add(node));
        }
        state.durable = state.now.clone();
        Ok(state)
    }

    /// From now on, flushes of files whose names end like this do nothing.
    pub(crate) fn lie(&mut self, names: &'static [&'static str]) {
        self.lying = Some(names);
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Whether a call, if it is made now, writes over a part of a file, cuts it or removes it.
    pub(crate) fn is_overwriting(&self, call: &Call) -> bool {
        match call {
            Call::Write { fd, offset, data } => {
                let is_long = data.len() >= LONG;
                is_long && self.open_len(*fd).is_some_and(|len| *offset < len)
            }
            Call::SetLength { .. } | Call::Rename { .. } | Call::Remove { .. } => true,
            _ => false,
        }
    }

    fn open_len(&self, fd: i32) -> Option<u64> {
        match &self.nodes[*self.open.get(&fd)?] {
            Node::File(file) => Some(file.len),
            Node::Dir(_) => None,
        }
    }

    /// Makes a recorded call.
    pub(crate) fn make(&mut self, call: Call) -> Result<()> {
        match call {
            Call::Start => {
                self.open.clear();
                self.flushes.clear();
            }
            Call::Open { fd, path, is_new, is_truncated } => {
                self.open_file(fd, &path, is_new, is_truncated)?;
            }
            Call::Close { fd } => drop(self.open.remove(&fd)),
            Call::Duplicate { fd, copy } => drop(self.open.insert(copy, self.opened(fd)?)),
            Call::Write { fd, offset, data } => {
                if !data.is_empty() {
                    self.change(self.opened(fd)?, Change::Write { offset, data })?;
                }
            }
            Call::SetLength { fd, len } => {
                self.change(self.opened(fd)?, Change::SetLength(len))?;
            }
            Call::Allocate { fd, end } => {
                if self.open_len(fd).is_some_and(|len| len < end) {
                    self.change(self.opened(fd)?, Change::SetLength(end))?;
                }
            }
            Call::Rename { from, to } => self.rename(&from, &to)?,
            Call::Remove { path } => {
                let (dir, name) = self.place(&path)?;
                self.set_entries(dir, vec![(name, None)])?;
            }
            Call::MakeDir { path } => {
                let node = self.add(Node::Dir(DirState::default()));
                let (dir, name) = self.place(&path)?;
                self.set_entries(dir, vec![(name, Some(node))])?;
            }
            Call::FlushBegins { fd, thread } => {
                let node = self.opened(fd)?;
                self.flushes.insert(thread, (node, self.next));
            }
            Call::FlushEnds { thread } => {
                let flush = self.flushes.remove(&thread).context("a flush ends without a start")?;
                self.flush(flush);
            }
            Call::WriteBack => {}
            Call::Map { fd } => self.map(fd)?,
        }
        Ok(())
    }

    fn open_file(&mut self, fd: i32, path: &str, is_new: bool, is_truncated: bool) -> Result<()> {
        let node = if path.len() + 1 == self.root.len() {
            0
        } else if is_new {
            let node = self.add(Node::File(FileState::default()));
            let (dir, name) = self.place(path)?;
            self.set_entries(dir, vec![(name, Some(node))])?;
            node
        } else {
            self.find(path)?
        };
        if is_truncated && matches!(&self.nodes[node], Node::File(file) if file.len > 0) {
            self.change(node, Change::SetLength(0))?;
        }
        self.open.insert(fd, node);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let node = self.find(from)?;
        let ((dir, from), (to_dir, to)) = (self.place(from)?, self.place(to)?);
        ensure!(dir == to_dir, "a rename into another directory is not modelled");
        self.set_entries(dir, vec![(from, None), (to, Some(node))])
    }

    /// Only SQLite's files of shared memory may be mapped, because changes to others are missed.
    fn map(&mut self, fd: i32) -> Result<()> {
        let node = self.opened(fd)?;
        ensure!(self.has_name(node, &[MAPPED]), "the server maps a file other than `*{MAPPED}`");
        if let Node::File(file) = &mut self.nodes[node] {
            file.is_mapped = true;
        }
        Ok(())
    }

    fn change(&mut self, node: usize, change: Change) -> Result<()> {
        let Node::File(file) = &mut self.nodes[node] else { bail!("a directory is written to") };
        file.len = change.len_after(file.len);
        file.pending.push((self.next, change));
        self.next += 1;
        Ok(())
    }

    fn set_entries(&mut self, dir: usize, entries: Vec<Entry>) -> Result<()> {
        let Node::Dir(dir) = &mut self.nodes[dir] else { bail!("a file has entries") };
        apply_entries(&mut dir.now, &entries);
        dir.pending.push((self.next, entries));
        self.next += 1;
        Ok(())
    }

    fn flush(&mut self, (node, until): (usize, u64)) {
        if self.lying.is_some_and(|names| self.has_name(node, names)) {
            return;
        }
        match &mut self.nodes[node] {
            Node::File(FileState { durable, pending, .. }) => {
                let covered = pending.partition_point(|(number, _)| *number < until);
                pending.drain(..covered).for_each(|(_, change)| change.apply(durable));
            }
            Node::Dir(DirState { durable, pending, .. }) => {
                let covered = pending.partition_point(|(number, _)| *number < until);
                pending.drain(..covered).for_each(|(_, entries)| apply_entries(durable, &entries));
            }
        }
    }

    /// Whether a node has a name that ends like one of these.
    fn has_name(&self, node: usize, ends: &[&str]) -> bool {
        self.nodes.iter().any(|dir| match dir {
            Node::Dir(dir) => dir
                .now
                .iter()
                .any(|(name, entry)| *entry == node && ends.iter().any(|end| name.ends_with(end))),
            Node::File(_) => false,
        })
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn opened(&self, fd: i32) -> Result<usize> {
        self.open.get(&fd).copied().with_context(|| format!("file {fd} is not open"))
    }

    fn find(&self, path: &str) -> Result<usize> {
        let (dir, name) = self.place(path)?;
        let Node::Dir(dir) = &self.nodes[dir] else { bail!("{path} is not in a directory") };
        dir.now.get(&name).copied().with_context(|| format!("{path} does not exist"))
    }

    /// The directory and the name of a path.
    fn place(&self, path: &str) -> Result<(usize, String)> {
        let path = path.strip_prefix(&self.root).context("a path is outside of the directory")?;
        let mut names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
        let last = names.pop().context("a path has no name")?;
        let mut at = 0;
        for name in names {
            let Node::Dir(dir) = &self.nodes[at] else { bail!("{path}: {name} is in a file") };
            at = *dir.now.get(name).with_context(|| format!("{path}: no directory {name}"))?;
        }
        Ok((at, last.to_owned()))
    }
}

impl Change {
    /// The length of a file of length `len` after the change.
    pub(super) fn len_after(&self, len: u64) -> u64 {
        match self {
            Self::Write { offset, data } => len.max(offset + data.len() as u64),
            Self::SetLength(len) => *len,
        }
    }

    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        let index = |at: u64| usize::try_from(at).expect("the model is in memory");
        content.resize(index(self.len_after(content.len() as u64)), 0);
        if let Self::Write { offset, data } = self {
            content[index(*offset)..][..data.len()].copy_from_slice(data);
        }
    }
}

pub(super) fn apply_entries(entries: &mut Entries, changes: &[Entry]) {
    for (name, node) in changes {
        match node {
            Some(node) => drop(entries.insert(name.clone(), *node)),
            None => drop(entries.remove(name)),
        }
    }
}
