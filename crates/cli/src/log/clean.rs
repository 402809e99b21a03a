//! Log lines whose texts cannot forge other lines or control a terminal, in both formats.
//!
//! Ids, reasons and names in a log come from peers. Every value of an event passes [`Clean`] before
//! it is written.

use std::error::Error;
use std::fmt;

use downbeat_protocol::Printable;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_serde::SerdeMapVisitor;
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope, SpanRef};

/// Passes values on with their texts made printable.
struct Clean<'a>(&'a mut dyn Visit);

impl Visit for Clean<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.record_f64(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.record_i64(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.record_u64(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.record_bool(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.record_str(field, &Printable(value).to_string());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut error = value;
        while let Some(source) = error.source() {
            text = format!("{text}: {source}");
            error = source;
        }
        self.record_debug(field, &format_args!("{text}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.record_debug(field, &format_args!("{}", Printable(format_args!("{value:?}"))));
    }
}

/// The fields of a line of text.
pub(super) struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = DefaultVisitor::new(writer, true);
        fields.record(&mut Clean(&mut visitor));
        visitor.finish()
    }
}

/// A line with one JSON object: the fields at the same level as the message, where log collectors
/// expect them.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let scope = context.event_scope().into_iter().flat_map(Scope::from_root);
        let spans = scope.map(|span| members::<S, N>(&span)).collect();
        let line = serde_json::to_string(&Line { timestamp, event, spans });
        writeln!(writer, "{}", line.map_err(|_| fmt::Error)?)
    }
}

/// The fields of a span as JSON. Those that are recorded later become an object of their own.
impl<'w> FormatFields<'w> for JsonLines {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let json = serde_json::to_string(&Fields(fields)).map_err(|_| fmt::Error)?;
        writer.write_str(&json)
    }
}

struct Fields<R>(R);

impl<R: RecordFields> Serialize for Fields<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = SerdeMapVisitor::new(serializer.serialize_map(None)?);
        self.0.record(&mut Clean(&mut members));
        members.finish()
    }
}

struct Line<'a> {
    timestamp: String,
    event: &'a Event<'a>,
    /// The spans around the event, the innermost last.
    spans: Vec<Map<String, Value>>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let metadata = self.event.metadata();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &self.timestamp)?;
        map.serialize_entry("level", metadata.level().as_str())?;
        let mut members = SerdeMapVisitor::new(map);
        self.event.record(&mut Clean(&mut members));
        let mut map = members.take_serializer()?;
        map.serialize_entry("target", metadata.target())?;
        if let Some(span) = self.spans.last() {
            map.serialize_entry("span", span)?;
            map.serialize_entry("spans", &self.spans)?;
        }
        map.end()
    }
}

/// The name and the fields of a span, which `N` has written as JSON objects.
fn members<S, N>(span: &SpanRef<'_, S>) -> Map<String, Value>
where
    S: for<'a> LookupSpan<'a>,
    N: 'static,
{
    let extensions = span.extensions();
    let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| &fields.fields);
    let objects = serde_json::Deserializer::from_str(fields).into_iter::<Map<_, _>>();
    let mut members: Map<_, _> = objects.flatten().flatten().collect();
    members.insert("name".to_owned(), span.name().into());
    members
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex, PoisonError};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::config::LogFormat;
    use crate::log::layer;

    /// An id with a whole log line in it, an escape sequence, and an override of the direction.
    const HOSTILE: &str =
        "co_z1\n2026-01-01T00:00:00Z ERROR downbeat: forged\u{1b}[2J\u{9b}\u{202e}";

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(layer(format, lines.clone(), false));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn log_everywhere() {
        let error = io::Error::other(HOSTILE);
        let error: &(dyn Error + 'static) = &error;
        let span = tracing::error_span!("work", id = %HOSTILE, later = tracing::field::Empty);
        let _entered = span.enter();
        span.record("later", HOSTILE);
        tracing::error!(id = %HOSTILE, text = HOSTILE, debug = ?HOSTILE, error, count = 7, "said {HOSTILE}");
    }

    #[test]
    fn no_value_forges_a_line_of_text_or_sends_an_escape() {
        let text = logged(LogFormat::Text, log_everywhere);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().contains(downbeat_protocol::is_unprintable), "{text:?}");
        assert!(text.contains(r"id=co_z1\n2026") && text.contains(r"forged\u{1b}[2J"), "{text}");
        assert!(text.contains("count=7"), "{text}");
    }

    #[test]
    fn no_value_hides_anything_in_a_json_line() {
        let text = logged(LogFormat::Json, log_everywhere);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().contains(downbeat_protocol::is_unprintable), "{text:?}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let shown = Printable(HOSTILE).to_string();
        for name in ["id", "text", "error"] {
            assert_eq!(json[name], shown, "{name}: {json}");
        }
        assert_eq!(json["message"], format!("said {shown}"));
        assert_eq!((&json["level"], &json["count"]), (&"ERROR".into(), &7.into()));
        assert_eq!(json["target"], module_path!());
        assert!(json["timestamp"].is_string());
        // `later` is recorded after the span has begun.
        let span = serde_json::json!({ "name": "work", "id": shown, "later": shown });
        assert_eq!(json["span"], span);
        assert_eq!(json["spans"], serde_json::json!([span]));
    }

    #[test]
    fn a_flood_of_warnings_is_limited_and_errors_are_not() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, || {
                (0..1_000).for_each(|number| tracing::warn!(number, "a stranger"));
                (0..50).for_each(|_| tracing::error!("the server"));
            });
            // A slow machine may earn a few more.
            assert!((20..40).contains(&text.matches("a stranger").count()), "{text}");
            assert_eq!(text.matches("the server").count(), 50);
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let long = "x".repeat(1 << 20);
            let text = logged(format, || tracing::warn!(id = %long, text = long, "said {long}"));
            assert!(text.len() < 5_000, "{} bytes", text.len());
            assert_eq!(text.matches('…').count(), 3);
        }
    }
}
