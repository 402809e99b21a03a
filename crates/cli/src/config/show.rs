//! The output of `downbeat config`: every value and its origin.

use serde_json::{Map, Value as Json, json};

use super::Loaded;

/// The text or JSON of all settings.
pub(crate) fn show(loaded: &Loaded, as_json: bool) -> String {
    let shown = loaded.settings.shown();
    if as_json {
        let members = shown.into_iter().map(|line| {
            (line.name.to_owned(), json!({ "value": line.value, "from": line.origin.to_string() }))
        });
        return format!("{:#}\n", Json::Object(members.collect::<Map<_, _>>()));
    }
    let lines: Vec<_> = shown
        .into_iter()
        .map(|line| (line.name, plain(&line.value), line.origin.to_string()))
        .collect();
    let width = |of: fn(&(&str, String, String)) -> usize| lines.iter().map(of).max().unwrap_or(0);
    let (names, values) = (width(|line| line.0.len()), width(|line| line.1.len()));
    let line = |(name, value, origin): &(&str, String, String)| {
        format!("{name:names$}  {value:values$}  {origin}\n")
    };
    lines.iter().map(line).collect()
}

/// A value as plain text.
pub(crate) fn plain(value: &Json) -> String {
    match value {
        Json::Null => "none".to_owned(),
        Json::String(text) => text.clone(),
        Json::Array(items) if items.is_empty() => "none".to_owned(),
        Json::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
