//! Decoding frames of one or several messages.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::{DecodeError, Limit};
use crate::frame::Frame;
use crate::header::Priority;
use crate::id::{CoValueId, SessionId, UnknownId};
use crate::json::canonical::decode_utf8;
use crate::json::content;
use crate::json::header;
use crate::json::scan::Scanner;
use crate::json::slot::Slot;
use crate::json::string::RawString;
use crate::json::value;
use crate::key::ShortHash;
use crate::known_state::{KnownState, SessionCounts};
use crate::limits::Limits;
use crate::message::{Content, Known, Message, Ping, Reconcile, Unknown, UnknownKind, batch_id};
use crate::sessions::Sessions;

/// The longest action in an error, in characters.
const MAX_QUOTED_ACTION: usize = 40;

/// Decodes a frame of JSON messages joined by newlines.
///
/// The transactions of a session are slices of the frame, unless they are small against it: then
/// they are copied, so that they do not keep the frame in memory. As in the reference:
///
/// - An empty frame has no messages. A frame with a line that is not JSON is an error as a whole.
/// - A line that is JSON but not a valid message, or exceeds a limit, is in [`Frame::rejected`].
///   The other lines are unaffected. Unknown members are ignored; the last of repeated members
///   counts.
/// - A message about a text that is not a CoValue id is [`Message::Unknown`]. An entry of a
///   reconcile message with such a text is skipped, and so is a session of a known state whose id
///   is malformed, because neither can exist.
/// - A malformed session of a content message is in [`Content::malformed`]. The other sessions are
///   unaffected.
pub fn decode_frame(frame: &Bytes, limits: &Limits) -> Result<Frame, DecodeError> {
    let mut decoded = Frame::default();
    let text = decode_utf8(frame)?;
    if text.is_empty() {
        return Ok(decoded);
    }
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain([text.len()]);
    for (index, end) in ends.enumerate() {
        if index >= limits.messages_per_frame {
            return Err(DecodeError::limit(Limit::MessagesPerFrame, limits.messages_per_frame));
        }
        decoded.batched = index > 0;
        match decode_line(frame, text.get(start..end).unwrap_or_default(), limits) {
            Ok(Line::Message(message)) => decoded.messages.push(message),
            Ok(Line::Ping(ping)) => decoded.ping = Some(ping),
            Err(DecodeError::Syntax { reason, offset }) => {
                return Err(DecodeError::Syntax { reason, offset: start + offset });
            }
            Err(error) => decoded.rejected.push(error),
        }
        start = end + 1;
    }
    Ok(decoded)
}

enum Line {
    Message(Message),
    Ping(Ping),
}

fn decode_line(frame: &Bytes, line: &str, limits: &Limits) -> Result<Line, DecodeError> {
    if line.len() > limits.message_bytes {
        return Err(DecodeError::limit(Limit::MessageBytes, limits.message_bytes));
    }
    let mut scanner = Scanner::new(line, limits.depth);
    if scanner.peek() != Some(b'{') {
        scanner.skip()?;
        scanner.end()?;
        return Err(DecodeError::invalid("message", "an object"));
    }
    let mut members = Members::new();
    scanner.object(|scanner, name| members.read(scanner, name, frame, limits))?;
    scanner.end()?;
    members.into_line(limits)
}

/// The members of a message of any kind.
struct Members<'a> {
    action: Slot<Cow<'a, str>>,
    kind: Slot<Cow<'a, str>>,
    id: Slot<Cow<'a, str>>,
    /// A boolean or a header, as JSON.
    header: Slot<&'a str>,
    sessions: Slot<SessionCounts>,
    is_correction: Slot<Option<bool>>,
    as_dependency_of: Slot<Option<Cow<'a, str>>>,
    priority: Slot<Priority>,
    new: Slot<Sessions>,
    expect_content_until: Slot<Option<SessionCounts>>,
    values: Slot<Vec<(CoValueId, ShortHash)>>,
    time: Slot<u64>,
    dc: Slot<Option<Cow<'a, str>>>,
}

impl<'a> Members<'a> {
    const fn new() -> Self {
        Self {
            action: Slot::empty(),
            kind: Slot::empty(),
            id: Slot::empty(),
            header: Slot::empty(),
            sessions: Slot::empty(),
            is_correction: Slot::empty(),
            as_dependency_of: Slot::empty(),
            priority: Slot::empty(),
            new: Slot::empty(),
            expect_content_until: Slot::empty(),
            values: Slot::empty(),
            time: Slot::empty(),
            dc: Slot::empty(),
        }
    }

    fn read(
        &mut self,
        scanner: &mut Scanner<'a>,
        name: RawString<'a>,
        frame: &Bytes,
        limits: &Limits,
    ) -> Result<(), DecodeError> {
        match name.decode().as_deref() {
            Some("action") => self.action.fill(scanner, |s| value::text(s, "action")),
            Some("type") => self.kind.fill(scanner, |s| value::text(s, "type")),
            Some("id") => self.id.fill(scanner, |s| value::text(s, "id")),
            Some("header") => self.header.fill(scanner, Scanner::skipped),
            Some("sessions") => self.sessions.fill(scanner, |s| read_counts(s, "sessions", limits)),
            Some("isCorrection") => self
                .is_correction
                .fill(scanner, |s| value::nullable(s, |s| value::boolean(s, "isCorrection"))),
            Some("asDependencyOf") => self
                .as_dependency_of
                .fill(scanner, |s| value::nullable(s, |s| value::text(s, "asDependencyOf"))),
            Some("priority") => self.priority.fill(scanner, read_priority),
            Some("new") => self.new.fill(scanner, |s| content::read(s, frame, limits)),
            Some("expectContentUntil") => self.expect_content_until.fill(scanner, |s| {
                value::nullable(s, |s| read_counts(s, "expectContentUntil", limits))
            }),
            Some("values") => self.values.fill(scanner, |s| read_values(s, limits)),
            Some("time") => self.time.fill(scanner, |s| value::count(s, "time")),
            Some("dc") => self.dc.fill(scanner, |s| value::nullable(s, |s| value::text(s, "dc"))),
            _ => scanner.skip(),
        }
    }

    fn into_line(self, limits: &Limits) -> Result<Line, DecodeError> {
        let Some(action) = self.action.optional()? else {
            if self.kind.valid().as_deref() == Some("ping") {
                let dc = self.dc.optional()?.flatten().unwrap_or_default().into_owned();
                return Ok(Line::Ping(Ping { time: self.time.required("time")?, dc }));
            }
            return Err(DecodeError::Missing("action"));
        };
        let id = self.id.required("id")?;
        let has_header = match self.header.as_valid() {
            None | Some(&("null" | "false")) => false,
            Some(_) => true,
        };
        let unknown = match &*action {
            "load" => Some(UnknownKind::Load),
            "known" => Some(UnknownKind::Known {
                is_correction: self.is_correction.as_valid() == Some(&Some(true)),
            }),
            "content" if !has_header => Some(UnknownKind::Content),
            _ => None,
        };
        if let Some(kind) = unknown
            && let Some(id) = UnknownId::new(&id)
        {
            return Ok(Line::Message(Message::Unknown(Unknown { id, kind })));
        }
        let message = match &*action {
            "load" => Message::Load(known_state(&id, self.header, self.sessions)?),
            "known" => Message::Known(Known {
                state: known_state(&id, self.header, self.sessions)?,
                is_correction: self.is_correction.optional()?.flatten() == Some(true),
                as_dependency_of: match self.as_dependency_of.optional()?.flatten() {
                    Some(id) => Some(CoValueId::parse(&id)?),
                    None => None,
                },
            }),
            "content" => {
                let sessions = self.new.required("new")?;
                Message::Content(Content {
                    id: CoValueId::parse(&id)?,
                    header: match self.header.optional()? {
                        None | Some("null") => None,
                        Some(header) => Some(header::parse(header, limits)?),
                    },
                    priority: self.priority.optional()?.unwrap_or_default(),
                    sessions: sessions.valid,
                    malformed: sessions.malformed,
                    expect_content_until: self.expect_content_until.optional()?.flatten(),
                })
            }
            "done" => Message::Done(CoValueId::parse(&id)?),
            "reconcile" => Message::Reconcile(Reconcile {
                id: batch_id(&id)?,
                values: self.values.required("values")?,
            }),
            "reconcile-ack" => Message::ReconcileAck(batch_id(&id)?),
            unknown => {
                return Err(DecodeError::UnknownAction(
                    unknown.chars().take(MAX_QUOTED_ACTION).collect(),
                ));
            }
        };
        Ok(Line::Message(message))
    }
}

fn known_state(
    id: &str,
    header: Slot<&str>,
    sessions: Slot<SessionCounts>,
) -> Result<KnownState, DecodeError> {
    let header = match header.required("header")? {
        "true" => true,
        "false" => false,
        _ => return Err(DecodeError::invalid("header", "true or false")),
    };
    Ok(KnownState { id: CoValueId::parse(id)?, header, sessions: sessions.required("sessions")? })
}

/// An object of transaction counts by session.
fn read_counts(
    scanner: &mut Scanner<'_>,
    member: &'static str,
    limits: &Limits,
) -> Result<SessionCounts, DecodeError> {
    value::expect_object(scanner, member)?;
    let mut counts = Vec::new();
    scanner.object(|scanner, name| {
        if counts.len() >= limits.sessions {
            return Err(DecodeError::limit(Limit::Sessions, limits.sessions));
        }
        let count = value::count(scanner, member)?;
        if let Ok(session) = SessionId::parse(&name.decode_lossy()) {
            counts.push((session, count));
        }
        Ok(())
    })?;
    Ok(counts.into_iter().collect())
}

/// The priority. Any number is accepted, because receivers do not use it.
fn read_priority(scanner: &mut Scanner<'_>) -> Result<Priority, DecodeError> {
    if !matches!(scanner.peek(), Some(b'-' | b'0'..=b'9' | b'n')) {
        return Err(DecodeError::invalid("priority", "a number"));
    }
    Ok(match scanner.skipped()? {
        "0" => Priority::High,
        "6" => Priority::Low,
        _ => Priority::Medium,
    })
}

/// The pairs of a reconcile message.
fn read_values(
    scanner: &mut Scanner<'_>,
    limits: &Limits,
) -> Result<Vec<(CoValueId, ShortHash)>, DecodeError> {
    const EXPECTED: DecodeError =
        DecodeError::invalid("values", "an array of pairs of a CoValue id and a short hash");
    value::expect_array(scanner, "values")?;
    let mut values = Vec::new();
    scanner.array(|scanner| {
        if values.len() >= limits.reconcile_values {
            return Err(DecodeError::limit(Limit::ReconcileValues, limits.reconcile_values));
        }
        value::expect_array(scanner, "values[]")?;
        let mut pair = [None, None];
        let mut len = 0;
        scanner.array(|scanner| {
            let text = value::text(scanner, "values[][]")?;
            *pair.get_mut(len).ok_or(EXPECTED)? = Some(text);
            len += 1;
            Ok(())
        })?;
        let [Some(id), Some(hash)] = pair else { return Err(EXPECTED) };
        let hash = ShortHash::parse(&hash)?;
        if let Ok(id) = CoValueId::parse(&id) {
            values.push((id, hash));
        }
        Ok(())
    })?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(frame: &str) -> Result<Frame, DecodeError> {
        decode_frame(&Bytes::copy_from_slice(frame.as_bytes()), &Limits::default())
    }

    #[test]
    fn an_empty_frame_is_no_message() {
        assert_eq!(decode(""), Ok(Frame::default()));
    }

    #[test]
    fn a_line_that_is_not_json_spoils_its_frame() {
        let done = r#"{"action":"done","id":"co_z1"}"#;
        assert_eq!(decode(done).unwrap().messages.len(), 1);
        for bad in ["", "x", "{", r#"{"action":"done","id":"co_z1"}}"#] {
            assert!(matches!(
                decode(&format!("{done}\n{bad}")),
                Err(DecodeError::Syntax { offset, .. }) if offset > done.len()
            ));
        }
    }

    #[test]
    fn transactions_are_slices_of_the_frame() {
        let transaction = r#"{"changes":"[]","madeAt":1,"privacy":"trusting"}"#;
        let frame = Bytes::from(format!(
            r#"{{"action":"content","id":"co_z1","priority":3,"new":{{"co_z1_session_z1":{{"after":0,"newTransactions":[{transaction}],"lastSignature":"signature_z1"}}}}}}"#
        ));
        let decoded = decode_frame(&frame, &Limits::default()).unwrap();
        let Message::Content(content) = &decoded.messages[0] else { panic!("{decoded:?}") };
        let json = content.sessions[0].transactions[0].json();
        assert_eq!(json, transaction);
        assert!(frame.as_ptr_range().contains(&json.as_ptr()));
        let mut out = Vec::new();
        crate::json::encode_message(&decoded.messages[0], &mut out);
        assert_eq!(out, frame);
    }
}
