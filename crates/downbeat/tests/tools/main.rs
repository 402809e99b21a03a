//! The tools of the binary, run as its users run them, on stores with real signatures.

mod export;
mod generate;
mod given;
mod import;
mod inspect;
mod starts;
mod usage;
mod verify;
