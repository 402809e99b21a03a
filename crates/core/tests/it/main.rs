//! What the crate's parts do together, mostly on content recorded from the reference.

mod dependencies;
mod given;
