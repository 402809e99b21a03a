//! Log lines, on standard error, and traces with the feature `otel`.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Config, LogFormat};

/// Sends on what is left when it is dropped.
#[must_use]
pub(crate) struct LogGuard {
    #[cfg(feature = "otel")]
    _traces: Option<traces::Guard>,
}

/// Starts logging as the configuration says.
pub(crate) fn init(config: &Config) -> anyhow::Result<LogGuard> {
    let filter = EnvFilter::try_new(&config.log)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match config.log_format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        // Fields beside the message, where programs that collect logs look for them.
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "otel")]
    {
        let (layer, guard) = traces::layer()?.unzip();
        subscriber.with(layer).init();
        Ok(LogGuard { _traces: guard })
    }
    #[cfg(not(feature = "otel"))]
    {
        subscriber.init();
        Ok(LogGuard {})
    }
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
                eprintln!("downbeat: the last traces could not be sent: {error}");
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
