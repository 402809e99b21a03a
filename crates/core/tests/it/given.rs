//! Values that several tests use.

use downbeat_protocol::{
    CoValueId, Content, Header, Limits, Priority, SessionContent, SessionId, Signature, Transaction,
};

/// Parses a CoValue id.
pub(crate) fn id(text: &str) -> CoValueId {
    CoValueId::parse(text).unwrap()
}

/// Parses a session id.
pub(crate) fn session(text: &str) -> SessionId {
    SessionId::parse(text).unwrap()
}

/// Parses a header.
pub(crate) fn header(json: &str) -> Header {
    Header::parse(&json.to_owned().into(), &Limits::default()).unwrap()
}

/// Content with these runs of transactions, unsigned.
pub(crate) fn content(
    id: CoValueId,
    header: Option<Header>,
    sessions: impl IntoIterator<Item = (SessionId, Vec<Transaction>)>,
) -> Content {
    Content {
        id,
        header,
        priority: Priority::Medium,
        sessions: sessions
            .into_iter()
            .map(|(session, transactions)| SessionContent {
                session,
                after: 0,
                transactions,
                last_signature: Signature::from_bytes(&[0; 64]),
            })
            .collect(),
        malformed: Vec::new(),
        expect_content_until: None,
    }
}
