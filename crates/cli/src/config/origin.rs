//! Where a value was written, and what can be wrong with it.

use std::fmt;
use std::path::{Path, PathBuf};

use toml_edit::TomlError;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// On the command line.
    Flag(&'static str),
    /// In an environment variable.
    Variable(String),
    /// In a file.
    File(Place),
    /// Nowhere.
    Default,
}

impl Origin {
    /// Of two origins, the value of the higher one counts.
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
pub(crate) struct Place {
    /// The file, as it was named.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
}

impl Place {
    /// The line in which a byte of the file's text is.
    pub(crate) fn of(path: &Path, text: &str, byte: usize) -> Self {
        let before = text.as_bytes().iter().take(byte);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Self { path: path.to_owned(), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Everything that is wrong with the configuration: told at once, one line each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    /// Notes what is wrong, and where.
    pub(crate) fn add(&mut self, place: impl fmt::Display, text: impl fmt::Display) {
        self.0.push(format!("{place}: {text}"));
    }

    /// Notes that a file is no TOML.
    pub(crate) fn syntax(&mut self, path: &Path, text: &str, error: &TomlError) {
        let byte = error.span().map_or(0, |span| span.start);
        let said = error.message().trim().replace('\n', ", ");
        self.add(Place::of(path, text, byte), format_args!("this is not TOML: {said}"));
    }

    /// One problem alone.
    pub(crate) fn one(place: impl fmt::Display, text: impl fmt::Display) -> Self {
        let mut problems = Self::default();
        problems.add(place, text);
        problems
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Ok` when there is nothing wrong.
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

/// `; did you mean X?` when one of the names is close to what was written.
pub(crate) fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    /// As alike as `prot` and `port`, or a name with its end cut off.
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
        let line = |byte| Place::of(Path::new("f"), "ab\ncd\n", byte).line;
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
