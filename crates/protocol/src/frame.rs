//! What one frame of a link holds.

use crate::error::DecodeError;
use crate::message::{Message, Ping};

/// What was decoded from one frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    /// The messages, in order.
    pub messages: Vec<Message>,
    /// What is wrong with parts of the frame that are well-formed but no valid messages. The
    /// reference logs and drops such messages, and so should the receiver; the connection stays.
    pub rejected: Vec<DecodeError>,
    /// The last sign of life in the frame.
    pub ping: Option<Ping>,
    /// Whether there was more than one message, which tells that the other side knows batching.
    pub batched: bool,
}
