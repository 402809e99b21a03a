//! Access keys: the key file, and the commands that change it.
//!
//! A client sends its key in the URL, as `?key=`. The file holds hashes of keys, so its content (in
//! a backup, on a colleague's screen) does not let a reader connect.

mod command;
mod edit;
mod file;
mod secret;

pub(crate) use command::{KeyCommand, run};
pub(crate) use file::KeyFile;
pub(crate) use secret::KeyHash;
