//! The fuzz targets of `downbeat-fuzz` as programs for libFuzzer.

pub use libfuzzer_sys;

/// A program that fuzzes the target with this name.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::run($name, input));
    };
}

/// Runs a target on an input.
pub fn run(name: &str, input: &[u8]) {
    let target = downbeat_fuzz::find(name).expect("there is a target with this name");
    (target.run)(input);
}
