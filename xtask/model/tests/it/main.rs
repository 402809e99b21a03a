//! Checks of small scopes, each with a feature that the others lack. Each test prints the size of
//! its state space.

use std::time::Instant;

use downbeat_model::{Scope, check};

#[track_caller]
fn holds(name: &str, scope: Scope) {
    let started = Instant::now();
    match check(scope) {
        Ok(looked) => println!("{name}: {looked:?} in {:.1?}", started.elapsed()),
        Err(story) => panic!("{name}: {story}"),
    }
}

#[test]
fn both_write() {
    holds("both write, the first twice", Scope { writes: [2, 1], ..Scope::default() });
}

#[test]
fn a_turn_is_heard_of_late() {
    holds("late TurnDone", Scope { late_turns: true, ..Scope::default() });
}

#[test]
fn several_events_come_before_the_machine_is_asked() {
    let scope = Scope { writes: [1, 0], batches: true, losses: 1, ..Scope::default() };
    holds("events in batches", scope);
}

#[test]
fn a_connection_is_lost() {
    holds("a connection is lost", Scope { losses: 1, ..Scope::default() });
}

#[test]
fn the_loss_of_a_connection_is_heard_of_late() {
    let scope = Scope { writes: [1, 0], losses: 1, late_losses: true, ..Scope::default() };
    holds("a late Disconnected", scope);
}

#[test]
fn the_server_restarts() {
    holds("a restart", Scope { restarts: 1, ..Scope::default() });
}

#[test]
fn the_server_restarts_and_a_connection_is_lost() {
    let scope = Scope { writes: [1, 0], restarts: 1, losses: 1, ..Scope::default() };
    holds("a restart and a loss", scope);
}

#[test]
fn content_is_sent_in_pieces() {
    let scope = Scope { writes: [2, 0], room: 1, losses: 1, ..Scope::default() };
    holds("pieces and a loss", scope);
}

#[test]
fn the_machine_forgets() {
    holds("eviction", Scope { forgets: true, ..Scope::default() });
}

#[test]
fn a_client_forges() {
    for forger in [0, 1] {
        let scope = Scope { forger: Some(forger), late_turns: true, ..Scope::default() };
        holds("forged signatures", scope);
    }
}
