//! Watches the files of keys and accounts, and reads them again when they change.
//!
//! Clients that are missing in the new file are disconnected, so a half-written file must not be
//! accepted. Editors and scripts empty a file before they write it. Therefore a changed file is
//! read once it has stayed the same from one look to the next, and must be the same after reading.
//! An empty file is accepted at SIGHUP only.

mod changes;
mod poll;

use std::path::{Path, PathBuf};

use downbeat_protocol::{CoValueId, SHORT_HASH_LEN};
use tracing::error;

use crate::config::{FileLine, Problems, Scalar};
use crate::keys::KeyFile;

pub(crate) use changes::{Changes, Unreadable};
pub(crate) use poll::Poll;

/// The maximum of accounts in a file: 5 MB of ids.
const MAX_ACCOUNTS: usize = 100_000;

/// A watched file.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    content: Content,
    changes: Changes<1>,
    /// The problems at the last look, which are logged once.
    logged: Option<String>,
}

/// The kind of content in a watched file.
#[derive(Debug)]
pub(crate) enum Content {
    Keys,
    /// Accounts, in addition to these.
    Accounts(Vec<CoValueId>),
}

/// The content of a file.
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    Keys(KeyFile),
    Accounts(Vec<CoValueId>),
}

impl Watched {
    /// Watches a file. Create this before the first read.
    pub(crate) fn new(path: &Path, content: Content) -> Self {
        Self { path: path.to_owned(), content, changes: Changes::new([path]), logged: None }
    }

    /// The new content of the file, if it has changed. `None` while the file is being written, and
    /// if it is invalid, which is logged. A `forced` look reads it at once.
    pub(crate) fn look(&mut self, forced: bool) -> Option<Read> {
        if forced {
            self.logged = None;
        }
        match self.try_look(forced) {
            Ok(read) => {
                self.logged = None;
                read
            }
            Err(problems) => {
                self.log(problems.to_string());
                None
            }
        }
    }

    fn try_look(&mut self, forced: bool) -> Result<Option<Read>, Problems> {
        let text = self.changes.read(forced, |[path]| {
            let unreadable = |source| Unreadable { path: path.clone(), source };
            std::fs::read_to_string(path).map_err(unreadable)
        });
        let unreadable = |Unreadable { path, source }| {
            Problems::one(path.display(), format_args!("cannot read the file: {source}"))
        };
        let Some(text) = text.map_err(unreadable)? else { return Ok(None) };
        self.parse(&text, forced).map(Some)
    }

    fn parse(&self, text: &str, forced: bool) -> Result<Read, Problems> {
        if text.trim().is_empty() && !forced {
            return Err(Problems::one(
                self.path.display(),
                "the file is empty, as if it were still being written: add a comment or send SIGHUP \
                 to confirm that it has no entries",
            ));
        }
        match &self.content {
            Content::Keys => KeyFile::parse(&self.path, text).map(Read::Keys),
            Content::Accounts(others) => parse_accounts(&self.path, text).map(|mut ids| {
                ids.extend(others);
                Read::Accounts(ids)
            }),
        }
    }

    /// Logs problems, once.
    fn log(&mut self, problems: String) {
        if self.logged.as_ref() != Some(&problems) {
            for problem in problems.lines() {
                error!("the old access rules stay in use: {problem}");
            }
            self.logged = Some(problems);
        }
    }
}

/// Reads a file with one account id per line.
pub(crate) fn read_accounts(path: &Path) -> Result<Vec<CoValueId>, Problems> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let text = format_args!("cannot read the accounts: {error}").to_string();
        Problems::one(path.display(), text)
    })?;
    parse_accounts(path, &text)
}

fn parse_accounts(path: &Path, text: &str) -> Result<Vec<CoValueId>, Problems> {
    let mut problems = Problems::default();
    let mut ids = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let id = line.split('#').next().unwrap_or_default().trim();
        if id.is_empty() {
            continue;
        }
        let parsed = <CoValueId as Scalar>::parse(id).and_then(|parsed| {
            let whole = "write the whole id; it is cut off";
            if is_whole(id) { Ok(parsed) } else { Err(whole.to_owned()) }
        });
        match parsed {
            Ok(id) => ids.push(id),
            Err(expected) => {
                let place = FileLine { path: path.to_owned(), line: index + 1 };
                problems.add(place, format_args!("{id:?} is not valid: {expected}"));
            }
        }
    }
    if ids.len() > MAX_ACCOUNTS {
        problems.add(path.display(), format_args!("more than {MAX_ACCOUNTS} accounts"));
    }
    problems.or(ids)
}

/// Whether an id has the length of a hash. An id that was cut is shorter, except sometimes if only
/// its last character is missing.
fn is_whole(id: &str) -> bool {
    let hash = id.strip_prefix("co_z").and_then(|hash| bs58::decode(hash).into_vec().ok());
    hash.is_some_and(|hash| hash.len() == SHORT_HASH_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> String {
        CoValueId::from_short_hash(&[byte; SHORT_HASH_LEN]).to_string()
    }

    /// A file of accounts that is watched.
    fn watched(dir: &tempfile::TempDir, text: &str) -> (PathBuf, Watched) {
        let path = dir.path().join("accounts");
        std::fs::write(&path, text).unwrap();
        let watched = Watched::new(&path, Content::Accounts(Vec::new()));
        (path, watched)
    }

    fn count(read: Option<Read>) -> Option<usize> {
        match read? {
            Read::Accounts(ids) => Some(ids.len()),
            Read::Keys(_) => None,
        }
    }

    #[test]
    fn a_change_counts_once_it_has_stayed_from_one_look_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut watched) = watched(&dir, &id(1));
        assert_eq!(watched.look(false), None, "nothing has changed");
        let all = format!("{}\n{}\n{}\n", id(1), id(2), id(3));
        // As an editor does it: half of it, and the rest a moment later.
        std::fs::write(&path, &all[..all.len() / 2]).unwrap();
        assert_eq!(watched.look(false), None);
        std::fs::write(&path, &all).unwrap();
        assert_eq!(watched.look(false), None);
        assert_eq!(count(watched.look(false)), Some(3));
        assert_eq!(watched.look(false), None, "it is read once");
        assert_eq!(count(watched.look(true)), Some(3), "unless it must be");
    }

    #[test]
    fn an_empty_file_revokes_no_account_unless_that_is_confirmed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut watched) = watched(&dir, &id(1));
        std::fs::write(&path, "\n").unwrap();
        for _ in 0..3 {
            assert_eq!(watched.look(false), None);
        }
        assert_eq!(count(watched.look(true)), Some(0));
        std::fs::write(&path, "# no accounts\n").unwrap();
        watched.look(false);
        assert_eq!(count(watched.look(false)), Some(0));
    }

    #[cfg(unix)]
    #[test]
    fn a_change_that_keeps_length_and_time_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut watched) = watched(&dir, &id(254));
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, id(255)).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        watched.look(false);
        assert_eq!(count(watched.look(false)), Some(1));
    }

    #[test]
    fn an_unreadable_file_is_tried_again_and_logged_once() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut watched) = watched(&dir, &id(1));
        let seen = watched.changes.seen.clone();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(watched.look(false), None);
        assert!(watched.logged.take().unwrap().contains("cannot read the file"));
        // It is there, but reading fails.
        std::fs::create_dir(&path).unwrap();
        for _ in 0..3 {
            assert_eq!(watched.look(false), None);
            assert_eq!(watched.changes.seen, seen);
        }
        assert!(watched.logged.is_some());
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, format!("{}\n{}", id(1), id(2))).unwrap();
        watched.look(false);
        assert_eq!(count(watched.look(false)), Some(2));
        assert_eq!(watched.logged, None);
    }

    #[test]
    fn accounts_are_lines_with_comments() {
        let parse = |text: &str| parse_accounts(Path::new("accounts"), text);
        let text = format!("# ours\n{}  # Ada\n\n{}\n", id(1), id(2));
        assert_eq!(parse(&text).unwrap().len(), 2);
        let error = parse(&format!("{}\nAda\n", id(1))).unwrap_err().to_string();
        assert!(error.starts_with("accounts:2: \"Ada\" is not valid"), "{error}");
    }

    #[test]
    fn an_id_that_was_cut_is_not_that_of_an_account() {
        let whole = id(255);
        for cut in 1..=whole.len() - "co_z1".len() {
            let text = &whole[..whole.len() - cut];
            let is_read = parse_accounts(Path::new("accounts"), text).is_ok();
            // The last character alone may be one too many or too few.
            assert!(!is_read || cut == 1, "{text}");
        }
    }
}
