//! What a suite is: a way to make cases, and our answer to them.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::random::Random;

/// One thing that is compared.
pub(crate) trait Rule {
    /// What a case gives to both sides.
    type Case: Serialize + DeserializeOwned;

    /// A random case.
    fn case(random: &mut Random) -> Self::Case;

    /// What our crates make of it, to be compared with what the reference makes of it.
    fn answer(case: &Self::Case) -> Result<Value>;
}

/// A rule with its name and cost.
#[derive(Clone, Copy)]
pub(crate) struct Suite {
    /// The name, here and in the program around the reference.
    pub(crate) name: &'static str,
    /// One case is run where a cheap suite runs so many.
    pub(crate) cost: u64,
    /// How many cases are recorded.
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

    /// The case of this number in the run with this seed.
    pub(crate) fn case(&self, seed: u64, index: u64) -> Result<Value> {
        (self.make)(&mut Random::of_case(seed, self.name, index))
    }

    /// Our answer to a case.
    pub(crate) fn answer(&self, case: &Value) -> Result<Value> {
        (self.answer)(case)
    }
}
