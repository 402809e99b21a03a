//! Content in portions: one large message must not be one long step of the engine.

use std::vec;

use downbeat_protocol::{CoValueId, Content, Priority, SessionContent};

/// Sessions of a portion: the engine needs some 0.2 ms for as many.
const PORTION_SESSIONS: usize = 64;

/// Bytes of transactions in a portion, unless a single run has more: a small part of what a peer
/// may have in the machine's care.
const PORTION_BYTES: u64 = 512 << 10;

/// Malformed sessions that the machine is told of. It remembers fewer: a peer with more of them is
/// refused the whole CoValue.
const MAX_MALFORMED: usize = 64;

/// A content message in portions, each of them a content message. Only the first has the header
/// and the announced counts.
pub(crate) struct Portions {
    id: CoValueId,
    priority: Priority,
    first: Option<Content>,
    /// The sessions that are in no portion yet. Empty if the first portion has all of them.
    rest: vec::IntoIter<SessionContent>,
}

impl Portions {
    pub(crate) fn of(mut content: Content) -> Self {
        content.malformed.truncate(MAX_MALFORMED);
        let is_whole = sessions_of_portion(&content.sessions) == content.sessions.len();
        let rest = if is_whole { Vec::new() } else { std::mem::take(&mut content.sessions) };
        let (id, priority) = (content.id, content.priority);
        Self { id, priority, first: Some(content), rest: rest.into_iter() }
    }
}

impl Iterator for Portions {
    type Item = Content;

    fn next(&mut self) -> Option<Content> {
        let mut portion = match self.first.take() {
            Some(first) => first,
            None if self.rest.as_slice().is_empty() => return None,
            None => Content {
                id: self.id,
                header: None,
                priority: self.priority,
                sessions: Vec::new(),
                malformed: Vec::new(),
                expect_content_until: None,
            },
        };
        let count = sessions_of_portion(self.rest.as_slice());
        portion.sessions.extend(self.rest.by_ref().take(count));
        Some(portion)
    }
}

/// How many of the sessions fit into a portion: at least one.
fn sessions_of_portion(sessions: &[SessionContent]) -> usize {
    let mut bytes = 0;
    let fits = |run: &&SessionContent| {
        let is_first = bytes == 0;
        bytes += run.json_len();
        is_first || bytes <= PORTION_BYTES
    };
    sessions.iter().take(PORTION_SESSIONS).take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use downbeat_protocol::{Header, Ruleset, SessionCounts, SessionId, Signature, Transaction};

    use super::*;

    fn run(number: usize, bytes: usize) -> SessionContent {
        let digits = format!("{number}").replace('0', "x");
        SessionContent {
            session: SessionId::parse(&format!("co_z1_session_z{digits}")).unwrap(),
            after: 0,
            transactions: vec![Transaction::trusting(&"x".repeat(bytes), 0, None)],
            last_signature: Signature::from_bytes(&[0; 64]),
        }
    }

    fn content(sessions: Vec<SessionContent>) -> Content {
        let until = sessions.iter().map(|run| (run.session.clone(), 1));
        Content {
            id: CoValueId::parse("co_z1").unwrap(),
            header: Some(Header::builder("comap", Ruleset::UnsafeAllowAll).build().unwrap()),
            priority: Priority::Low,
            expect_content_until: Some(until.collect::<SessionCounts>()),
            sessions,
            malformed: Vec::new(),
        }
    }

    #[test]
    fn a_small_message_is_one_portion() {
        for sessions in [0, 1, PORTION_SESSIONS] {
            let small = content((0..sessions).map(|number| run(number, 10)).collect());
            assert_eq!(Portions::of(small.clone()).collect::<Vec<_>>(), [small]);
        }
    }

    #[test]
    fn the_sessions_of_a_large_message_are_in_its_portions_in_their_order() {
        let large = content((0..200).map(|number| run(number, 10)).collect());
        let portions: Vec<_> = Portions::of(large.clone()).collect();
        let sizes: Vec<_> = portions.iter().map(|portion| portion.sessions.len()).collect();
        assert_eq!(sizes, [64, 64, 64, 8]);
        assert_eq!(portions[0].header, large.header);
        assert_eq!(portions[0].expect_content_until, large.expect_content_until);
        for rest in &portions[1..] {
            assert!(rest.header.is_none() && rest.expect_content_until.is_none());
            assert_eq!((rest.id, rest.priority), (large.id, large.priority));
        }
        let sessions: Vec<_> = portions.into_iter().flat_map(|portion| portion.sessions).collect();
        assert_eq!(sessions, large.sessions);
    }

    #[test]
    fn large_runs_have_portions_of_their_own() {
        let sizes = [400 << 10, 400 << 10, 10, 900 << 10, 10];
        let large = content(sizes.iter().enumerate().map(|(at, size)| run(at, *size)).collect());
        let portions = Portions::of(large).map(|portion| portion.sessions.len());
        assert_eq!(portions.collect::<Vec<_>>(), [1, 2, 1, 1]);
    }
}
