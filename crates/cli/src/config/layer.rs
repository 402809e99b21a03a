//! The texts of the settings from one kind of source: the command line, variables or a file.

use std::collections::BTreeMap;

use super::origin::Origin;

/// The settings from one kind of source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layer(BTreeMap<&'static str, Written>);

/// The text of one setting.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub texts: Vec<String>,
    pub origin: Origin,
}

impl Layer {
    pub(crate) fn get(&self, name: &str) -> Option<&Written> {
        self.0.get(name)
    }

    pub(crate) fn put(&mut self, name: &'static str, texts: Vec<String>, origin: Origin) {
        self.0.insert(name, Written { texts, origin });
    }
}
