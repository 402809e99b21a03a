//! The contents of a decoded frame.

use crate::error::{DecodeError, Limit};
use crate::message::{Message, Ping};

/// The result of decoding one frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    /// The messages, in order.
    pub messages: Vec<Message>,
    /// The errors of parts that are well-formed but not valid messages. The receiver should log and
    /// drop such messages and keep the connection, as the reference does.
    pub rejected: Vec<DecodeError>,
    /// The last ping in the frame.
    pub ping: Option<Ping>,
    /// Whether the frame had more than one message, so that the peer is known to batch messages.
    pub batched: bool,
}

impl Frame {
    /// The message of a frame that must hold exactly one; a ping is not a message.
    pub(crate) fn into_message(mut self) -> Result<Message, DecodeError> {
        match (self.rejected.pop(), self.messages.pop()) {
            (Some(error), _) => Err(error),
            (None, Some(message)) if self.messages.is_empty() => Ok(message),
            (None, Some(_)) => Err(DecodeError::limit(Limit::MessagesPerFrame, 1)),
            (None, None) => Err(DecodeError::Missing("action")),
        }
    }
}
