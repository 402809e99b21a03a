//! The simulation finds bugs in the machine: with each injected bug, some seed breaks a rule.

use downbeat_simulation::run_with_fault;
use downbeat_sync::InjectedBug;

/// The number of seeds in which each bug must be found. Most bugs show within a few seeds. The
/// rarest needs a slow acknowledgement of an older state, and shows in one of several hundred.
const SEEDS: u64 = 2_000;

#[track_caller]
fn is_found(fault: InjectedBug) {
    let found = (0..SEEDS).find_map(|seed| run_with_fault(seed, fault).broken.map(|by| (seed, by)));
    let (seed, by) = found.expect("a rule is broken");
    println!("{fault:?}: seed {seed}: {by}");
}

#[test]
fn acknowledge_early_is_found() {
    is_found(InjectedBug::AcknowledgeEarly);
}

#[test]
fn keep_credit_is_found() {
    is_found(InjectedBug::KeepCredit);
}

#[test]
fn repeat_known_part_is_found() {
    is_found(InjectedBug::RepeatKnownPart);
}

#[test]
fn take_unverified_is_found() {
    is_found(InjectedBug::TakeUnverified);
}

#[test]
fn forget_held_is_found() {
    is_found(InjectedBug::ForgetHeld);
}

#[test]
fn forget_acknowledgement_is_found() {
    is_found(InjectedBug::ForgetAcknowledgement);
}

#[test]
fn drop_waiting_is_found() {
    is_found(InjectedBug::DropWaiting);
}

#[test]
fn known_replaces_is_found() {
    is_found(InjectedBug::KnownReplaces);
}

#[test]
fn ask_no_upstream_again_is_found() {
    is_found(InjectedBug::AskNoUpstreamAgain);
}

#[test]
fn forget_unsynced_is_found() {
    is_found(InjectedBug::ForgetUnsynced);
}

#[test]
fn dependants_first_is_found() {
    is_found(InjectedBug::DependantsFirst);
}

#[test]
fn owe_nothing_forgotten_is_found() {
    is_found(InjectedBug::OweNothingForgotten);
}

#[test]
fn second_turn_is_found() {
    is_found(InjectedBug::SecondTurn);
}

#[test]
fn ignore_progress_is_found() {
    is_found(InjectedBug::IgnoreProgress);
}

#[test]
fn owe_no_correction_is_found() {
    is_found(InjectedBug::OweNoCorrection);
}

#[test]
fn forget_others_is_found() {
    is_found(InjectedBug::ForgetOthers);
}

#[test]
fn ask_no_late_upstream_is_found() {
    is_found(InjectedBug::AskNoLateUpstream);
}

#[test]
fn answer_loss_plainly_is_found() {
    is_found(InjectedBug::AnswerLossPlainly);
}

#[test]
fn reconcile_early_is_found() {
    is_found(InjectedBug::ReconcileEarly);
}

#[test]
fn correct_refused_is_found() {
    is_found(InjectedBug::CorrectRefused);
}

#[test]
fn await_no_turn_is_found() {
    is_found(InjectedBug::AwaitNoTurn);
}
