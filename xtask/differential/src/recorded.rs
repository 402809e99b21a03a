//! Recorded cases, with the reference's answers.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::reference::Reference;
use crate::suite::Suite;

/// The seed of the recorded cases.
const SEED: u64 = 2019;

/// Writes the first cases of a suite, with the reference's answers, to the suite's file. Skips
/// cases without an answer.
pub(crate) fn record(suite: &Suite, reference: &mut Reference) -> Result<()> {
    let mut lines = Vec::new();
    for index in 0.. {
        if lines.len() >= suite.recorded {
            break;
        }
        let case = suite.case(SEED, index)?;
        reference.ask(suite.name, std::slice::from_ref(&case))?;
        for theirs in reference.answers()?.iter().filter(|theirs| theirs.is_answer()) {
            lines.push(ascii(&json!({ "case": case, "answer": theirs.answer }).to_string()));
        }
    }
    let path = file(suite);
    println!("    {}: {} cases", path.display(), lines.len());
    // One case on each line, so that diffs are readable.
    fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n")))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The same JSON in ASCII, so that editors do not change unusual characters.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if char.is_ascii() && !char.is_ascii_control() {
            out.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

fn file(suite: &Suite) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(format!("{}.json", suite.name))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::suites::SUITES;

    /// The recorded cases of a suite with the reference's answers.
    fn read(suite: &Suite) -> Result<Vec<(Value, Value)>> {
        let path = file(suite);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines: Vec<Value> = serde_json::from_str(&text)?;
        Ok(lines.into_iter().map(|mut line| (line["case"].take(), line["answer"].take())).collect())
    }

    #[test]
    fn our_answers_are_those_recorded_from_the_reference() {
        for suite in SUITES {
            let recorded = read(suite).unwrap();
            assert_eq!(recorded.len(), suite.recorded, "{}", suite.name);
            for (case, answer) in recorded {
                assert_eq!(suite.answer(&case).unwrap(), answer, "{}: {case}", suite.name);
            }
        }
    }
}
