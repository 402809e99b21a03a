//! Message sequences for the whole machine: the sync machine and the driver over a storage in
//! memory, with four peers that send anything.
//!
//! The input is a script of bytes (see [`script`]): connections come and go, peers send messages
//! about a few fixed CoValues, with valid and invalid content, and the runtime completes the
//! machine's actions in any order. The rules:
//!
//! - nothing is acknowledged that is not durable;
//! - the machine never returns more credit than it was given, and in the end all of it;
//! - all queues keep their bounds;
//! - once everything is completed and all peers have left, nothing is in progress.

mod script;
mod universe;
mod world;

use crate::features::Features;
use script::Script;
pub(crate) use script::seeds;
use world::World;

/// The maximum number of steps of a script, to keep a case short.
const MAX_STEPS: usize = 400;

pub(crate) fn run(input: &[u8]) -> Features {
    let mut features = Features::default();
    let mut script = Script::new(input);
    let mut world = World::new(script.byte());
    for _ in 0..MAX_STEPS {
        let Some(step) = script.next_step() else { break };
        step.note(&mut features);
        world.take(step, &mut features);
    }
    world.finish(&mut features);
    features
}
