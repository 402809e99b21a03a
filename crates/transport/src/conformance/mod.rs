//! The rules of the transport traits, as suites that a transport runs in its own tests.
//!
//! [`run`] checks connections, [`run_listener`] listeners and connectors, [`run_bad_input`]
//! garbage, oversized and unfinished frames, [`run_silence`] peers that send nothing, and with the
//! feature `net`, `run_receive_budget` the memory for frames that arrive in part.

mod bad_input;
mod listener;
#[cfg(feature = "net")]
mod receive_budget;

use std::future::Future;
use std::time::Duration;

use downbeat_protocol::{
    CoValueId, Content, Message, Priority, SessionContent, SessionId, Signature, Transaction,
};

pub use bad_input::{BadInput, run_bad_input, run_silence};
pub use listener::run_listener;
#[cfg(feature = "net")]
pub use receive_budget::run_receive_budget;

use crate::connection::{CloseCode, CloseReason, Connection, Receiver};
use crate::error::{Blame, TransportError};

/// The time for one rule, after which a transport that hangs fails. Long, for loaded machines.
const RULE_TIMEOUT: Duration = Duration::from_mins(1);
/// The time without progress after which a call counts as waiting for the peer.
const STALL: Duration = Duration::from_millis(300);
/// The size of a message: a few dozen of them fill the buffers of any transport.
const BIG_MESSAGE: usize = 256 << 10;
/// The most bytes that a transport may accept for a peer that does not read. They include the
/// operating system's socket buffers (on Linux up to about 10 MiB in both directions).
const MAX_UNREAD: usize = 64 << 20;
/// The size of one large message: a piece of a CoValue with the largest transactions.
const LARGE_MESSAGE: usize = 4 << 20;

/// Runs the rules for connections, each on a new one that `connect` makes. `connect` returns both
/// ends, the client's first.
///
/// Needs a Tokio runtime with time enabled. Panics with the rule's name if the transport breaks
/// one.
pub async fn run<F, C>(mut connect: F)
where
    F: FnMut() -> C,
    C: Future<Output = (Connection, Connection)>,
{
    macro_rules! rules {
        ($($rule:ident),* $(,)?) => {
            $(for swapped in [false, true] {
                let (left, right) = connect().await;
                let (left, right) = if swapped { (right, left) } else { (left, right) };
                let name = stringify!($rule);
                tokio::time::timeout(RULE_TIMEOUT, $rule(left, right)).await.unwrap_or_else(|_| {
                    panic!("{name} (ends swapped: {swapped}) was not done in {RULE_TIMEOUT:?}")
                });
            })*
        };
    }
    rules!(
        messages_arrive_unchanged_and_in_order,
        both_directions_carry_at_the_same_time,
        a_large_message_arrives_whole,
        sending_nothing_sends_nothing,
        a_keepalive_is_not_a_message,
        a_sender_waits_for_a_peer_that_does_not_read,
        an_abandoned_receive_loses_nothing,
        an_abandoned_send_leaves_whole_messages,
        what_was_sent_before_a_close_arrives,
        after_a_close_nothing_can_be_sent,
        closing_twice_does_nothing,
        both_sides_may_close_at_once,
        what_the_peer_sent_before_our_close_still_comes,
        a_close_ends_even_when_the_peer_never_answers,
        a_peer_that_vanishes_ends_the_connection,
    );
}

async fn messages_arrive_unchanged_and_in_order(mut left: Connection, mut right: Connection) {
    const COUNT: usize = 10_000;
    let sending = async {
        let mut next = 0;
        // Slices of many lengths, so that batches start and end at different messages.
        while next < COUNT {
            let batch: Vec<_> = (next..COUNT).take(next % 97 + 1).map(small).collect();
            next += batch.len();
            left.sender.send(&batch).await.expect("an open connection takes messages");
        }
        left
    };
    let (_left, received) = tokio::join!(sending, take(right.receiver.as_mut(), COUNT));
    assert_eq!(received, (0..COUNT).map(small).collect::<Vec<_>>());
}

async fn both_directions_carry_at_the_same_time(left: Connection, right: Connection) {
    const COUNT: usize = 32;
    async fn talk(connection: Connection) {
        let Connection { mut sender, mut receiver, .. } = connection;
        let sending = async {
            for number in 0..COUNT {
                sender.send(&[sized(number, BIG_MESSAGE)]).await.expect("an open connection");
            }
        };
        let ((), received) = tokio::join!(sending, take(receiver.as_mut(), COUNT));
        assert_numbered(&received, 0);
        // Neither end may close before the other has read everything.
        sender.close(normal()).await.expect("an open connection closes");
        assert!(rest(receiver.as_mut()).await.is_empty(), "nothing more was sent");
    }
    tokio::join!(talk(left), talk(right));
}

async fn a_large_message_arrives_whole(mut left: Connection, mut right: Connection) {
    let messages = [small(0), sized(1, LARGE_MESSAGE), small(2)];
    let (sent, received) =
        tokio::join!(left.sender.send(&messages), take(right.receiver.as_mut(), messages.len()));
    sent.expect("an open connection takes a large message");
    assert!(received == messages, "the large message or its neighbours changed on the way");
}

async fn sending_nothing_sends_nothing(mut left: Connection, mut right: Connection) {
    assert_eq!(left.sender.send(&[]).await.expect("an open connection"), 0);
    let received = tokio::time::timeout(STALL, right.receiver.receive()).await;
    assert!(received.is_err(), "an empty send arrived as {received:?}");
}

async fn a_keepalive_is_not_a_message(mut left: Connection, mut right: Connection) {
    left.sender.keep_alive().await.expect("an open connection");
    if left.sender.keep_alive_interval().is_some() {
        let frame = right.receiver.receive().await.expect("an open connection");
        let frame = frame.expect("the keepalive arrives");
        assert!(frame.messages.is_empty() && frame.rejected.is_empty(), "{frame:?}");
    }
    left.sender.send(&[small(0)]).await.expect("an open connection");
    assert_eq!(take(right.receiver.as_mut(), 1).await, [small(0)]);
}

async fn a_sender_waits_for_a_peer_that_does_not_read(mut left: Connection, right: Connection) {
    let mut sent = 0;
    loop {
        assert!(
            sent * BIG_MESSAGE < MAX_UNREAD,
            "took {MAX_UNREAD} bytes for a peer that does not read"
        );
        let message = [sized(sent, BIG_MESSAGE)];
        match tokio::time::timeout(STALL, left.sender.send(&message)).await {
            Ok(result) => drop(result.expect("an open connection takes messages")),
            Err(_) => break,
        }
        sent += 1;
    }
    let Connection { mut receiver, .. } = right;
    let closing = left.sender.close(normal());
    let (closed, received) = tokio::join!(closing, rest(receiver.as_mut()));
    closed.expect("an open connection closes");
    // The last send was dropped; its message may have arrived nevertheless.
    assert!(received.len() == sent || received.len() == sent + 1, "{} of {sent}", received.len());
    assert_numbered(&received, 0);
}

async fn an_abandoned_receive_loses_nothing(mut left: Connection, mut right: Connection) {
    const COUNT: usize = 300;
    let sending = async {
        for number in 0..COUNT {
            let size = if number % 10 == 0 { BIG_MESSAGE } else { 100 };
            left.sender.send(&[sized(number, size)]).await.expect("an open connection");
        }
        left
    };
    let receiving = async {
        let mut received = Vec::new();
        let mut patience = 0;
        while received.len() < COUNT {
            patience = (patience + 37) % 400;
            let call = right.receiver.receive();
            if let Ok(frame) = tokio::time::timeout(Duration::from_micros(patience), call).await {
                let frame = frame.expect("an open connection").expect("not closed yet");
                received.extend(frame.messages);
            }
        }
        received
    };
    let (_left, received) = tokio::join!(sending, receiving);
    assert_numbered(&received, 0);
}

async fn an_abandoned_send_leaves_whole_messages(mut left: Connection, right: Connection) {
    const COUNT: usize = 80;
    let sending = async {
        for number in 0..COUNT {
            let patience = Duration::from_micros((number as u64 * 53) % 1_500);
            let messages = [sized(number, BIG_MESSAGE)];
            let call = left.sender.send(&messages);
            if let Ok(result) = tokio::time::timeout(patience, call).await {
                result.expect("an open connection takes messages");
            }
        }
        left.sender.send(&[sized(COUNT, 100)]).await.expect("still usable");
        left.sender.close(normal()).await.expect("an open connection closes");
    };
    let Connection { mut receiver, .. } = right;
    let ((), received) = tokio::join!(sending, rest(receiver.as_mut()));
    let numbers: Vec<_> = received.iter().map(number_of).collect();
    assert!(numbers.is_sorted(), "out of order: {numbers:?}");
    assert_eq!(numbers.last(), Some(&COUNT), "messages after an abandoned call arrive");
}

async fn what_was_sent_before_a_close_arrives(mut left: Connection, mut right: Connection) {
    let messages: Vec<_> = (0..100).map(|number| sized(number, 10_000)).collect();
    let closing = async {
        left.sender.send(&messages).await.expect("an open connection takes messages");
        left.sender.close(normal()).await.expect("an open connection closes");
    };
    let ((), received) = tokio::join!(closing, rest(right.receiver.as_mut()));
    assert!(received == messages, "{} of {} arrived", received.len(), messages.len());
    for _ in 0..2 {
        let after = right.receiver.receive().await;
        assert!(matches!(after, Ok(None)), "after the end: {after:?}");
    }
}

async fn after_a_close_nothing_can_be_sent(mut left: Connection, mut right: Connection) {
    left.sender.close(normal()).await.expect("an open connection closes");
    let own = left.sender.send(&[small(0)]).await;
    assert!(matches!(own, Err(TransportError::Closed)), "{own:?}");
    let own = left.sender.keep_alive().await;
    assert!(matches!(own, Err(TransportError::Closed)), "{own:?}");
    assert!(rest(right.receiver.as_mut()).await.is_empty(), "nothing was sent");
    let theirs = right.sender.send(&[small(0)]).await;
    assert!(matches!(theirs, Err(TransportError::Closed)), "{theirs:?}");
}

async fn closing_twice_does_nothing(mut left: Connection, mut right: Connection) {
    left.sender.close(normal()).await.expect("an open connection closes");
    left.sender.close(normal()).await.expect("a closed one may be closed again");
    assert!(rest(right.receiver.as_mut()).await.is_empty(), "nothing was sent");
    right.sender.close(normal()).await.expect("and from the other side");
}

async fn both_sides_may_close_at_once(left: Connection, right: Connection) {
    async fn end(connection: Connection) {
        let Connection { mut sender, mut receiver, .. } = connection;
        sender.close(normal()).await.expect("an open connection closes");
        assert!(rest(receiver.as_mut()).await.is_empty(), "nothing was sent");
    }
    tokio::join!(end(left), end(right));
}

async fn what_the_peer_sent_before_our_close_still_comes(
    mut left: Connection,
    mut right: Connection,
) {
    // Every transport accepts one message before the other side reads.
    let messages = [small(0)];
    right.sender.send(&messages).await.expect("an open connection takes messages");
    left.sender.close(normal()).await.expect("an open connection closes");
    let (received, others) =
        tokio::join!(rest(left.receiver.as_mut()), rest(right.receiver.as_mut()));
    assert_eq!(received, messages);
    assert!(others.is_empty(), "nothing was sent");
}

async fn a_close_ends_even_when_the_peer_never_answers(mut left: Connection, right: Connection) {
    left.sender.close(normal()).await.expect("an open connection closes");
    assert!(rest(left.receiver.as_mut()).await.is_empty(), "nothing was sent");
    drop(right);
}

async fn a_peer_that_vanishes_ends_the_connection(left: Connection, mut right: Connection) {
    drop(left);
    let end = right.receiver.receive().await;
    match &end {
        Ok(None) => {}
        Err(error) if error.blame() == Blame::Link => {}
        _ => panic!("after the peer vanished: {end:?}"),
    }
    let after = right.receiver.receive().await;
    assert!(matches!(after, Ok(None)), "after the end: {after:?}");
}

/// The next `count` messages.
async fn take(receiver: &mut dyn Receiver, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let frame = receiver.receive().await.expect("an open connection");
        let frame = frame.expect("not closed before everything has arrived");
        assert!(frame.rejected.is_empty(), "rejected: {:?}", frame.rejected);
        messages.extend(frame.messages);
    }
    messages
}

/// The messages up to the orderly end.
async fn rest(receiver: &mut dyn Receiver) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(frame) = receiver.receive().await.expect("an orderly end") {
        assert!(frame.rejected.is_empty(), "rejected: {:?}", frame.rejected);
        messages.extend(frame.messages);
    }
    messages
}

fn assert_numbered(messages: &[Message], from: usize) {
    let numbers: Vec<_> = messages.iter().map(number_of).collect();
    let expected: Vec<_> = (from..from + messages.len()).collect();
    assert_eq!(numbers, expected);
}

/// A short message that holds its number, a line break and characters of two, three and four bytes.
fn small(number: usize) -> Message {
    Message::ReconcileAck(format!("{number}:\n\"ä€🎶"))
}

/// A message of about `size` bytes: content after as many transactions as its number.
fn sized(number: usize, size: usize) -> Message {
    let letters: String = (0..size).map(letter).collect();
    let transaction = Transaction::trusting(&format!("[\"{letters}\"]"), 0, None);
    let session = SessionContent {
        session: SessionId::parse("co_z1_session_z1").expect("the id of a session"),
        after: number as u64,
        transactions: vec![transaction],
        last_signature: Signature::parse(&format!("signature_z{}", "1".repeat(64)))
            .expect("the digits of 64 zeros"),
    };
    Message::Content(Content {
        id: CoValueId::parse("co_z1").expect("the id of a CoValue"),
        header: None,
        priority: Priority::Medium,
        sessions: vec![session],
        malformed: Vec::new(),
        expect_content_until: None,
    })
}

fn letter(place: usize) -> char {
    char::from(b'a' + u8::try_from(place / 1_000 % 26).unwrap_or(0))
}

fn number_of(message: &Message) -> usize {
    let number = match message {
        Message::ReconcileAck(text) => text.split(':').next().and_then(|text| text.parse().ok()),
        Message::Content(content) => {
            content.sessions.first().and_then(|session| usize::try_from(session.after).ok())
        }
        _ => None,
    };
    number.unwrap_or_else(|| panic!("not of this suite: {message:?}"))
}

fn normal() -> CloseReason {
    CloseReason::new(CloseCode::Normal, "the rule is done")
}
