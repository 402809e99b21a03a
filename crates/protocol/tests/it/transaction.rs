//! Transactions: valid texts, and the equality of the fast path's results.

use bytes::Bytes;
use downbeat_protocol::{DecodeError, Limits, Message, Privacy, Transaction, binary, json};

fn parse(json: &str) -> Result<Transaction, DecodeError> {
    Transaction::parse(&Bytes::copy_from_slice(json.as_bytes()), &Limits::default())
}

#[test]
fn every_way_to_write_a_character_means_the_same() {
    let letters = [
        ('\u{8}', 'b'),
        ('\t', 't'),
        ('\n', 'n'),
        ('\u{c}', 'f'),
        ('\r', 'r'),
        ('"', '"'),
        ('\\', '\\'),
        ('/', '/'),
    ];
    for code in 0..0x180_u32 {
        let char = char::from_u32(code).unwrap();
        let expected = Transaction::trusting(&format!("[{char}]"), 1, None);
        let mut ways = vec![format!("\\u{code:04x}"), format!("\\u{code:04X}")];
        if code >= 0x20 && char != '"' && char != '\\' {
            ways.push(char.to_string());
        }
        let named = letters.iter().filter(|&&(named, _)| named == char);
        ways.extend(named.map(|(_, letter)| format!("\\{letter}")));
        for way in ways {
            let json = format!(r#"{{"changes":"[{way}]","madeAt":1,"privacy":"trusting"}}"#);
            let transaction = parse(&json).unwrap();
            assert_eq!(transaction.json(), expected.json(), "{json}");
            assert_eq!(transaction.changes_len(), expected.changes_len(), "{json}");
            assert_eq!(transaction.changes().unwrap(), format!("[{char}]"), "{json}");
        }
    }
}

#[test]
fn what_is_no_json_is_no_transaction_even_where_it_looks_canonical() {
    for json in [
        "{\"changes\":\"a\nb\",\"madeAt\":1,\"privacy\":\"trusting\"}",
        "{\"changes\":\"\",\"madeAt\":1,\"meta\":\"\u{1}\",\"privacy\":\"trusting\"}",
        r#"{"changes":"","madeAt":01,"privacy":"trusting"}"#,
        r#"{"changes":"","madeAt":,"privacy":"trusting"}"#,
        r#"{"changes":"","madeAt":1,"privacy":"trusting"}}"#,
        r#"{"changes":"\x","madeAt":1,"privacy":"trusting"}"#,
        r#"{"changes":"\u00","madeAt":1,"privacy":"trusting"}"#,
        r#"{"changes":"","madeAt":1,"privacy":"trusting""#,
    ] {
        assert!(matches!(parse(json), Err(DecodeError::Syntax { .. })), "{json}");
        // The same in a binary frame, which has the JSON unchanged.
        let decoded = binary::decode_frame(&binary_content(json), &Limits::default()).unwrap();
        let [Message::Content(content)] = &decoded.messages[..] else { panic!("{decoded:?}") };
        assert!(content.sessions.is_empty());
        let error = &content.malformed[0].error;
        assert!(matches!(error, DecodeError::Syntax { .. }), "{json}: {error:?}");
    }
}

/// A binary frame of one content message with one transaction.
fn binary_content(transaction: &str) -> Bytes {
    let len = u8::try_from(transaction.len()).unwrap();
    let session =
        [&b"\x00\x011\x011\x00\x01"[..], &[len], transaction.as_bytes(), b"\x011"].concat();
    let body = [&b"\x02\x011\x00\x03\x01"[..], &session, b"\x00"].concat();
    [&[binary::VERSION, u8::try_from(body.len()).unwrap()], &body[..]].concat().into()
}

#[test]
fn control_characters_spoil_the_frame_that_a_transaction_is_in() {
    // A tab, because a newline would end the message.
    let frame = "{\"action\":\"content\",\"id\":\"co_z1\",\"new\":{\"co_z1_session_z1\":{\"after\":0,\"newTransactions\":[{\"changes\":\"\t\",\"madeAt\":1,\"privacy\":\"trusting\"}],\"lastSignature\":\"signature_z1\"}}}";
    let decoded = json::decode_frame(&Bytes::from_static(frame.as_bytes()), &Limits::default());
    assert!(matches!(decoded, Err(DecodeError::Syntax { .. })), "{decoded:?}");
}

#[test]
fn what_makes_it_private_are_its_members_and_not_its_word() {
    let private =
        parse(r#"{"encryptedChanges":"a","keyUsed":"b","madeAt":1,"privacy":"trusting"}"#).unwrap();
    assert_eq!(private.privacy(), Privacy::Private);
    assert!(private.json().ends_with(br#""privacy":"private"}"#));
    let trusting =
        parse(r#"{"changes":"a","keyUsed":"b","madeAt":1,"privacy":"private"}"#).unwrap();
    assert_eq!(trusting.privacy(), Privacy::Trusting);
    assert_eq!(trusting.json(), r#"{"changes":"a","madeAt":1,"privacy":"trusting"}"#);
}

#[test]
fn the_time_is_a_whole_number_up_to_2_to_the_64th() {
    let with = |time: &str| {
        parse(&format!(r#"{{"changes":"","madeAt":{time},"privacy":"trusting"}}"#))
            .map(|transaction| transaction.made_at())
    };
    for (time, expected) in [
        ("0", 0.0),
        ("-0.0", 0.0),
        ("1795333719289", 1_795_333_719_289.0),
        ("1e3", 1000.0),
        ("9007199254740993", 9_007_199_254_740_992.0),
        ("18446744073709550000", 18_446_744_073_709_549_568.0),
    ] {
        let made_at = with(time).unwrap();
        assert!((made_at - expected).abs() < 1.0, "{time}");
    }
    for time in ["-1", "0.5", "18446744073709551616", "1e21", "1e400", "\"1\"", "null", "[]"] {
        assert!(matches!(with(time), Err(DecodeError::Invalid { .. })), "{time}");
    }
    let latest = Transaction::trusting("", u64::MAX, None);
    assert_eq!(parse(str::from_utf8(latest.json()).unwrap()), Ok(latest));
}

#[test]
fn an_error_names_what_is_missing_or_wrong() {
    for (json, message) in [
        ("{}", "`madeAt` is missing"),
        (r#"{"madeAt":1,"changes":""}"#, "`privacy` is missing"),
        (r#"{"madeAt":1,"privacy":""}"#, "`changes` is missing"),
        (r#"{"madeAt":1,"privacy":"","changes":5}"#, "`changes` is not a string"),
        (r#"{"madeAt":1,"privacy":"","changes":"","meta":{}}"#, "`meta` is not a string"),
        ("[]", "`newTransactions[]` is not an object"),
    ] {
        assert_eq!(parse(json).unwrap_err().to_string(), message, "{json}");
    }
}
