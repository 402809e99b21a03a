//! Access keys: the file in which they are, and the commands that change it.
//!
//! A client brings its key as `?key=` of the URL. The file holds hashes, so that whoever reads it
//! (a backup, a colleague's screen) cannot connect with what it says.

mod command;
mod edit;
mod file;
mod secret;

pub(crate) use command::{KeyCommand, run};
pub(crate) use file::KeyFile;
pub(crate) use secret::KeyHash;
