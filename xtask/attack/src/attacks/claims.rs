//! Claims of sessions that do not exist.

use anyhow::Result;

use crate::ground::Ground;
use crate::socket::Frames;
use crate::wire;

/// The short messages that are sent at once.
const BURST: usize = 1_000;

pub(crate) async fn repeated_claims(ground: &mut Ground) -> Result<()> {
    let id = wire::random_id(&mut ground.rng);
    let count = ground.pick(100_000, 40_000);
    let sessions = wire::invented_sessions(&mut ground.rng, count);
    let first = Frames::one(&wire::known(id, &sessions));
    let one = wire::invented_sessions(&mut ground.rng, 1);
    let bursts = ground.pick(60, 15);
    let frames = (0..bursts).map(|_| (0..BURST).map(|_| wire::known(id, &one)).collect());
    let all: Vec<Frames> = std::iter::once(first).chain(frames).collect();
    ground.begin().await?;
    ground.flood(all).await
}
