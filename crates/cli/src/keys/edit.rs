//! Changes the key file atomically, and keeps its comments.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::file::{KeyFile, KeyName};
use super::secret::KeyHash;

/// The comment at the start of a new file.
const HEAD: &str = "\
# Access keys of Downbeat. `downbeat key add NAME` adds one. The file holds hashes of the keys, not the
# keys. `downbeat serve` reads the file again when it changes.
#
# Each key can have limits for all its connections together:
#     max-connections = 100
#     messages-per-second = 1000
#     bytes-per-second = \"1MiB\"
#     max-stored = \"10GiB\"

";

/// Adds a key to the file. Creates the file if it does not exist.
pub(super) fn add(
    path: &Path,
    name: &KeyName,
    hash: KeyHash,
    limits: &[(&str, String)],
) -> anyhow::Result<()> {
    let change = Change::begin(path)?;
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => HEAD.to_owned(),
        Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
    };
    let file = KeyFile::parse(path, &text)?;
    if file.entries.iter().any(|entry| entry.name == *name) {
        anyhow::bail!("the key {} exists already: revoke it first, or choose another name", name.0);
    }
    if file.entries.iter().any(|entry| entry.hash == hash) {
        anyhow::bail!("the same key exists already under another name");
    }
    let limits: Vec<_> =
        limits.iter().map(|(limit, text)| format!("{limit} = {}\n", value(text))).collect();
    let entry = format!(
        "[[key]]\nname = {}\nhash = {}\ncreated = {}\n{}",
        value(&name.0),
        value(hash.to_string()),
        value(humantime::format_rfc3339_seconds(SystemTime::now()).to_string()),
        limits.concat(),
    );
    let separator = if text.is_empty() || text.ends_with("\n\n") { "" } else { "\n" };
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    change.finish(&format!("{text}{newline}{separator}{entry}"))
}

/// Removes a key from the file.
pub(super) fn remove(path: &Path, name: &KeyName) -> anyhow::Result<()> {
    let change = Change::begin(path)?;
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Its errors are more precise than those of the TOML parser.
    KeyFile::parse(path, &text)?;
    let mut document: DocumentMut = text.parse()?;
    let is_it = |table: &Table| table.get("name").and_then(Item::as_str) == Some(&name.0);
    let tables = document.get_mut("key").and_then(Item::as_array_of_tables_mut);
    let at = tables.as_ref().and_then(|tables| tables.iter().position(is_it));
    let (Some(tables), Some(at)) = (tables, at) else {
        anyhow::bail!("the key {} is not in {}", name.0, path.display());
    };
    remove_table(tables, at);
    let text = document.to_string();
    // A server ignores an empty file, and the key would stay in use.
    change.finish(if text.trim().is_empty() { HEAD } else { &text })
}

/// Removes a table. The comment before the first table belongs to the file and moves to the next
/// table.
fn remove_table(tables: &mut ArrayOfTables, at: usize) {
    let head = tables.get(at).filter(|_| at == 0).map(|table| table.decor().clone());
    tables.remove(at);
    if let (Some(head), Some(next)) = (head, tables.get_mut(0)) {
        *next.decor_mut() = head;
    }
}

/// An exclusive change of a file. The new file beside it is the lock.
struct Change<'a> {
    path: &'a Path,
    new: PathBuf,
    file: File,
}

impl<'a> Change<'a> {
    fn begin(path: &'a Path) -> anyhow::Result<Self> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&new).map_err(|error| {
            let broken_off = error.kind() == ErrorKind::AlreadyExists;
            let hint = "another change is in progress; if not, remove this file";
            let context = format!("cannot create {}", new.display());
            let error = anyhow::Error::new(error).context(context);
            if broken_off { error.context(hint) } else { error }
        })?;
        Ok(Self { path, new, file })
    }

    /// Replaces the content of the file, durably.
    fn finish(mut self, text: &str) -> anyhow::Result<()> {
        let context = || format!("cannot write {}", self.path.display());
        self.file.write_all(text.as_bytes()).with_context(context)?;
        keep_owner(self.path, &self.file)?;
        self.file.sync_all().with_context(context)?;
        fs::rename(&self.new, self.path).with_context(context)?;
        // The rename is durable once the directory is on disk.
        #[cfg(unix)]
        File::open(directory_of(self.path))
            .and_then(|directory| directory.sync_all())
            .with_context(|| {
                let path = self.path.display();
                format!("{path} is changed, but a power failure could undo it")
            })?;
        Ok(())
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        // After success the new file has been renamed.
        let _ = fs::remove_file(&self.new);
    }
}

/// The directory of a file. For a bare name it is the current directory.
#[cfg(unix)]
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Gives the new file the owner of the old one, so that the server can read a file that root has
/// changed.
#[cfg(unix)]
fn keep_owner(path: &Path, new: &File) -> anyhow::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let Ok(old) = fs::metadata(path) else { return Ok(()) };
    let made = new.metadata()?;
    if (old.uid(), old.gid()) != (made.uid(), made.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))
            .with_context(|| format!("cannot keep the owner of {}", path.display()))?;
    }
    new.set_permissions(old.permissions())?;
    Ok(())
}

#[cfg(not(unix))]
fn keep_owner(_: &Path, _: &File) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> KeyName {
        text.parse().unwrap()
    }

    #[test]
    fn keys_come_and_go_and_comments_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        for key in ["a", "b", "c"] {
            add(&path, &name(key), KeyHash::of(key), &[]).unwrap();
        }
        let text =
            fs::read_to_string(&path).unwrap().replace("name = \"c\"", "# of Carla\nname = \"c\"");
        fs::write(&path, text).unwrap();

        for gone in ["a", "b"] {
            remove(&path, &name(gone)).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(HEAD) && text.contains("# of Carla"), "{text}");
        let names: Vec<_> =
            KeyFile::read(&path).unwrap().entries.into_iter().map(|e| e.name.0).collect();
        assert_eq!(names, ["c"]);
        assert!(remove(&path, &name("a")).unwrap_err().to_string().contains("the key a is not in"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside the file");
    }

    #[test]
    fn a_name_and_a_key_are_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        add(&path, &name("a"), KeyHash::of("k"), &[("max-stored", "1GiB".to_owned())]).unwrap();
        assert!(add(&path, &name("a"), KeyHash::of("other"), &[]).is_err());
        assert!(add(&path, &name("b"), KeyHash::of("k"), &[]).is_err());
        assert_eq!(KeyFile::read(&path).unwrap().entries.len(), 1);
    }

    #[test]
    fn when_the_last_key_goes_the_file_says_that_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        add(&path, &name("a"), KeyHash::of("k"), &[]).unwrap();
        remove(&path, &name("a")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), HEAD);
        add(&path, &name("a"), KeyHash::of("k"), &[]).unwrap();
        assert_eq!(KeyFile::read(&path).unwrap().entries.len(), 1);
    }

    #[test]
    fn two_changes_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        let first = Change::begin(&path).unwrap();
        let error = add(&path, &name("a"), KeyHash::of("k"), &[]).unwrap_err();
        assert!(error.to_string().contains("another change is in progress"), "{error}");
        drop(first);
        add(&path, &name("a"), KeyHash::of("k"), &[]).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn the_directory_of_a_name_alone_is_that_of_the_process() {
        for (path, directory) in [("keys.toml", "."), ("a/keys.toml", "a"), ("/keys.toml", "/")] {
            assert_eq!(directory_of(Path::new(path)), Path::new(directory));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_is_for_its_owner_alone_and_an_old_one_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        add(&path, &name("a"), KeyHash::of("k"), &[]).unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        remove(&path, &name("a")).unwrap();
        assert_eq!(mode(), 0o640);
    }
}
