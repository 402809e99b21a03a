//! Reads TOML tables of other files, such as the key file. Problems are reported with their place.

use std::path::Path;

use toml_edit::{Item, Table};

use super::origin::{FileLine, Problems, did_you_mean};
use super::source::texts;
use super::value::Value;

/// The values of one table.
pub(crate) struct Fields<'a> {
    path: &'a Path,
    text: &'a str,
    table: &'a Table,
    problems: &'a mut Problems,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The values of a table in this text.
    pub(crate) fn new(
        path: &'a Path,
        text: &'a str,
        table: &'a Table,
        problems: &'a mut Problems,
    ) -> Self {
        Self { path, text, table, problems, asked: Vec::new() }
    }

    /// The value with this name, if it is present and valid.
    pub(crate) fn get<T: Value>(&mut self, name: &'static str) -> Option<T> {
        self.asked.push(name);
        let item = self.table.get(name)?;
        let value =
            texts(item, T::SHAPE).map_err(str::to_owned).and_then(|texts| T::from_texts(&texts));
        match value {
            Ok(value) => Some(value),
            Err(expected) => {
                let place = self.place(name, item);
                self.problems.add(place, format_args!("{name}: {expected}"));
                None
            }
        }
    }

    /// The value with this name. It is a problem if it is missing.
    pub(crate) fn require<T: Value>(&mut self, name: &'static str, example: &str) -> Option<T> {
        if !self.table.contains_key(name) {
            let place = self.start();
            self.problems.add(place, format_args!("`{name}` is missing; example: {example}"));
        }
        self.get(name)
    }

    /// Adds a problem with a value.
    pub(crate) fn wrong(&mut self, name: &str, what: impl std::fmt::Display) {
        let place = match self.table.get(name) {
            Some(item) => self.place(name, item),
            None => self.start(),
        };
        self.problems.add(place, format_args!("{name}: {what}"));
    }

    /// Adds a problem for each value that was not read.
    pub(crate) fn finish(self) {
        for (name, item) in self.table {
            if !self.asked.contains(&name) {
                let place = self.place(name, item);
                let meant = did_you_mean(name, self.asked.iter().copied());
                self.problems.add(place, format_args!("`{name}` is unknown here{meant}"));
            }
        }
    }

    fn start(&self) -> FileLine {
        let byte = self.table.span().map_or(0, |span| span.start);
        FileLine::of(self.path, self.text, byte)
    }

    fn place(&self, name: &str, item: &Item) -> FileLine {
        let span = self.table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
        FileLine::of(self.path, self.text, span.map_or(0, |span| span.start))
    }
}
