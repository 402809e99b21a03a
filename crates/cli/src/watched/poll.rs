//! The loop that watches files.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::error;

/// The time between two looks at a file. Reading file times is cheap and works on every file
/// system; notifications do not.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks at files every second, and at once on SIGHUP.
pub(crate) struct Poll<W> {
    /// The watcher; `None` after it panicked.
    watcher: Option<W>,
    /// The name of the files in log lines.
    files: &'static str,
    ticks: Interval,
    reload: watch::Receiver<()>,
}

impl<W: Send + 'static> Poll<W> {
    /// Polls with this watcher. Each message of `reload` forces a look.
    pub(crate) fn new(watcher: W, files: &'static str, reload: watch::Receiver<()>) -> Self {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { watcher: Some(watcher), files, ticks, reload }
    }

    /// Waits for the next look and takes it on a thread that may block, because files on a network
    /// can be slow. `look` gets the watcher, and whether the look is forced. `None` at the end.
    pub(crate) async fn next<R: Send + 'static>(
        &mut self,
        look: impl FnOnce(&mut W, bool) -> R + Send + 'static,
    ) -> Option<R> {
        let mut watcher = self.watcher.take()?;
        let forced = tokio::select! {
            _ = self.ticks.tick() => false,
            changed = self.reload.changed() => {
                changed.ok()?;
                true
            }
        };
        let looking = tokio::task::spawn_blocking(move || {
            let result = look(&mut watcher, forced);
            (watcher, result)
        });
        match looking.await {
            Ok((watcher, result)) => {
                self.watcher = Some(watcher);
                Some(result)
            }
            Err(error) => {
                error!(%error, "stopped watching the {}", self.files);
                None
            }
        }
    }
}
