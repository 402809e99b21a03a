//! Log lines, on standard error, and traces with the feature `otel`.

mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing::error;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Config, LogFormat};

pub(crate) use writer::LogWriter;

/// How long the end of the program waits for the last lines.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The log. Sends on what is left when it is dropped.
#[must_use]
pub(crate) struct Log {
    // First, because its last words are log lines.
    #[cfg(feature = "otel")]
    _traces: Option<traces::Guard>,
    lines: Flushed,
}

/// Is flushed when dropped.
struct Flushed(LogWriter);

impl Drop for Flushed {
    fn drop(&mut self) {
        self.0.flush_within(FLUSH_TIME);
    }
}

impl Log {
    /// Takes lines without waiting for standard error.
    pub(crate) fn writer(&self) -> LogWriter {
        self.lines.0.clone()
    }
}

/// Starts logging as the configuration says.
pub(crate) fn init(config: &Config) -> anyhow::Result<Log> {
    let filter = EnvFilter::try_new(&config.log)?;
    let writer = LogWriter::start(std::io::stderr())?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer.clone())
        // Its complaints would go to standard error directly, and wait for it.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match config.log_format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        // Fields beside the message, where programs that collect logs look for them.
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
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
    // The usual hook writes to standard error, and waits for it.
    std::panic::set_hook(Box::new(log_panic));
    Ok(log)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let message = panic.payload_as_str().unwrap_or("no words");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    let backtrace = backtrace.as_ref().map(tracing::field::display);
    error!(backtrace, "thread '{thread}' panicked at {place}: {message}");
}

/// Spans to an OpenTelemetry collector.
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

    /// The standard's own variable: without it nothing is sent.
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

    pub(super) struct Guard(SdkTracerProvider);

    impl Drop for Guard {
        fn drop(&mut self) {
            if let Err(error) = self.0.shutdown() {
                tracing::error!(%error, "the last traces could not be sent");
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
            .with_context(|| format!("no traces can be sent to the collector of {ENDPOINT}"))?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("downbeat");
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("downbeat");
        // The spans of our own crates, whatever the log shows.
        let ours = Targets::new().with_target("downbeat", LevelFilter::DEBUG);
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours);
        Ok(Some((layer, Guard(provider))))
    }
}
