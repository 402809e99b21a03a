//! The workloads, one file for each kind.

mod fan_out;
mod fetch;
mod idle;
mod live_edits;
mod long_log;
mod sessions;
mod starts;
mod storm;
mod stream;
mod up_to_date;
mod upload;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use downbeat_protocol::{CoValueId, Content, KnownState, Message};
use tokio::task::JoinSet;

use crate::client::{Client, covers};
use crate::error::BenchError;

pub use fan_out::FanOut;
pub use fetch::Fetch;
pub use idle::Idle;
pub use live_edits::LiveEdits;
pub use long_log::{LongAppend, LongLoad};
pub use sessions::ManySessions;
pub use starts::Starts;
pub use storm::Storm;
pub use stream::{StreamDown, StreamUp};
pub use up_to_date::UpToDate;
pub use upload::Upload;

/// The results of concurrent clients. The first error ends the other clients.
async fn all<T: 'static>(
    mut clients: JoinSet<Result<T, BenchError>>,
) -> Result<Vec<T>, BenchError> {
    let mut results = Vec::with_capacity(clients.len());
    while let Some(done) = clients.join_next().await {
        match done {
            Ok(result) => results.push(result?),
            Err(broken) => std::panic::resume_unwind(broken.into_panic()),
        }
    }
    Ok(results)
}

/// Sends content with at most `window` unacknowledged messages, and returns the time from each
/// message to its acknowledgement.
///
/// The messages of a CoValue must be in order. An acknowledgement also covers the earlier ones.
async fn send_windowed(
    client: &mut Client,
    contents: Vec<Content>,
    window: usize,
) -> Result<Vec<Duration>, BenchError> {
    let mut latencies = Vec::with_capacity(contents.len());
    let mut waiting: VecDeque<(Content, Instant)> = VecDeque::with_capacity(window);
    let mut contents = contents.into_iter();
    loop {
        while waiting.len() < window.max(1) {
            let Some(content) = contents.next() else { break };
            client.send(Message::Content(content.clone())).await?;
            waiting.push_back((content, Instant::now()));
        }
        if waiting.is_empty() {
            return Ok(latencies);
        }
        let left = waiting.len() + contents.len();
        for message in client.receive(|| format!("{left} acknowledgements")).await? {
            let Message::Known(known) = message else { continue };
            // Answers come roughly in the order of the messages, so the search is short.
            let mut at = 0;
            while let Some((content, sent)) = waiting.get(at) {
                if covers(&known, content)? {
                    latencies.push(sent.elapsed());
                    waiting.remove(at);
                } else if content.id == known.state.id {
                    break;
                } else {
                    at += 1;
                }
            }
        }
    }
}

/// The LOAD message of a client without the CoValue.
fn load(id: CoValueId) -> Message {
    Message::Load(KnownState::empty(id))
}
