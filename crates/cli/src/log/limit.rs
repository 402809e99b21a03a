//! Limits the log lines of one place in the code, so that strangers cannot flood the log.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;

/// The lines of one place that are written at once: enough to see who is concerned.
const BURST: u32 = 20;

/// The time after which one more line is written.
const REFILL: Duration = Duration::from_secs(3);

/// Formats lines with `F`, and leaves out warnings and notices of a place that has written too many.
/// The next line of that place has their number, as `skipped`. Errors are caused by the server
/// itself and always written. Finer levels are for an operator who asks for everything.
pub(super) struct Limited<F> {
    lines: F,
    format: LogFormat,
    places: Mutex<HashMap<Identifier, Place>>,
}

/// A place in the code that writes log lines.
struct Place {
    /// The lines that it may write at once.
    left: u32,
    /// When it last got one more.
    refilled: Instant,
    skipped: u64,
}

impl<F> Limited<F> {
    pub(super) fn new(lines: F, format: LogFormat) -> Self {
        Self { lines, format, places: Mutex::default() }
    }

    /// Whether a line may be written now: the number of lines that were skipped before it.
    fn pass(&self, event: &Event<'_>, now: Instant) -> Option<u64> {
        if !matches!(*event.metadata().level(), Level::WARN | Level::INFO) {
            return Some(0);
        }
        // Nothing panics while the lock is held.
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Place { left: BURST, refilled: now, skipped: 0 };
        places.entry(event.metadata().callsite()).or_insert_with(new).pass(now)
    }
}

impl Place {
    fn pass(&mut self, now: Instant) -> Option<u64> {
        let periods = now.duration_since(self.refilled).as_secs() / REFILL.as_secs();
        if periods > 0 {
            let periods = u32::try_from(periods).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(periods).min(BURST);
            self.refilled = now;
        }
        if self.left == 0 {
            self.skipped += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.skipped))
    }
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self.pass(event, Instant::now()) {
            None => Ok(()),
            Some(0) => self.lines.format_event(context, writer, event),
            Some(skipped) => {
                let mut line = String::new();
                self.lines.format_event(context, Writer::new(&mut line), event)?;
                writer.write_str(&with_skipped(&line, skipped, self.format))
            }
        }
    }
}

/// Adds the number of skipped lines to a line.
fn with_skipped(line: &str, skipped: u64, format: LogFormat) -> String {
    let line = line.trim_end();
    match format {
        LogFormat::Text => format!("{line} skipped={skipped}\n"),
        LogFormat::Json => {
            format!("{},\"skipped\":{skipped}}}\n", line.strip_suffix('}').unwrap_or(line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (Place, Instant) {
        let now = Instant::now();
        (Place { left: BURST, refilled: now, skipped: 0 }, now)
    }

    #[test]
    fn a_place_writes_a_burst_and_then_one_line_at_a_time() {
        let (mut place, now) = place();
        let written = (0..1_000).filter(|_| place.pass(now).is_some()).count();
        assert_eq!(written, 20);
        assert_eq!(place.pass(now + REFILL), Some(980));
        assert_eq!(place.pass(now + REFILL), None);
        assert_eq!(place.pass(now + 2 * REFILL), Some(1));
    }

    #[test]
    fn the_number_of_skipped_lines_becomes_a_field() {
        assert_eq!(with_skipped("a line\n", 7, LogFormat::Text), "a line skipped=7\n");
        let json = with_skipped("{\"message\":\"a\"}\n", 7, LogFormat::Json);
        assert_eq!(json, "{\"message\":\"a\",\"skipped\":7}\n");
    }

    #[test]
    fn a_rest_allows_a_whole_burst_again() {
        let (mut place, now) = place();
        assert_eq!((0..30).filter(|_| place.pass(now).is_some()).count(), 20);
        let later = now + Duration::from_hours(1);
        assert_eq!((0..30).filter(|_| place.pass(later).is_some()).count(), 20);
    }
}
