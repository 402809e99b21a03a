//! Encoding messages.

use std::io::Write;

use crate::header::Priority;
use crate::json::string::quote;
use crate::known_state::{KnownState, SessionCounts};
use crate::message::{Content, Message, Ping, Unknown, UnknownKind};

/// Appends a message in the reference's JSON. The JSON of transactions and headers is copied. In a
/// frame of several messages, the caller writes the `\n` between them.
pub fn encode_message(message: &Message, out: &mut Vec<u8>) {
    match message {
        Message::Load(state) => {
            out.extend_from_slice(b"{\"action\":\"load\",");
            write_known_state(state, out);
        }
        Message::Known(known) => {
            out.extend_from_slice(b"{\"action\":\"known\",");
            if known.is_correction {
                out.extend_from_slice(b"\"isCorrection\":true,");
            }
            if let Some(id) = known.as_dependency_of {
                out.extend_from_slice(b"\"asDependencyOf\":");
                write_id(id.as_str(), out);
                out.push(b',');
            }
            write_known_state(&known.state, out);
        }
        Message::Content(content) => write_content(content, out),
        Message::Done(id) => {
            out.extend_from_slice(b"{\"action\":\"done\",\"id\":");
            write_id(id.as_str(), out);
        }
        Message::Reconcile(reconcile) => {
            out.extend_from_slice(b"{\"action\":\"reconcile\",\"id\":");
            write_text(&reconcile.id, out);
            out.extend_from_slice(b",\"values\":[");
            for (index, (id, hash)) in reconcile.values.iter().enumerate() {
                separate(index, out);
                out.push(b'[');
                write_id(id.as_str(), out);
                out.push(b',');
                write_id(&hash.to_string(), out);
                out.push(b']');
            }
            out.push(b']');
        }
        Message::ReconcileAck(id) => {
            out.extend_from_slice(b"{\"action\":\"reconcile-ack\",\"id\":");
            write_text(id, out);
        }
        Message::Unknown(unknown) => write_unknown(unknown, out),
    }
    out.push(b'}');
}

fn write_unknown(unknown: &Unknown, out: &mut Vec<u8>) {
    let (action, rest) = match unknown.kind {
        UnknownKind::Load => ("\"load\"", ",\"header\":false,\"sessions\":{}"),
        UnknownKind::Known { is_correction: false } => {
            ("\"known\"", ",\"header\":false,\"sessions\":{}")
        }
        UnknownKind::Known { is_correction: true } => {
            ("\"known\",\"isCorrection\":true", ",\"header\":false,\"sessions\":{}")
        }
        UnknownKind::Content => ("\"content\"", ",\"priority\":3,\"new\":{}"),
    };
    for part in ["{\"action\":", action, ",\"id\":"] {
        out.extend_from_slice(part.as_bytes());
    }
    write_text(unknown.id.as_str(), out);
    out.extend_from_slice(rest.as_bytes());
}

/// Appends a ping.
pub fn encode_ping(ping: &Ping, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"ping\",\"time\":");
    write_count(ping.time, out);
    out.extend_from_slice(b",\"dc\":");
    write_text(&ping.dc, out);
    out.push(b'}');
}

fn write_content(content: &Content, out: &mut Vec<u8>) {
    out.reserve(content_len(content));
    out.extend_from_slice(b"{\"action\":\"content\",\"id\":");
    write_id(content.id.as_str(), out);
    if let Some(header) = &content.header {
        out.extend_from_slice(b",\"header\":");
        out.extend_from_slice(header.json());
    }
    out.extend_from_slice(b",\"priority\":");
    out.push(match content.priority {
        Priority::High => b'0',
        Priority::Medium => b'3',
        Priority::Low => b'6',
    });
    out.extend_from_slice(b",\"new\":{");
    for (index, session) in content.sessions.iter().enumerate() {
        separate(index, out);
        write_id(session.session.as_str(), out);
        out.extend_from_slice(b":{\"after\":");
        write_count(session.after, out);
        out.extend_from_slice(b",\"newTransactions\":[");
        for (index, transaction) in session.transactions.iter().enumerate() {
            separate(index, out);
            out.extend_from_slice(transaction.json());
        }
        out.extend_from_slice(b"],\"lastSignature\":");
        write_id(session.last_signature.as_str(), out);
        out.push(b'}');
    }
    out.push(b'}');
    if let Some(counts) = &content.expect_content_until {
        out.extend_from_slice(b",\"expectContentUntil\":");
        write_counts(counts, out);
    }
}

/// The approximate length of a content message, so that the buffer grows only once.
fn content_len(content: &Content) -> usize {
    /// The overhead of a message, of a session and of a transaction.
    const OVERHEAD: [usize; 3] = [120, 400, 1];
    let counts = content.expect_content_until.as_ref().map_or(0, SessionCounts::len);
    let transactions: usize = content
        .sessions
        .iter()
        .flat_map(|session| &session.transactions)
        .map(|transaction| transaction.json().len() + OVERHEAD[2])
        .sum();
    let header = content.header.as_ref().map_or(0, |header| header.json().len());
    OVERHEAD[0] + header + OVERHEAD[1] * (content.sessions.len() + counts) + transactions
}

fn write_known_state(state: &KnownState, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"id\":");
    write_id(state.id.as_str(), out);
    out.extend_from_slice(b",\"header\":");
    out.extend_from_slice(if state.header { b"true" } else { b"false" });
    out.extend_from_slice(b",\"sessions\":");
    write_counts(&state.sessions, out);
}

fn write_counts(counts: &SessionCounts, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (session, count)) in counts.iter().enumerate() {
        separate(index, out);
        write_id(session.as_str(), out);
        out.push(b':');
        write_count(*count, out);
    }
    out.push(b'}');
}

fn separate(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

/// Writes an identifier, which never needs escapes.
fn write_id(id: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(id.as_bytes());
    out.push(b'"');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let mut json = String::with_capacity(text.len() + 2);
    quote(text, &mut json);
    out.extend_from_slice(json.as_bytes());
}

fn write_count(count: u64, out: &mut Vec<u8>) {
    write!(out, "{count}").expect("writing to a vector does not fail");
}
