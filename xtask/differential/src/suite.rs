//! Suites: generating cases, and the crates' answers to them.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::random::Random;

/// A rule that is compared with the reference.
pub(crate) trait Rule {
    /// The input of both sides.
    type Case: Serialize + DeserializeOwned;

    /// A random case.
    fn case(random: &mut Random) -> Self::Case;

    /// The crates' answer, which is compared with the reference's.
    fn answer(case: &Self::Case) -> Result<Value>;
}

/// A rule with its name and cost.
#[derive(Clone, Copy)]
pub(crate) struct Suite {
    /// The name, in this program and in the reference's program.
    pub(crate) name: &'static str,
    /// The cost of a case: a suite of cost 5 runs one fifth of the cases of a cheap suite.
    pub(crate) cost: u64,
    /// The number of recorded cases.
    pub(crate) recorded: usize,
    make: fn(&mut Random) -> Result<Value>,
    answer: fn(&Value) -> Result<Value>,
}

impl Suite {
    pub(crate) const fn new<R: Rule>(name: &'static str, cost: u64, recorded: usize) -> Self {
        Self {
            name,
            cost,
            recorded,
            make: |random| Ok(serde_json::to_value(R::case(random))?),
            answer: |case| {
                let case = R::Case::deserialize(case).context("not a case of this suite")?;
                R::answer(&case)
            },
        }
    }

    /// The case with this number in the run with this seed.
    pub(crate) fn case(&self, seed: u64, index: u64) -> Result<Value> {
        (self.make)(&mut Random::of_case(seed, self.name, index))
    }

    /// The crates' answer to a case.
    pub(crate) fn answer(&self, case: &Value) -> Result<Value> {
        (self.answer)(case)
    }
}
