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

/// What clients that ran at the same time bring back; the first error ends the others.
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

/// Sends content, at most `window` messages ahead of what has been acknowledged, and returns how
/// long each waited for its acknowledgement.
///
/// Content of one CoValue is in its order, and acknowledging the later acknowledges the earlier.
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
            // Answers come about in the order of the questions, so this looks at few of them.
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

/// Asks for a CoValue as one who has nothing of it.
fn load(id: CoValueId) -> Message {
    Message::Load(KnownState::empty(id))
}
