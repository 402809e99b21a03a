//! Known states and their difference, session logs, pieces, dependencies and group roles of Jazz CoValues.

mod changes;
pub mod dependencies;
pub mod known_state;
