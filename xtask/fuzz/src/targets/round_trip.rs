//! Round trips: both codecs encode a decoded message, and decode it to the same message.

use bytes::Bytes;
use downbeat_protocol::{BinaryCodec, Codec, JsonCodec, Message};

/// Checks one decoded message.
pub(crate) fn check(message: &Message) {
    let mut message = message.clone();
    if let Message::Content(content) = &mut message {
        content.malformed.clear();
    }
    check_codec(&message, &JsonCodec::default(), "JSON");
    check_codec(&message, &BinaryCodec::default(), "binary");
}

fn check_codec(message: &Message, codec: &dyn Codec, name: &str) {
    let encoded = encode([message], codec);
    let decoded = codec.decode(&encoded).expect("our own frame is valid");
    assert_eq!(decoded.rejected, [], "{name}: our own message is rejected");
    assert_eq!(decoded.messages.len(), 1);
    for decoded in &decoded.messages {
        if let Message::Content(content) = decoded {
            assert_eq!(content.malformed, [], "{name}: our own session is malformed");
        }
        assert_eq!(decoded, message, "{name}: the message changes in a round trip");
    }
    let again = encode(&decoded.messages, codec);
    assert_eq!(again, encoded, "{name}: the encoding changes in a round trip");
}

fn encode<'a>(messages: impl IntoIterator<Item = &'a Message>, codec: &dyn Codec) -> Bytes {
    let mut frame = Vec::new();
    messages.into_iter().for_each(|message| codec.encode(message, &mut frame));
    frame.into()
}
