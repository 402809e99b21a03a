//! Whether a delete transaction's author may delete.

use downbeat_protocol::{CoValueId, SessionContent};
use downbeat_sync::Rejection;

use crate::content::ContentStore;

pub(crate) async fn check(
    _content: &ContentStore,
    _id: CoValueId,
    _group: CoValueId,
    _run: &SessionContent,
) -> Result<(), Rejection> {
    Err(Rejection::InvalidDelete("permissions cannot be checked".to_owned()))
}
