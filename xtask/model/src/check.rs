//! Running a check, and telling what came of it.

use std::fmt::Write as _;

use stateright::{Checker, Model};

use crate::model::{AT_REST_ALL_HAVE_THE_SAME, IT_COMES_TO_REST, NO_RULE_IS_BROKEN, Scope};

/// Threads that a check runs on.
const THREADS: usize = 2;

/// What a check has looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// States that differ from each other.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// Steps to the state that is farthest from the start.
    pub depth: usize,
}

/// Checks everything that can happen in a scope.
///
/// # Errors
///
/// The shortest story that ends with a broken rule, told step by step.
pub fn check(scope: Scope) -> Result<Looked, String> {
    let checker = scope.checker().threads(THREADS).spawn_bfs().join();
    for rule in [NO_RULE_IS_BROKEN, AT_REST_ALL_HAVE_THE_SAME] {
        if let Some(path) = checker.discovery(rule) {
            return Err(tell(rule, &path.into_vec()));
        }
    }
    if checker.discovery(IT_COMES_TO_REST).is_none() {
        return Err(format!("there is no way to the end of {scope:?}"));
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
    let mut story = format!("broken: {rule}\n");
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
