//! The content of a CoValue as it comes.

use downbeat_protocol::{CoValueId, Content, Message};
use futures_util::{Stream, stream};

use super::LocalError;
use super::line::{Line, Request};

/// The content of a CoValue, piece by piece; from [`Local::updates`](super::Local::updates).
///
/// Dropping it ends the subscription.
pub struct Updates {
    line: Line,
    request: Request,
}

impl Updates {
    pub(super) fn new(line: Line, request: Request) -> Self {
        Self { line, request }
    }

    /// The CoValue.
    pub fn id(&self) -> CoValueId {
        self.request.id()
    }

    /// The next piece, verified by the node. The first of several that belong together has
    /// [`expect_content_until`](Content::expect_content_until). A piece may begin before the end
    /// of the one before it, with what the program has already.
    ///
    /// Can be dropped without losing a piece.
    pub async fn next(&mut self) -> Result<Content, LocalError> {
        loop {
            match self.request.next(&mut self.line).await? {
                Message::Content(content) if content.id == self.id() => return Ok(content),
                // The CoValues that this one depends on come as well.
                _ => {}
            }
        }
    }

    /// Turns this into a stream of the pieces. It ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Content, LocalError>> + Send + Unpin {
        let next = async |updates: Option<Self>| {
            let mut updates = updates?;
            match updates.next().await {
                Ok(content) => Some((Ok(content), Some(updates))),
                Err(error) => Some((Err(error), None)),
            }
        };
        Box::pin(stream::unfold(Some(self), next))
    }
}
