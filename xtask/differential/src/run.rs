//! Running the cases of a suite.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::reference::{Answer, Reference};
use crate::suite::Suite;

/// The number of cases in a batch, divided by the cost of a case.
const BATCH: u64 = 500;

/// The maximum number of differing cases of a suite that are printed.
const MAX_PRINTED: u64 = 3;

/// The maximum length of a printed input or answer, in bytes, unless the case runs alone.
const MAX_PRINTED_LEN: usize = 1_000;

/// Runs as many cases of a suite as its cost allows, and returns the number of differences.
pub(crate) fn many(suite: &Suite, seed: u64, cases: u64, reference: &mut Reference) -> Result<u64> {
    let cases = cases.div_ceil(suite.cost);
    let batch = BATCH.div_ceil(suite.cost);
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut next = 0;
    while next < cases {
        let end = cases.min(next + batch);
        let inputs =
            (next..end).map(|index| suite.case(seed, index)).collect::<Result<Vec<_>>>()?;
        reference.ask(suite.name, &inputs)?;
        let ours: Vec<_> = inputs.iter().map(|input| suite.answer(input)).collect();
        let theirs = reference.answers()?;
        for (((index, input), ours), theirs) in (next..end).zip(&inputs).zip(ours).zip(&theirs) {
            let ours =
                ours.with_context(|| format!("no answer to {}", rerun(suite, seed, index)))?;
            if tally.differs(&ours, theirs) && tally.differences <= MAX_PRINTED {
                println!("\n    differs: {}", rerun(suite, seed, index));
                print(input, &ours, theirs, MAX_PRINTED_LEN);
            }
        }
        next = end;
    }
    let seconds = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let rate = cases as f64 / seconds;
    println!(
        "    {:12} {cases:6} cases, {} differ, {} without an answer, {} refused; {seconds:.1} s, {rate:.0} a second",
        suite.name, tally.differences, tally.unanswered, tally.refused,
    );
    Ok(tally.differences)
}

/// Runs one case, and prints its input and answers.
pub(crate) fn one(suite: &Suite, input: &Value, reference: &mut Reference) -> Result<u64> {
    reference.ask(suite.name, std::slice::from_ref(input))?;
    let theirs = reference.answers()?;
    let ours = suite.answer(input)?;
    let mut tally = Tally::default();
    for theirs in &theirs {
        print(input, &ours, theirs, usize::MAX);
        println!("    {}", if tally.differs(&ours, theirs) { "differs" } else { "agrees" });
    }
    Ok(tally.differences)
}

#[derive(Default)]
struct Tally {
    differences: u64,
    unanswered: u64,
    refused: u64,
}

impl Tally {
    fn differs(&mut self, ours: &Value, theirs: &Answer) -> bool {
        if !theirs.is_answer() {
            self.unanswered += 1;
            return false;
        }
        self.refused += u64::from(theirs.answer.is_null());
        let differs = *ours != theirs.answer;
        self.differences += u64::from(differs);
        differs
    }
}

fn rerun(suite: &Suite, seed: u64, index: u64) -> String {
    format!("cargo xtask differential --seed {seed} --suite {} --case {index}", suite.name)
}

fn print(input: &Value, ours: &Value, theirs: &Answer, max_len: usize) {
    println!("    input: {}", cut(input, max_len));
    let (path, our_part, their_part) = first_difference(ours, &theirs.answer);
    if path.is_empty() || max_len == usize::MAX {
        println!("    ours: {}", cut(ours, max_len));
        println!("    reference: {}", cut(&theirs.answer, max_len));
    }
    if !path.is_empty() {
        println!("    at {path}");
        println!("        ours: {}", cut(our_part, max_len));
        println!("        reference: {}", cut(their_part, max_len));
    }
    if let Some(note) = &theirs.note {
        println!("    reference says: {}", note.lines().next().unwrap_or_default());
    }
}

/// The first difference of two answers: the path to it, and both values.
fn first_difference<'a>(ours: &'a Value, theirs: &'a Value) -> (String, &'a Value, &'a Value) {
    let (mut path, mut ours, mut theirs) = (String::new(), ours, theirs);
    loop {
        let step = match (ours, theirs) {
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
                .iter()
                .zip(b)
                .enumerate()
                .find(|(_, (a, b))| a != b)
                .map(|(index, (a, b))| (index.to_string(), a, b)),
            (Value::Object(a), Value::Object(b)) => a
                .iter()
                .filter_map(|(name, a)| Some((name.clone(), a, b.get(name)?)))
                .find(|(_, a, b)| a != b),
            _ => None,
        };
        let Some((name, a, b)) = step else { return (path, ours, theirs) };
        path.push('/');
        path.push_str(&name);
        (ours, theirs) = (a, b);
    }
}

fn cut(value: &Value, max_len: usize) -> String {
    let mut text = value.to_string();
    if let Some((end, _)) = text.char_indices().find(|(at, _)| *at >= max_len) {
        text.truncate(end);
        text.push('…');
    }
    text
}
