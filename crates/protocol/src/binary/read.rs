//! Decoding frames.

use bincode::BorrowDecode;
use bytes::Bytes;

use crate::binary::{VERSION, session_flag, tag};
use crate::error::{DecodeError, Limit};
use crate::frame::Frame;
use crate::header::{Header, Priority};
use crate::id::{CoValueId, SessionId, UnknownId};
use crate::json;
use crate::json::number::MAX_SAFE_INTEGER;
use crate::key::{ShortHash, Signature};
use crate::known_state::{KnownState, SessionCounts};
use crate::limits::Limits;
use crate::message::{
    Content, Known, Message, Ping, Reconcile, SessionContent, Unknown, UnknownKind, batch_id,
};
use crate::sessions::{Sessions, last_of_each};
use crate::transaction::Transaction;

/// Decodes a frame.
///
/// The transactions of a session are slices of the frame, unless they are small against it: then
/// they are copied, so that they do not keep the frame in memory. A truncated frame, or a frame of
/// another version, is an error as a whole. A message that is invalid or exceeds a limit is in
/// [`Frame::rejected`]. A session of a content message with an invalid id, signature or transaction
/// is in [`Content::malformed`]. An empty frame has no messages.
pub fn decode_frame(frame: &Bytes, limits: &Limits) -> Result<Frame, DecodeError> {
    let mut decoded = Frame::default();
    let rest = match frame.split_first() {
        Some((&VERSION, rest)) => rest,
        Some((version, _)) => {
            return Err(DecodeError::Binary(format!("version {version} is not supported")));
        }
        None => return Ok(decoded),
    };
    let mut reader = Reader { frame, rest, limits };
    let mut count = 0;
    while !reader.rest.is_empty() {
        count += 1;
        if count > limits.messages_per_frame {
            return Err(DecodeError::limit(Limit::MessagesPerFrame, limits.messages_per_frame));
        }
        let body = reader.item()?;
        match read_message(&mut Reader { frame, rest: body, limits }) {
            Ok(Item::Message(message)) => decoded.messages.push(message),
            Ok(Item::Ping(ping)) => decoded.ping = Some(ping),
            Err(error) => decoded.rejected.push(error),
        }
    }
    decoded.batched = count > 1;
    Ok(decoded)
}

enum Item {
    Message(Message),
    Ping(Ping),
}

fn read_message(reader: &mut Reader<'_>) -> Result<Item, DecodeError> {
    if reader.rest.len() > reader.limits.message_bytes {
        return Err(DecodeError::limit(Limit::MessageBytes, reader.limits.message_bytes));
    }
    let message = match reader.item()? {
        tag::LOAD => Message::Load(reader.known_state()?),
        tag::KNOWN => Message::Known(Known {
            state: reader.known_state()?,
            is_correction: reader.item()?,
            as_dependency_of: reader.option(Reader::co_value_id)?,
        }),
        tag::CONTENT => Message::Content(reader.content()?),
        tag::DONE => Message::Done(reader.co_value_id()?),
        tag::RECONCILE => Message::Reconcile(reader.reconcile()?),
        tag::RECONCILE_ACK => Message::ReconcileAck(batch_id(reader.text()?)?),
        tag::UNKNOWN => Message::Unknown(reader.unknown()?),
        tag::PING => {
            let ping = Ping { time: reader.count("time")?, dc: reader.text()?.to_owned() };
            reader.end()?;
            return Ok(Item::Ping(ping));
        }
        tag => return Err(DecodeError::Binary(format!("there is no message kind {tag}"))),
    };
    reader.end()?;
    Ok(Item::Message(message))
}

/// Reads the items of a part of a frame, one after the other.
struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
    limits: &'a Limits,
}

impl<'a> Reader<'a> {
    /// Checks that no bytes are left.
    fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Binary(format!("{} bytes are left over", self.rest.len())))
        }
    }

    fn known_state(&mut self) -> Result<KnownState, DecodeError> {
        Ok(KnownState { id: self.co_value_id()?, header: self.item()?, sessions: self.counts()? })
    }

    fn header(&mut self) -> Result<Header, DecodeError> {
        let json = self.bytes()?;
        let header = Header::parse(&json, self.limits)?;
        if header.json() != &json {
            return Err(DecodeError::Binary("a header is not canonical".to_owned()));
        }
        Ok(header)
    }

    /// Reads a session, and returns its id with the result. After the outer error, which concerns
    /// the encoding, reading cannot continue. The inner error concerns only this session.
    fn session(&mut self) -> Result<(String, Result<SessionContent, DecodeError>), DecodeError> {
        let id = self.session_text()?;
        let after = self.count("after")?;
        let count = self.len(Limit::Transactions, self.limits.transactions)?;
        let mut transactions = Vec::new();
        let mut error = None;
        for _ in 0..count {
            match json::transaction::parse_canonical(&self.bytes()?, self.limits) {
                Ok(transaction) => transactions.push(transaction),
                Err(wrong) => error = error.or(Some(wrong)),
            }
        }
        Transaction::detach(&mut transactions, self.frame.len());
        let signature = Signature::from_digits(self.text()?);
        let content = || {
            let session = SessionId::parse(&id)?;
            match error {
                Some(error) => Err(error),
                None => {
                    Ok(SessionContent { session, after, transactions, last_signature: signature? })
                }
            }
        };
        let content = content();
        Ok((id, content))
    }

    fn content(&mut self) -> Result<Content, DecodeError> {
        let id = self.co_value_id()?;
        let header = self.option(Self::header)?;
        let priority = match self.item::<u8>()? {
            0 => Priority::High,
            3 => Priority::Medium,
            6 => Priority::Low,
            _ => return Err(DecodeError::invalid("priority", "0, 3 or 6")),
        };
        let count = self.len(Limit::Sessions, self.limits.sessions)?;
        let mut sessions = Vec::new();
        let mut transactions = 0;
        for _ in 0..count {
            let (id, session) = self.session()?;
            transactions += session.as_ref().map_or(0, |session| session.transactions.len());
            if transactions > self.limits.transactions {
                return Err(DecodeError::limit(Limit::Transactions, self.limits.transactions));
            }
            sessions.push((id.into(), session));
        }
        let Sessions { valid, malformed } = last_of_each(sessions);
        let expect_content_until = self.option(Self::counts)?;
        Ok(Content { id, header, priority, sessions: valid, malformed, expect_content_until })
    }

    fn unknown(&mut self) -> Result<Unknown, DecodeError> {
        let kind = match self.item::<u8>()? {
            0 => UnknownKind::Load,
            1 => UnknownKind::Known { is_correction: false },
            2 => UnknownKind::Known { is_correction: true },
            3 => UnknownKind::Content,
            kind => return Err(DecodeError::Binary(format!("an unknown id has the kind {kind}"))),
        };
        let id = UnknownId::new(self.text()?).ok_or(DecodeError::invalid(
            "id",
            "a text that is not a CoValue id and not too long",
        ))?;
        Ok(Unknown { id, kind })
    }

    fn reconcile(&mut self) -> Result<Reconcile, DecodeError> {
        let id = batch_id(self.text()?)?;
        let count = self.len(Limit::ReconcileValues, self.limits.reconcile_values)?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push((self.co_value_id()?, ShortHash::from_bytes(self.item()?)));
        }
        Ok(Reconcile { id, values })
    }

    fn counts(&mut self) -> Result<SessionCounts, DecodeError> {
        let count = self.len(Limit::Sessions, self.limits.sessions)?;
        let mut counts = Vec::new();
        for _ in 0..count {
            counts.push((SessionId::parse(&self.session_text()?)?, self.count("sessions")?));
        }
        Ok(counts.into_iter().collect())
    }

    /// A count. It must be valid in JSON, because the server may forward it to a JSON peer.
    fn count(&mut self, member: &'static str) -> Result<u64, DecodeError> {
        match self.item()? {
            count if count <= MAX_SAFE_INTEGER => Ok(count),
            _ => Err(DecodeError::invalid(member, "a whole number from 0 to 2^53 - 1")),
        }
    }

    fn co_value_id(&mut self) -> Result<CoValueId, DecodeError> {
        Ok(CoValueId::from_digits(self.text()?)?)
    }

    /// The text of a session id, unchecked.
    fn session_text(&mut self) -> Result<String, DecodeError> {
        let flags: u8 = self.item()?;
        let (owner, random) = (self.text()?, self.text()?);
        if flags > session_flag::DELETE | session_flag::AGENT {
            return Err(DecodeError::Binary(format!("a session id has the flags {flags}")));
        }
        let prefix = if flags & session_flag::AGENT == 0 { CoValueId::PREFIX } else { "" };
        let (kind, end) = if flags & session_flag::DELETE == 0 { ("z", "") } else { ("d", "$") };
        Ok([prefix, owner, SessionId::SEPARATOR, kind, random, end].concat())
    }

    /// The length of a list, within a limit.
    fn len(&mut self, limit: Limit, max: usize) -> Result<usize, DecodeError> {
        let len: u64 = self.item()?;
        usize::try_from(len).ok().filter(|&len| len <= max).ok_or(DecodeError::limit(limit, max))
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.item()? { read(self).map(Some) } else { Ok(None) }
    }

    /// A byte string, as a slice of the frame.
    fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let bytes: &[u8] = self.item()?;
        Ok(self.frame.slice_ref(bytes))
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        self.item()
    }

    /// An item that bincode decodes. Borrowed items are not allocated, whatever their length.
    fn item<T: BorrowDecode<'a, ()>>(&mut self) -> Result<T, DecodeError> {
        let (item, len) = bincode::borrow_decode_from_slice(self.rest, bincode::config::standard())
            .map_err(|error| DecodeError::Binary(error.to_string()))?;
        self.rest = self.rest.get(len..).unwrap_or_default();
        Ok(item)
    }
}
