//! The figures of each act, kept as a file, so that acts which are not played again keep what was
//! measured last, with what it was measured on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::machine;
use crate::plan::Act;

/// What one run of an act has measured. Servers are compared within a record and never across:
/// a record is replaced as a whole.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The commit that was measured, with `+` if there were changes on top of it.
    pub commit: String,
    /// The day, `YYYY-MM-DD`, UTC.
    pub date: String,
    /// What it ran on.
    pub machine: String,
    /// CoValues in the store, if the act begins with one.
    pub co_values: Option<u64>,
    /// The workloads with their arguments as they were then.
    workloads: BTreeMap<String, Vec<String>>,
    /// What was measured.
    pub figures: Figures,
}

impl Record {
    pub(crate) fn new(act: &Act, co_values: Option<u64>) -> Self {
        Self {
            commit: machine::commit(),
            date: machine::today(),
            machine: machine::describe(),
            co_values,
            workloads: workloads(act),
            figures: Figures::default(),
        }
    }

    /// What was last kept of the act, if it is still played as it was then.
    pub(crate) fn read(folder: &Path, act: &Act) -> Result<Option<Self>> {
        let path = path(folder, act);
        if !path.exists() {
            return Ok(None);
        }
        let text = crate::read(&path)?;
        let record: Self =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        Ok((record.workloads == workloads(act)).then_some(record))
    }

    /// Replaces what was kept of the act.
    pub(crate) fn write(&self, folder: &Path, act: &Act) -> Result<()> {
        let path = path(folder, act);
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        fs::write(&path, text).with_context(|| path.display().to_string())
    }
}

fn path(folder: &Path, act: &Act) -> PathBuf {
    folder.join("benchmarks").join("figures").join(format!("{}.json", act.name))
}

fn workloads(act: &Act) -> BTreeMap<String, Vec<String>> {
    let owned = |arguments: &[&str]| arguments.iter().map(|&word| word.to_owned()).collect();
    act.workloads().map(|workload| (workload.name.to_owned(), owned(workload.arguments))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    #[test]
    fn what_was_kept_of_an_act_is_read_until_the_act_changes() {
        let folder = tempfile::tempdir().unwrap();
        let [act, other] = [&plan::ACTS[0], &plan::ACTS[1]];
        assert!(Record::read(folder.path(), act).unwrap().is_none());
        let record = Record::new(act, Some(7));
        record.write(folder.path(), act).unwrap();
        let read = Record::read(folder.path(), act).unwrap().unwrap();
        assert_eq!((read.commit, read.co_values), (record.commit.clone(), Some(7)));
        // As if the act had had other workloads when it was measured.
        record.write(folder.path(), other).unwrap();
        assert!(Record::read(folder.path(), other).unwrap().is_none());
    }
}
