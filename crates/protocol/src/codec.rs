//! The trait of both codecs.

use bytes::Bytes;

use crate::error::DecodeError;
use crate::frame::Frame;
use crate::limits::Limits;
use crate::message::{Message, Ping};
use crate::{binary, json};

/// Decodes frames into messages, and encodes messages into frames.
///
/// A frame starts as an empty buffer. Each call appends one message, with the separator if needed.
/// Encoding cannot fail.
///
/// # Examples
///
/// ```
/// use downbeat_protocol::{BinaryCodec, Codec, CoValueId, JsonCodec, Message};
///
/// let done = Message::Done(CoValueId::parse("co_zAskbsN81tFNWPei3cnpQCwVNcA")?);
/// for codec in [&JsonCodec::default() as &dyn Codec, &BinaryCodec::default()] {
///     let mut frame = Vec::new();
///     codec.encode(&done, &mut frame);
///     codec.encode(&done, &mut frame);
///     assert_eq!(codec.decode(&frame.into())?.messages, [done.clone(), done.clone()]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Codec {
    /// Decodes a frame. It fails if the whole frame is invalid. Errors of single messages or
    /// sessions are in the result.
    fn decode(&self, frame: &Bytes) -> Result<Frame, DecodeError>;

    /// Appends a message to a frame.
    fn encode(&self, message: &Message, frame: &mut Vec<u8>);

    /// Appends a ping to a frame.
    fn encode_ping(&self, ping: &Ping, frame: &mut Vec<u8>);
}

/// The codec of Jazz clients: JSON, with newlines between messages. See [`json`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JsonCodec {
    /// The limits for decoding.
    pub limits: Limits,
}

impl Codec for JsonCodec {
    fn decode(&self, frame: &Bytes) -> Result<Frame, DecodeError> {
        json::decode_frame(frame, &self.limits)
    }

    fn encode(&self, message: &Message, frame: &mut Vec<u8>) {
        start_line(frame);
        json::encode_message(message, frame);
    }

    fn encode_ping(&self, ping: &Ping, frame: &mut Vec<u8>) {
        start_line(frame);
        json::encode_ping(ping, frame);
    }
}

/// The codec between Downbeat nodes: bincode. See [`binary`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BinaryCodec {
    /// The limits for decoding.
    pub limits: Limits,
}

impl Codec for BinaryCodec {
    fn decode(&self, frame: &Bytes) -> Result<Frame, DecodeError> {
        binary::decode_frame(frame, &self.limits)
    }

    fn encode(&self, message: &Message, frame: &mut Vec<u8>) {
        binary::encode_message(message, frame);
    }

    fn encode_ping(&self, ping: &Ping, frame: &mut Vec<u8>) {
        binary::encode_ping(ping, frame);
    }
}

fn start_line(frame: &mut Vec<u8>) {
    if !frame.is_empty() {
        frame.push(b'\n');
    }
}
