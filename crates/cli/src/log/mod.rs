//! Log lines on standard error, and traces with the feature `otel`.

mod clean;
mod limit;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing::{Subscriber, error};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Format;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Config, LogFormat};

use clean::{JsonLines, TextFields};
use limit::Limited;

pub(crate) use writer::LogWriter;

/// How long the program waits for the last lines when it ends.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The log. Flushes the remaining lines when it is dropped.
#[must_use]
pub(crate) struct Log {
    // Dropped first, because it writes log lines when it is dropped.
    #[cfg(feature = "otel")]
    _traces: Option<traces::Guard>,
    lines: Flushed,
}

/// Flushes the lines when it is dropped.
struct Flushed(LogWriter);

impl Drop for Flushed {
    fn drop(&mut self) {
        self.0.flush_within(FLUSH_TIME);
    }
}

impl Log {
    /// A writer that never waits for standard error.
    pub(crate) fn writer(&self) -> LogWriter {
        self.lines.0.clone()
    }
}

/// Starts logging to standard error for a command that prints a result.
pub(crate) fn init_tool() {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::WARN.into())
        .from_env_lossy();
    let is_terminal = std::io::stderr().is_terminal();
    let lines = layer(LogFormat::Text, std::io::stderr, is_terminal).with_filter(filter);
    tracing_subscriber::registry().with(lines).init();
}

/// Starts logging as the configuration says.
pub(crate) fn init(config: &Config) -> anyhow::Result<Log> {
    let filter = EnvFilter::try_new(&config.log)?;
    let writer = LogWriter::start(std::io::stderr())?;
    let is_terminal = std::io::stderr().is_terminal();
    let lines = layer(config.log_format, writer.clone(), is_terminal).with_filter(filter);
    let subscriber = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "otel")]
    let log = {
        let (layer, guard) = traces::layer()?.unzip();
        subscriber.with(layer).init();
        Log { _traces: guard, lines: Flushed(writer) }
    };
    #[cfg(not(feature = "otel"))]
    let log = {
        subscriber.init();
        Log { lines: Flushed(writer) }
    };
    // The default hook writes to standard error directly, which may block.
    std::panic::set_hook(Box::new(log_panic));
    Ok(log)
}

/// Writes log lines in this format.
fn layer<S, W>(format: LogFormat, writer: W, is_terminal: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        // Internal errors would be written to standard error directly, which may block.
        .log_internal_errors(false)
        .with_ansi(is_terminal);
    match format {
        LogFormat::Text => lines
            .fmt_fields(TextFields)
            .event_format(Limited::new(Format::default(), format))
            .boxed(),
        LogFormat::Json => {
            lines.fmt_fields(JsonLines).event_format(Limited::new(JsonLines, format)).boxed()
        }
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    error!("thread '{thread}' panicked at {place}: {message}");
    if backtrace.status() == BacktraceStatus::Captured {
        // A line each, because a value cannot contain line breaks.
        for frame in backtrace.to_string().lines() {
            error!("{frame}");
        }
    }
}

/// Sends spans to an OpenTelemetry collector.
#[cfg(feature = "otel")]
mod traces {
    use anyhow::Context;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::SpanExporter;
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::Subscriber;
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::Layer;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::registry::LookupSpan;

    /// The standard variable with the URL of the collector. Without it, no spans are sent.
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

    pub(super) struct Guard(SdkTracerProvider);

    impl Drop for Guard {
        fn drop(&mut self) {
            if let Err(error) = self.0.shutdown() {
                tracing::error!(%error, "cannot send the last traces");
            }
        }
    }

    pub(super) fn layer<S>() -> anyhow::Result<Option<(impl Layer<S>, Guard)>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        if std::env::var_os(ENDPOINT).is_none_or(|endpoint| endpoint.is_empty()) {
            return Ok(None);
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .build()
            .with_context(|| format!("cannot send traces to the collector in {ENDPOINT}"))?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("downbeat");
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("downbeat");
        // The spans of our own crates, regardless of the log filter.
        let ours = Targets::new().with_target("downbeat", LevelFilter::DEBUG);
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours);
        Ok(Some((layer, Guard(provider))))
    }
}
