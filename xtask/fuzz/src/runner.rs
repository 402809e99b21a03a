//! Running a target on many inputs.

use std::collections::HashSet;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::features::Features;
use crate::mutate::{MAX_INPUT_LEN, mutate};
use crate::rng::Rng;
use crate::targets::Target;

/// The time limit for one input. It is generous, so that a busy machine causes no failure, but too
/// short for quadratic time.
pub const SLOW: Duration = Duration::from_millis(50);

/// The number of retries of a slow input, in case the machine is slow.
const RETRIES: usize = 4;

/// The maximum number of kept inputs. Later ones replace earlier ones.
const MAX_CORPUS: usize = 4_096;

/// One in this number of cases starts from a seed instead of a kept input.
const FROM_SEEDS: usize = 6;

/// The maximum length of a failure message, which may contain a whole input.
const MAX_MESSAGE_CHARS: usize = 1_000;

/// The failure of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The place of the panic, or a fixed text for slow inputs. Inputs with the same fault have the
    /// same place.
    pub place: String,
    /// The message.
    pub message: String,
}

/// Runs a target on one input, with the time limit `patience`.
pub fn try_input(target: &Target, input: &[u8], patience: Duration) -> Result<Features, Failure> {
    let mut fastest = Duration::MAX;
    for _ in 0..RETRIES {
        let started = Instant::now();
        let features = catch(|| (target.run)(input))?;
        fastest = fastest.min(started.elapsed());
        if fastest <= patience {
            return Ok(features);
        }
    }
    let message = format!("took {fastest:?} for {} bytes", input.len());
    Err(Failure { place: "slow".to_owned(), message })
}

/// The last panic of a target, recorded by the hook of [`quiet_panics`].
static LAST_PANIC: Mutex<Option<Failure>> = Mutex::new(None);

/// Records panics instead of printing them.
pub fn quiet_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or(payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("a panic without a message");
        let message = text.chars().take(MAX_MESSAGE_CHARS).collect();
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Failure { place, message });
    }));
}

fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        let noted = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
        let unknown = Failure { place: "a panic".to_owned(), message: String::new() };
        noted.unwrap_or(unknown)
    })
}

/// The state of fuzzing a target: the kept inputs, and the position in the run. The seed determines
/// the cases, independent of time.
pub struct Fuzzer {
    target: &'static Target,
    seed: u64,
    patience: Duration,
    next_case: u64,
    seeds: Vec<Vec<u8>>,
    corpus: Vec<Vec<u8>>,
    seen: HashSet<u64>,
}

impl Fuzzer {
    /// Starts with the seeds, which are the first cases.
    pub fn new(target: &'static Target, seed: u64, patience: Duration) -> Self {
        Self {
            target,
            seed,
            patience,
            next_case: 0,
            seeds: target.first_inputs(),
            corpus: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Makes the input of the next case, for [`Self::judge`].
    pub fn next_input(&mut self) -> Vec<u8> {
        let case = self.next_case;
        self.next_case += 1;
        if let Some(seed) = usize::try_from(case).ok().and_then(|case| self.seeds.get(case)) {
            return seed.clone();
        }
        let mut rng = Rng::of_case(self.seed, case);
        let from = if rng.once_in(FROM_SEEDS) { &self.seeds } else { &self.corpus };
        let mut input = rng.pick(from).or(self.seeds.first()).cloned().unwrap_or_default();
        let empty = Vec::new();
        let other = rng.pick(&self.corpus).unwrap_or(&empty);
        mutate(&mut input, other, &mut rng);
        (self.target.repair)(&mut input, &mut rng);
        input.truncate(MAX_INPUT_LEN);
        input
    }

    /// Runs an input, and keeps it if it has a new feature.
    pub fn judge(&mut self, input: &[u8]) -> Result<(), Failure> {
        let features = try_input(self.target, input, self.patience)?;
        self.learn(input, &features);
        Ok(())
    }

    /// The number of cases so far.
    pub fn cases(&self) -> u64 {
        self.next_case
    }

    /// The number of different features so far.
    pub fn features(&self) -> usize {
        self.seen.len()
    }

    /// The number of kept inputs.
    pub fn kept(&self) -> usize {
        self.corpus.len()
    }

    fn learn(&mut self, input: &[u8], features: &Features) {
        let mut is_new = false;
        for feature in features.as_slice() {
            is_new |= self.seen.insert(*feature);
        }
        if !is_new {
            return;
        }
        if self.corpus.len() < MAX_CORPUS {
            self.corpus.push(input.to_vec());
        } else {
            let place = Rng::of_case(self.seed, self.next_case).below(MAX_CORPUS);
            if let Some(kept) = self.corpus.get_mut(place) {
                *kept = input.to_vec();
            }
        }
    }
}

/// Shortens an input while it fails at the same place, for at most `limit`.
pub fn minimise(target: &Target, input: &[u8], failure: &Failure, limit: Duration) -> Vec<u8> {
    let deadline = Instant::now() + limit;
    let fails = |candidate: &[u8]| {
        try_input(target, candidate, SLOW).is_err_and(|other| other.place == failure.place)
    };
    let mut best = input.to_vec();
    let mut size = best.len() / 2;
    while size > 0 {
        let mut start = 0;
        let mut is_shorter = false;
        while start < best.len() && Instant::now() < deadline {
            let mut candidate = best.clone();
            candidate.drain(start..(start + size).min(best.len()));
            if fails(&candidate) {
                best = candidate;
                is_shorter = true;
            } else {
                start += size;
            }
        }
        // Repeat single bytes until none can be removed.
        if size > 1 || !is_shorter {
            size /= 2;
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leave(_: &mut Vec<u8>, _: &mut Rng) {}

    fn panics_at_a_known_id(input: &[u8]) -> Features {
        assert!(!input.windows(5).any(|window| window == b"co_z1"), "planted");
        Features::default()
    }

    static PLANTED: Target = Target {
        name: "planted",
        run: panics_at_a_known_id,
        seeds: || vec![br#"{"id":"co_z"}"#.to_vec()],
        repair: leave,
    };

    #[test]
    fn a_planted_fault_is_found_and_minimised() {
        let mut fuzzer = Fuzzer::new(&PLANTED, 1, Duration::MAX);
        let found = (0..200_000).find_map(|_| {
            let input = fuzzer.next_input();
            fuzzer.judge(&input).err().map(|failure| (input, failure))
        });
        let (input, failure) = found.unwrap();
        let small = minimise(&PLANTED, &input, &failure, Duration::from_secs(5));
        assert_eq!(small, b"co_z1");
    }

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let inputs = |seed| {
            let mut fuzzer = Fuzzer::new(crate::find("json-frame").unwrap(), seed, Duration::MAX);
            let cases = fuzzer.seeds.len() + 300;
            let next = |_| {
                let input = fuzzer.next_input();
                fuzzer.judge(&input).unwrap();
                input
            };
            (0..cases).map(next).collect::<Vec<_>>()
        };
        let first = inputs(5);
        assert_eq!(first, inputs(5));
        assert_ne!(first, inputs(6));
    }

    #[test]
    fn every_target_passes_its_seeds_and_a_few_changes_of_them() {
        for target in crate::TARGETS {
            let mut fuzzer = Fuzzer::new(target, 0, Duration::MAX);
            for _ in 0..fuzzer.seeds.len() + 500 {
                let input = fuzzer.next_input();
                if let Err(failure) = fuzzer.judge(&input) {
                    panic!("{}: {failure:?}\n{}", target.name, String::from_utf8_lossy(&input));
                }
            }
        }
    }
}
