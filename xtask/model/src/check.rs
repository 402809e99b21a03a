//! Running a check, and describing its result.

use std::fmt::Write as _;

use stateright::{Checker, Model};

use crate::model::{AT_REST_ALL_HAVE_THE_SAME, IT_COMES_TO_REST, NO_RULE_IS_BROKEN, Scope};

/// The number of threads of a check.
const THREADS: usize = 2;

/// The size of the state space that a check has explored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// The number of different states.
    pub states: usize,
    /// The number of steps between them.
    pub steps: usize,
    /// The number of steps to the state that is farthest from the start.
    pub depth: usize,
}

/// Checks every order of steps in a scope.
///
/// # Errors
///
/// The shortest sequence of steps that breaks a rule, one step in each line.
pub fn check(scope: Scope) -> Result<Looked, String> {
    let checker = scope.checker().threads(THREADS).spawn_bfs().join();
    for rule in [NO_RULE_IS_BROKEN, AT_REST_ALL_HAVE_THE_SAME] {
        if let Some(path) = checker.discovery(rule) {
            return Err(tell(rule, &path.into_vec()));
        }
    }
    if checker.discovery(IT_COMES_TO_REST).is_none() {
        return Err(format!("no sequence of steps reaches the end of {scope:?}"));
    }
    Ok(Looked {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
    })
}

fn tell(
    rule: &str,
    path: &[(<Scope as Model>::State, Option<<Scope as Model>::Action>)],
) -> String {
    let mut story = format!("violated: {rule}\n");
    for (number, (moment, step)) in path.iter().enumerate() {
        if let Some(step) = step {
            // Writing to a string does not fail.
            let _ = writeln!(story, "{:>4}. {}", number + 1, moment.describe(step));
        }
    }
    if let Some((last, _)) = path.last() {
        if let Some(violation) = last.violation() {
            let _ = writeln!(story, "      {violation}");
        }
        story.push_str(&last.summary());
    }
    story
}
