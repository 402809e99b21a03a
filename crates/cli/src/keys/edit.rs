//! Changing the key file: whole or not at all, and with its comments kept.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::file::{KeyFile, KeyName};
use super::secret::KeyHash;

/// What a new file begins with.
const HEAD: &str = "\
# Access keys of Downbeat, by `downbeat key add NAME`. What stands here are hashes: the keys
# themselves are with those who use them. `downbeat serve` reads the file again when it changes.
#
# Each key can have limits of its own, for all its connections together:
#     max-connections = 100
#     messages-per-second = 1000
#     bytes-per-second = \"1MiB\"
#     max-stored = \"10GiB\"

";

/// Adds a key to the file, which is made if it is not there.
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
        Err(error) => return Err(error).context(format!("{} cannot be read", path.display())),
    };
    let file = KeyFile::parse(path, &text)?;
    if file.entries.iter().any(|entry| entry.name == *name) {
        anyhow::bail!(
            "there is a key called {} already; revoke it first, or take another name",
            name.0
        );
    }
    if file.entries.iter().any(|entry| entry.hash == hash) {
        anyhow::bail!("this key is there already, under another name");
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

/// Takes a key out of the file.
pub(super) fn remove(path: &Path, name: &KeyName) -> anyhow::Result<()> {
    let change = Change::begin(path)?;
    let text =
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    // For its complaints, which tell more.
    KeyFile::parse(path, &text)?;
    let mut document: DocumentMut = text.parse()?;
    let is_it = |table: &Table| table.get("name").and_then(Item::as_str) == Some(&name.0);
    let tables = document.get_mut("key").and_then(Item::as_array_of_tables_mut);
    let at = tables.as_ref().and_then(|tables| tables.iter().position(is_it));
    let (Some(tables), Some(at)) = (tables, at) else {
        anyhow::bail!("there is no key called {} in {}", name.0, path.display());
    };
    remove_table(tables, at);
    let text = document.to_string();
    // A file without anything in it would be taken for one that is about to be written, and the key
    // would stay in use.
    change.finish(if text.trim().is_empty() { HEAD } else { &text })
}

/// Takes a table out. A comment that stands before the first of them belongs to the file, and goes
/// to the next one.
fn remove_table(tables: &mut ArrayOfTables, at: usize) {
    let head = tables.get(at).filter(|_| at == 0).map(|table| table.decor().clone());
    tables.remove(at);
    if let (Some(head), Some(next)) = (head, tables.get_mut(0)) {
        *next.decor_mut() = head;
    }
}

/// A change of a file, which nobody else makes at the same time: the new file beside it is the lock.
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
            let hint = "another change is under way; if there is none, remove the file";
            let context = format!("{} cannot be made", new.display());
            let error = anyhow::Error::new(error).context(context);
            if broken_off { error.context(hint) } else { error }
        })?;
        Ok(Self { path, new, file })
    }

    /// Puts this text in the place of the file, durably.
    fn finish(mut self, text: &str) -> anyhow::Result<()> {
        let context = || format!("{} cannot be written", self.path.display());
        self.file.write_all(text.as_bytes()).with_context(context)?;
        keep_owner(self.path, &self.file)?;
        self.file.sync_all().with_context(context)?;
        fs::rename(&self.new, self.path).with_context(context)?;
        // A file is under its new name for good when its directory is on disk.
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
        // It is not there any more when all went well.
        let _ = fs::remove_file(&self.new);
    }
}

/// The directory in which a file is, where the name alone means the one of the process.
#[cfg(unix)]
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Gives the new file to whoever has the old one, so that the server can still read what root has
/// changed.
#[cfg(unix)]
fn keep_owner(path: &Path, new: &File) -> anyhow::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let Ok(old) = fs::metadata(path) else { return Ok(()) };
    let made = new.metadata()?;
    if (old.uid(), old.gid()) != (made.uid(), made.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))
            .with_context(|| format!("the owner of {} cannot be kept", path.display()))?;
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
        assert!(remove(&path, &name("a")).unwrap_err().to_string().contains("no key called a"));
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
        assert!(error.to_string().contains("another change is under way"), "{error}");
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
