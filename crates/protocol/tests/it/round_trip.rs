//! Round trips: decoding returns the encoded value.

use downbeat_protocol::{
    BinaryCodec, Codec, Header, JsonCodec, Limits, Message, Transaction, json,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary;

fn check(codec: &dyn Codec, messages: &[Message]) -> Result<(), TestCaseError> {
    let mut frame = Vec::new();
    for message in messages {
        codec.encode(message, &mut frame);
    }
    let decoded = codec.decode(&frame.into()).unwrap();
    prop_assert_eq!(&decoded.rejected, &[]);
    prop_assert_eq!(&decoded.messages, messages);
    prop_assert_eq!(decoded.batched, messages.len() > 1);
    Ok(())
}

proptest! {
    #[test]
    fn messages_pass_through_json(messages in vec(arbitrary::message(), 0..4)) {
        check(&JsonCodec::default(), &messages)?;
    }

    #[test]
    fn messages_pass_through_binary(messages in vec(arbitrary::message(), 0..4)) {
        check(&BinaryCodec::default(), &messages)?;
    }

    #[test]
    fn pings_pass_through_both(ping in arbitrary::ping(), message in arbitrary::message()) {
        for codec in [&JsonCodec::default() as &dyn Codec, &BinaryCodec::default()] {
            let mut frame = Vec::new();
            codec.encode_ping(&ping, &mut frame);
            codec.encode(&message, &mut frame);
            let decoded = codec.decode(&frame.into()).unwrap();
            prop_assert_eq!(decoded.ping.as_ref(), Some(&ping));
            prop_assert_eq!(&decoded.messages, std::slice::from_ref(&message));
        }
    }

    #[test]
    fn what_a_transaction_is_made_of_can_be_read_from_it(
        changes in arbitrary::text(),
        key in arbitrary::text(),
        made_at in arbitrary::count(),
        meta in proptest::option::of(arbitrary::text()),
    ) {
        let private = Transaction::private(&changes, &key, made_at, meta.as_deref());
        prop_assert_eq!(private.encrypted_changes(), Some((&*changes).into()));
        prop_assert_eq!(private.changes(), None);
        prop_assert_eq!(private.key_used(), Some((&*key).into()));
        prop_assert_eq!(private.meta(), meta.as_deref().map(Into::into));

        let trusting = Transaction::trusting(&changes, made_at, meta.as_deref());
        prop_assert_eq!(trusting.changes(), Some((&*changes).into()));
        prop_assert_eq!(trusting.encrypted_changes(), None);
        prop_assert_eq!(trusting.key_used(), None);
        prop_assert_eq!(trusting.meta(), meta.as_deref().map(Into::into));
        prop_assert_eq!(trusting.made_at().to_string(), made_at.to_string());

        for transaction in [private, trusting] {
            prop_assert_eq!(transaction.changes_len() as usize, changes.len());
            let utf16_len = changes.encode_utf16().count();
            prop_assert_eq!(transaction.changes_utf16_len() as usize, utf16_len);
            let parsed = Transaction::parse(transaction.json(), &Limits::default()).unwrap();
            prop_assert_eq!(parsed.json(), transaction.json());
            prop_assert_eq!(parsed.changes_len() as usize, changes.len());
            prop_assert_eq!(parsed.changes_utf16_len() as usize, utf16_len);
            prop_assert_eq!(parsed.privacy(), transaction.privacy());
            prop_assert_eq!(parsed.made_at().to_bits(), transaction.made_at().to_bits());
        }
    }

    #[test]
    fn a_transaction_in_any_disguise_becomes_canonical(transaction in arbitrary::transaction()) {
        let members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(transaction.json()).unwrap();
        // Canonical members are sorted by name and have no white space between them.
        let members: Vec<_> =
            members.iter().rev().map(|(name, value)| format!(" \"{name}\"\n:\t{value}\r")).collect();
        let disguised = format!("{{{},\"more\":[]}}", members.join(","));
        let parsed = Transaction::parse(&disguised.into(), &Limits::default()).unwrap();
        prop_assert_eq!(parsed.json(), transaction.json());
    }

    #[test]
    fn headers_are_canonical_once_parsed(header in arbitrary::header()) {
        let again = Header::parse(header.json(), &Limits::default()).unwrap();
        prop_assert_eq!(&again, &header);
        prop_assert_eq!(again.hashed_json(), header.hashed_json());
        prop_assert_eq!(again.co_type(), header.co_type());
        prop_assert_eq!(again.ruleset(), header.ruleset());
        // Strings without escapes may not be JSON there, but headers always are JSON.
        prop_assert!(json::canonicalize(header.json(), &Limits::default()).is_ok());
    }
}
