//! Runs the tools of the binary on stores with real signatures.

mod convert;
mod export;
mod generate;
mod given;
mod import;
mod inspect;
mod salvage;
mod starts;
mod usage;
mod verify;
