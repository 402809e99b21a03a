//! What the crate's parts do together, against values recorded from the reference.

mod reference;
mod secrets;
mod strictness;
