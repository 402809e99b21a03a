//! What the crate's parts do together, against values recorded from the reference.

mod costs;
mod reference;
mod secrets;
mod strictness;
mod verdicts;
