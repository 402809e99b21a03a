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
    /// The first inputs: the target's own seeds, recorded content, and those in the folders
    /// `regressions` (inputs that have found a fault) and `corpus` (what coverage-guided fuzzing
    /// keeps).
    pub fn first_inputs(&self) -> Vec<Vec<u8>> {
        let mut inputs = (self.seeds)();
        inputs.extend(seeds::recorded());
        inputs.extend(seeds::kept("regressions", self.name));
        inputs.extend(seeds::kept("corpus", self.name));
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn each_target_is_a_program_for_coverage_guided_fuzzing() {
        let manifest = include_str!("../../coverage/Cargo.toml");
        for Target { name, .. } in TARGETS {
            let file = name.replace('-', "_");
            let program =
                format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{file}.rs\"\n");
            assert!(manifest.contains(&program), "{name}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    }

    #[test]
    fn inputs_that_have_found_a_fault_pass() {
        let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
        for folder in fs::read_dir(regressions).unwrap() {
            let name = folder.unwrap().file_name().into_string().unwrap();
            let target = find(&name).unwrap_or_else(|| panic!("{name} is no target"));
            let inputs = seeds::kept("regressions", target.name);
            assert!(!inputs.is_empty(), "{name}");
            let first = target.first_inputs();
            for input in inputs {
                (target.run)(&input);
                assert!(first.contains(&input), "a regression of {name} is no first input");
            }
        }
    }
}
