//! The fuzz targets. A target takes any bytes, and panics if a rule is broken.

mod binary_frame;
mod canonical;
mod frames;
mod ingest;
mod json_frame;
mod machine;
mod model;
mod parts;
mod round_trip;

use crate::features::Features;
use crate::rng::Rng;
use crate::seeds;

/// A fuzz target: a function that checks rules with any bytes as its input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name on the command line.
    pub name: &'static str,
    /// Runs the target. Panics if the code under test panics or breaks a rule.
    pub run: fn(&[u8]) -> Features,
    /// The first inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Repairs a mutated input so that it passes the first checks, because mutations never produce
    /// valid signatures.
    pub repair: fn(&mut Vec<u8>, &mut Rng),
}

impl Target {
    /// The first inputs: the target's own seeds, recorded content, and inputs in the `corpus`
    /// folder, which coverage-guided fuzzing has found.
    pub fn first_inputs(&self) -> Vec<Vec<u8>> {
        let mut inputs = (self.seeds)();
        inputs.extend(seeds::recorded());
        inputs.extend(seeds::corpus(self.name));
        inputs
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "json-frame", run: json_frame::run, seeds: seeds::json_frames, repair: leave },
    Target {
        name: "binary-frame",
        run: binary_frame::run,
        seeds: seeds::binary_frames,
        repair: binary_frame::fix_length,
    },
    Target { name: "canonical", run: canonical::run, seeds: seeds::values, repair: leave },
    Target { name: "parts", run: parts::run, seeds: seeds::parts, repair: leave },
    Target { name: "ingest", run: ingest::run, seeds: seeds::json_frames, repair: ingest::sign },
    Target { name: "machine", run: machine::run, seeds: machine::seeds, repair: leave },
];

/// The target with this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

fn leave(_: &mut Vec<u8>, _: &mut Rng) {}
