//! Recordings of the calls of a server that change or flush files, made by `recorder.c`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// The source of the library that records.
const SOURCE: &str = include_str!("recorder.c");

/// Length of a record without its text and data.
const HEAD: usize = 48;

/// Longest text and data of a record. No call of a server writes as much.
const MAX_PART: u64 = 1 << 30;

/// A recorded call.
#[derive(Debug)]
pub(crate) enum Call {
    /// A process started. It has no open files.
    Start,
    Open {
        fd: i32,
        path: String,
        is_new: bool,
        is_truncated: bool,
    },
    Close {
        fd: i32,
    },
    Duplicate {
        fd: i32,
        copy: i32,
    },
    Write {
        fd: i32,
        offset: u64,
        data: Vec<u8>,
    },
    SetLength {
        fd: i32,
        len: u64,
    },
    /// The file has at least this length afterwards.
    Allocate {
        fd: i32,
        end: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    MakeDir {
        path: String,
    },
    /// `fsync` or `fdatasync` begins.
    FlushBegins {
        fd: i32,
        thread: i32,
    },
    /// It has ended: all changes before its beginning are on the disk.
    FlushEnds {
        thread: i32,
    },
    /// `sync_file_range`, which promises nothing for a power failure: it writes neither the length
    /// of the file nor the cache of the disk.
    WriteBack,
    /// A shared mapping that can be written. Writes to it are not recorded.
    Map {
        fd: i32,
    },
}

/// A call, and the end of its record in the log.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) end: u64,
    /// When the call was made, since an unknown time.
    pub(crate) time: Duration,
    pub(crate) call: Call,
}

/// Reads a log from its beginning.
pub(crate) struct Recording {
    log: BufReader<File>,
    position: u64,
}

/// Builds the library in a directory, with the C compiler.
pub(crate) fn build_recorder(dir: &Path) -> Result<PathBuf> {
    ensure!(cfg!(target_os = "linux"), "recording needs Linux");
    let (source, library) = (dir.join("recorder.c"), dir.join("recorder.so"));
    std::fs::write(&source, SOURCE).context("cannot write the source of the recorder")?;
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut command = Command::new(&compiler);
    command.args(["-shared", "-fPIC", "-O1", "-pthread", "-o"]).arg(&library).arg(&source);
    let status = command.arg("-ldl").status().with_context(|| format!("cannot run {compiler}"))?;
    ensure!(status.success(), "{compiler} cannot build the recorder");
    Ok(library)
}

/// A program with arguments that starts another program under the recorder. `root` is the directory
/// to record.
pub(crate) fn wrapper(recorder: &Path, root: &Path, log: &Path) -> Vec<String> {
    let set = |name: &str, path: &Path| format!("{name}={}", path.display());
    vec![
        "env".to_owned(),
        set("LD_PRELOAD", recorder),
        set("DOWNBEAT_RECORD_ROOT", root),
        set("DOWNBEAT_RECORD_LOG", log),
    ]
}

impl Recording {
    pub(crate) fn open(log: &Path) -> Result<Self> {
        let log = File::open(log).context("the recorder wrote no log")?;
        Ok(Self { log: BufReader::with_capacity(1 << 20, log), position: 0 })
    }

    /// The next record; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        let mut head = [0; HEAD];
        if self.log.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        self.log.read_exact(&mut head[1..]).context("the log ends within a record")?;
        let i32_at = |at| i32::from_ne_bytes(array(&head, at));
        let u64_at = |at| u64::from_ne_bytes(array(&head, at));
        let text_len = u64::from(u32::from_ne_bytes(array(&head, 12)));
        let text = self.part(text_len)?;
        let text = String::from_utf8(text).context("a path is not text")?;
        let data = self.part(u64_at(16))?;
        self.position += HEAD as u64;
        let (fd, other) = (i32_at(4), i32_at(8));
        let call = match head[0] {
            b'S' => Call::Start,
            b'O' => {
                let (is_new, is_truncated) = (head[1] & 1 != 0, head[1] & 2 != 0);
                Call::Open { fd, path: text, is_new, is_truncated }
            }
            b'C' => Call::Close { fd },
            b'D' => Call::Duplicate { fd, copy: other },
            b'W' => Call::Write { fd, offset: u64_at(24), data },
            b'T' => Call::SetLength { fd, len: u64_at(32) },
            b'A' => Call::Allocate { fd, end: u64_at(32) },
            b'R' => {
                let (from, to) = text.split_once('\0').context("a rename has one path")?;
                Call::Rename { from: from.to_owned(), to: to.to_owned() }
            }
            b'U' => Call::Remove { path: text },
            b'M' => Call::MakeDir { path: text },
            b'F' => Call::FlushBegins { fd, thread: other },
            b'f' => Call::FlushEnds { thread: other },
            b'G' => Call::WriteBack,
            b'P' => Call::Map { fd },
            b'X' => bail!("the server made a call that cannot be replayed: {text}"),
            other => bail!("the log has a record of the unknown kind {other}"),
        };
        let time = Duration::from_nanos(u64_at(40));
        Ok(Some(Record { end: self.position, time, call }))
    }

    fn part(&mut self, len: u64) -> Result<Vec<u8>> {
        ensure!(len <= MAX_PART, "the log has a record of {len} bytes");
        let mut bytes = vec![0; usize::try_from(len)?];
        self.log.read_exact(&mut bytes).context("the log ends within a record")?;
        self.position += len;
        Ok(bytes)
    }
}

fn array<const N: usize>(head: &[u8; HEAD], at: usize) -> [u8; N] {
    std::array::from_fn(|index| head[at + index])
}
