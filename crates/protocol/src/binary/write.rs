//! Encoding frames.

use bincode::Encode;
use bincode::enc::Encoder;
use bincode::enc::write::{SizeWriter, Writer};
use bincode::error::EncodeError;

use crate::binary::{VERSION, session_flag, tag};
use crate::header::Priority;
use crate::id::{CoValueId, SessionId};
use crate::known_state::{KnownState, SessionCounts};
use crate::message::{Content, Message, Ping, SessionContent, UnknownKind};

/// Appends a message to a frame, which is empty or was written by these functions. The JSON of
/// transactions and headers is copied.
pub fn encode_message(message: &Message, frame: &mut Vec<u8>) {
    append(&Body(message), frame);
}

/// Appends a ping to a frame.
pub fn encode_ping(ping: &Ping, frame: &mut Vec<u8>) {
    append(&Body(ping), frame);
}

/// Appends an item, after the version byte if the frame is empty.
fn append(body: &impl Encode, frame: &mut Vec<u8>) {
    let mut size = SizeWriter::default();
    write_into(body, &mut size);
    frame.reserve(size.bytes_written + MAX_PREFIX_LEN);
    if frame.is_empty() {
        frame.push(VERSION);
    }
    write_into(&size.bytes_written, &mut VecWriter(frame));
    write_into(body, &mut VecWriter(frame));
}

/// The length of the version byte and the longest length prefix.
const MAX_PREFIX_LEN: usize = 1 + 9;

/// Encodes into a writer that never fails.
fn write_into(item: &impl Encode, writer: &mut impl Writer) {
    bincode::encode_into_writer(item, writer, bincode::config::standard())
        .expect("neither the items nor the writers fail");
}

/// Appends to a vector.
struct VecWriter<'a>(&'a mut Vec<u8>);

impl Writer for VecWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// An item in its binary encoding.
struct Body<'a, T>(&'a T);

impl Encode for Body<'_, Message> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self.0 {
            Message::Load(state) => {
                tag::LOAD.encode(encoder)?;
                Body(state).encode(encoder)
            }
            Message::Known(known) => {
                tag::KNOWN.encode(encoder)?;
                Body(&known.state).encode(encoder)?;
                known.is_correction.encode(encoder)?;
                known.as_dependency_of.as_ref().map(Body).encode(encoder)
            }
            Message::Content(content) => {
                tag::CONTENT.encode(encoder)?;
                Body(content).encode(encoder)
            }
            Message::Done(id) => {
                tag::DONE.encode(encoder)?;
                Body(id).encode(encoder)
            }
            Message::Reconcile(reconcile) => {
                tag::RECONCILE.encode(encoder)?;
                reconcile.id.encode(encoder)?;
                reconcile.values.len().encode(encoder)?;
                for (id, hash) in &reconcile.values {
                    Body(id).encode(encoder)?;
                    hash.as_bytes().encode(encoder)?;
                }
                Ok(())
            }
            Message::ReconcileAck(id) => {
                tag::RECONCILE_ACK.encode(encoder)?;
                id.encode(encoder)
            }
            Message::Unknown(unknown) => {
                tag::UNKNOWN.encode(encoder)?;
                let kind: u8 = match unknown.kind {
                    UnknownKind::Load => 0,
                    UnknownKind::Known { is_correction: false } => 1,
                    UnknownKind::Known { is_correction: true } => 2,
                    UnknownKind::Content => 3,
                };
                kind.encode(encoder)?;
                unknown.id.as_str().encode(encoder)
            }
        }
    }
}

impl Encode for Body<'_, Ping> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        tag::PING.encode(encoder)?;
        self.0.time.encode(encoder)?;
        self.0.dc.encode(encoder)
    }
}

impl Encode for Body<'_, Content> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Content { id, header, priority, sessions, malformed: _, expect_content_until } = self.0;
        Body(id).encode(encoder)?;
        header.as_ref().map(|header| &**header.json()).encode(encoder)?;
        Body(priority).encode(encoder)?;
        sessions.len().encode(encoder)?;
        for session in sessions {
            Body(session).encode(encoder)?;
        }
        expect_content_until.as_ref().map(Body).encode(encoder)
    }
}

impl Encode for Body<'_, SessionContent> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let SessionContent { session, after, transactions, last_signature } = self.0;
        Body(session).encode(encoder)?;
        after.encode(encoder)?;
        transactions.len().encode(encoder)?;
        for transaction in transactions {
            (**transaction.json()).encode(encoder)?;
        }
        last_signature.digits().encode(encoder)
    }
}

impl Encode for Body<'_, KnownState> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        Body(&self.0.id).encode(encoder)?;
        self.0.header.encode(encoder)?;
        Body(&self.0.sessions).encode(encoder)
    }
}

impl Encode for Body<'_, SessionCounts> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.len().encode(encoder)?;
        for (session, count) in self.0 {
            Body(session).encode(encoder)?;
            count.encode(encoder)?;
        }
        Ok(())
    }
}

impl Encode for Body<'_, Priority> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (*self.0 as u8).encode(encoder)
    }
}

impl Encode for Body<'_, CoValueId> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.digits().encode(encoder)
    }
}

impl Encode for Body<'_, SessionId> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let (delete, random) = (self.0.is_delete(), self.0.random_digits());
        let delete = if delete { session_flag::DELETE } else { 0 };
        let (owner, flags) = match self.0.owner() {
            crate::Owner::Account(id) => (id.digits(), delete),
            crate::Owner::Agent(id) => (id.as_str(), delete | session_flag::AGENT),
        };
        flags.encode(encoder)?;
        owner.encode(encoder)?;
        random.encode(encoder)
    }
}
