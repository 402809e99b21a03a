//! The origin of a value, and the list of problems in a configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use toml_edit::TomlError;

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag on the command line.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// A line of a file.
    File(FileLine),
    /// The default of the setting.
    Default,
}

impl Origin {
    /// The rank of the origin. The value with the highest rank wins.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Flag(_) => 3,
            Self::Variable(_) => 2,
            Self::File(_) => 1,
            Self::Default => 0,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) => f.write_str(name),
            Self::File(place) => place.fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileLine {
    /// The path of the file, as it was given.
    pub path: PathBuf,
    /// The number of the line. The first is 1.
    pub line: usize,
}

impl FileLine {
    /// The line that contains this byte of the file's text.
    pub(crate) fn of(path: &Path, text: &str, byte: usize) -> Self {
        let before = text.as_bytes().iter().take(byte);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Self { path: path.to_owned(), line }
    }
}

impl fmt::Display for FileLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// All problems of a configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    /// Adds a problem and its place.
    pub(crate) fn add(&mut self, place: impl fmt::Display, text: impl fmt::Display) {
        self.0.push(format!("{place}: {text}"));
    }

    /// Adds the problem that a file is not valid TOML.
    pub(crate) fn syntax(&mut self, path: &Path, text: &str, error: &TomlError) {
        let byte = error.span().map_or(0, |span| span.start);
        let said = error.message().trim().replace('\n', ", ");
        self.add(FileLine::of(path, text, byte), format_args!("this is not TOML: {said}"));
    }

    /// A single problem.
    pub(crate) fn one(place: impl fmt::Display, text: impl fmt::Display) -> Self {
        let mut problems = Self::default();
        problems.add(place, text);
        problems
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Ok` if there are no problems.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// `; did you mean X?` if one of the names is similar to the written one.
pub(crate) fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    /// The similarity of `prot` and `port`, or of a name and its cut form.
    const CLOSE: f64 = 0.85;
    let close = names.into_iter().map(|name| (strsim::jaro_winkler(written, name), name));
    match close.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, name)) if likeness >= CLOSE => format!("; did you mean {name}?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_line_counted_from_one() {
        let line = |byte| FileLine::of(Path::new("f"), "ab\ncd\n", byte).line;
        assert_eq!([0, 2, 3, 5, 6, 99].map(line), [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn only_what_is_close_is_meant() {
        let names = ["port", "host", "max-connections"];
        assert_eq!(did_you_mean("prot", names), "; did you mean port?");
        assert_eq!(did_you_mean("max_connections", names), "; did you mean max-connections?");
        assert_eq!(did_you_mean("zebra", names), "");
    }
}
