//! Rules for the frames of both codecs.

use downbeat_protocol::{Content, DecodeError, Frame, Limits, Message};

use crate::features::Features;

/// Limits that small inputs exceed.
const TIGHT: Limits = Limits {
    message_bytes: 2_000,
    header_bytes: 400,
    messages_per_frame: 3,
    transactions: 3,
    sessions: 1,
    reconcile_values: 1,
    depth: 6,
};

/// Checks that limits only remove messages, and that no message exceeds them. `decode` decodes the
/// input.
pub(crate) fn check_tight(
    decode: impl FnOnce(&Limits) -> Result<Frame, DecodeError>,
    generous: Option<&Frame>,
) {
    let Ok(tight) = decode(&TIGHT) else { return };
    assert!(tight.messages.len() + tight.rejected.len() <= TIGHT.messages_per_frame);
    for message in &tight.messages {
        match message {
            Message::Content(content) => check_within(content),
            Message::Load(state) => assert!(state.sessions.len() <= TIGHT.sessions),
            Message::Known(known) => assert!(known.state.sessions.len() <= TIGHT.sessions),
            Message::Reconcile(reconcile) => {
                assert!(reconcile.values.len() <= TIGHT.reconcile_values);
            }
            Message::Done(_) | Message::ReconcileAck(_) | Message::Unknown(_) => {}
        }
    }
    // A line over a limit is not read to its end, so a syntax error in it may go unnoticed.
    let Some(generous) = generous else { return };
    let mut rest = generous.messages.iter();
    for message in &tight.messages {
        assert!(rest.any(|other| other == message), "more is accepted under tighter limits");
    }
}

fn check_within(content: &Content) {
    assert!(content.sessions.len() + content.malformed.len() <= TIGHT.sessions);
    let transactions = content.sessions.iter().flat_map(|run| &run.transactions);
    assert!(transactions.count() <= TIGHT.transactions);
}

/// Records the contents of a frame.
pub(crate) fn note_frame(features: &mut Features, frame: &Frame) {
    features.amount("messages", frame.messages.len());
    features.note(("ping", frame.ping.is_some()));
    for error in &frame.rejected {
        features.error("rejected", error);
    }
    for message in &frame.messages {
        features.note(message.action());
        match message {
            Message::Content(content) => {
                features.note(("header", content.header.is_some(), content.priority));
                features.amount("sessions", content.sessions.len());
                for run in &content.sessions {
                    features.amount("transactions", run.transactions.len());
                }
                for malformed in &content.malformed {
                    features.error("malformed", &malformed.error);
                }
            }
            Message::Known(known) => features.note((known.is_correction, known.state.header)),
            Message::Reconcile(reconcile) => features.amount("values", reconcile.values.len()),
            Message::Load(state) => features.amount("counts", state.sessions.len()),
            Message::Done(_) | Message::ReconcileAck(_) | Message::Unknown(_) => {}
        }
    }
}
