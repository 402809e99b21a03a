//! The frames of an established connection: a kind, a length, and a payload.

use bytes::Bytes;
use downbeat_transport::CloseReason;

/// The bytes before every frame's payload.
pub(crate) const HEAD_BYTES: usize = 5;
/// The longest text of a close frame; the text is for people.
const MAX_CLOSE_TEXT_BYTES: usize = 512;
/// A close frame's payload: its code and text.
pub(crate) const MAX_CLOSE_BYTES: usize = 2 + MAX_CLOSE_TEXT_BYTES;

/// The kind of a frame: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keepalive, without a payload.
    KeepAlive,
    /// Messages in the protocol's binary codec.
    Messages,
    /// The last frame of a side: a close code and a text.
    Close,
}

/// An error in a frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    #[error("a keepalive with a payload")]
    KeepAlive,
    #[error("a close frame of {0} bytes")]
    Close(u32),
    #[error("a frame that is too large")]
    TooLarge,
}

/// Writes a frame's head. The limit on payloads is far below the largest length.
pub(crate) fn head(kind: Kind, length: usize) -> [u8; HEAD_BYTES] {
    let kind = match kind {
        Kind::KeepAlive => 0,
        Kind::Messages => 1,
        Kind::Close => 2,
    };
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind, a, b, c, d]
}

/// Reads a frame's head: its kind and the length of its payload.
pub(crate) fn parse_head(
    [kind, a, b, c, d]: [u8; HEAD_BYTES],
    max_frame_bytes: usize,
) -> Result<(Kind, usize), BadHead> {
    let length = u32::from_be_bytes([a, b, c, d]);
    let size = usize::try_from(length).map_err(|_| BadHead::TooLarge)?;
    match kind {
        0 if size == 0 => Ok((Kind::KeepAlive, 0)),
        0 => Err(BadHead::KeepAlive),
        1 if size <= max_frame_bytes => Ok((Kind::Messages, size)),
        1 => Err(BadHead::TooLarge),
        2 if (2..=MAX_CLOSE_BYTES).contains(&size) => Ok((Kind::Close, size)),
        2 => Err(BadHead::Close(length)),
        kind => Err(BadHead::Kind(kind)),
    }
}

/// A close frame with its head.
pub(crate) fn close(reason: &CloseReason) -> Bytes {
    let text = reason.text_within(MAX_CLOSE_TEXT_BYTES);
    let mut bytes = Vec::with_capacity(HEAD_BYTES + 2 + text.len());
    bytes.extend(head(Kind::Close, 2 + text.len()));
    bytes.extend(reason.code.number().to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.into()
}

/// Reads the code and text of a close frame; `None` if the payload is malformed.
pub(crate) fn parse_close(payload: &[u8]) -> Option<(u16, &str)> {
    let (code, text) = payload.split_first_chunk()?;
    Some((u16::from_be_bytes(*code), std::str::from_utf8(text).ok()?))
}

#[cfg(test)]
mod tests {
    use downbeat_transport::CloseCode;

    use super::*;

    const MAX: usize = 1_000;

    #[test]
    fn heads_are_read_as_written() {
        for (kind, length) in
            [(Kind::KeepAlive, 0), (Kind::Messages, 0), (Kind::Messages, MAX), (Kind::Close, 2)]
        {
            assert_eq!(parse_head(head(kind, length), MAX), Ok((kind, length)));
        }
        assert_eq!(head(Kind::Messages, 0x0102_0304), [1, 1, 2, 3, 4]);
    }

    #[test]
    fn heads_that_announce_bad_frames_are_refused() {
        for (bytes, error) in [
            ([0, 0, 0, 0, 1], BadHead::KeepAlive),
            ([1, 0, 0, 3, 233], BadHead::TooLarge),
            ([1, 255, 255, 255, 255], BadHead::TooLarge),
            ([2, 0, 0, 0, 1], BadHead::Close(1)),
            ([2, 0, 0, 2, 3], BadHead::Close(515)),
            ([3, 0, 0, 0, 0], BadHead::Kind(3)),
        ] {
            assert_eq!(parse_head(bytes, MAX), Err(error));
        }
    }

    #[test]
    fn a_close_text_is_truncated_between_characters() {
        let reason = CloseReason::new(CloseCode::GoingAway, "€".repeat(1_000));
        let bytes = close(&reason);
        assert_eq!(parse_close(&bytes[HEAD_BYTES..]), Some((1001, "€".repeat(170).as_str())));
        assert_eq!(parse_close(&[1]), None);
        assert_eq!(parse_close(&[1, 2, 0xFF]), None);
    }
}
