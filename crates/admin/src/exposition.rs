//! The two text formats of `/metrics`. The `Accept` header chooses between them.

use std::fmt::Write as _;

/// A format that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// The text format 0.0.4, which every collector reads.
    PlainText,
}

impl Format {
    /// The format that an `Accept` header prefers. `OpenMetrics` only if the header names it,
    /// because browsers and `curl` accept every type but show plain text.
    pub(crate) fn wanted(accept: &str) -> Self {
        let mut quality = [None, None];
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let slot = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "application/openmetrics-text" => 0,
                "text/plain" => 1,
                _ => continue,
            };
            let parameters: Vec<_> = parts.filter_map(parameter).collect();
            let find = |name: &str| {
                let found = parameters.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
                found.map(|(_, value)| *value)
            };
            let version = ["1.0.0", "0.0.4"][slot];
            if find("version").is_some_and(|wanted| wanted != version) {
                continue;
            }
            let weight = find("q").map_or(Some(1.0), |weight| weight.parse::<f32>().ok());
            // A header may name a type several times, with different versions.
            quality[slot] = weight.into_iter().chain(quality[slot]).reduce(f32::max);
        }
        match quality {
            [Some(open), plain] if open > 0.0 && plain.is_none_or(|plain| open >= plain) => {
                Self::OpenMetrics
            }
            _ => Self::PlainText,
        }
    }

    /// The value of the `Content-Type` header.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PlainText => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

fn parameter(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    Some((name.trim(), value.trim().trim_matches('"')))
}

/// Rewrites `OpenMetrics` text as the text format 0.0.4. That format names the metadata of counters
/// and infos like their samples, and has no `UNIT` lines and no end mark. Samples are the same.
pub(crate) fn as_plain_text(open_metrics: &str) -> String {
    let mut plain = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            // Kept until the type is known, which decides the name.
            help = text.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|text| text.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            if let Some((_, help)) = help.take().filter(|(named, _)| *named == name) {
                let _ = writeln!(plain, "# HELP {name}{suffix} {help}");
            }
            let _ = writeln!(plain, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            plain.push_str(line);
            plain.push('\n');
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_the_collector_prefers() {
        let prometheus = "application/openmetrics-text;version=1.0.0,\
            application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for accept in [
            prometheus,
            "application/openmetrics-text",
            "application/openmetrics-text; version=\"1.0.0\"; charset=utf-8",
            "text/plain;q=0.5, Application/OpenMetrics-Text;Q=0.6",
            "application/openmetrics-text;version=1.0.0;q=0.4,application/openmetrics-text;q=0.9,\
             text/plain;q=0.5",
        ] {
            assert_eq!(Format::wanted(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "text/plain",
            "text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0;q=0.9",
            "application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=much",
        ] {
            assert_eq!(Format::wanted(accept), Format::PlainText, "{accept}");
        }
    }

    #[test]
    fn plain_text_names_metrics_as_their_samples_are_named() {
        let open_metrics = "# HELP a_bytes All of it.\n# TYPE a_bytes counter\n\
            # UNIT a_bytes bytes\na_bytes_total{b=\"# c\"} 1\n# HELP d D.\n# TYPE d info\n\
            d_info{e=\"f\"} 1\n# HELP g G.\n# TYPE g gauge\ng 2\n# EOF\n";
        let plain = "# HELP a_bytes_total All of it.\n# TYPE a_bytes_total counter\n\
            a_bytes_total{b=\"# c\"} 1\n# HELP d_info D.\n# TYPE d_info gauge\n\
            d_info{e=\"f\"} 1\n# HELP g G.\n# TYPE g gauge\ng 2\n";
        assert_eq!(as_plain_text(open_metrics), plain);
    }
}
