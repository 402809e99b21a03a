//! The figures of each act in a file, with the machine and the commit, so that acts that do not run
//! again keep their last figures.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::machine;
use crate::plan::Act;

/// The figures of one run of an act. A record is replaced as a whole, because servers are compared
/// only within a record.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The measured commit, with `+` if there were changes.
    pub commit: String,
    /// The date, `YYYY-MM-DD`, in UTC.
    pub date: String,
    /// The machine and the versions.
    pub machine: String,
    /// The number of CoValues in the store, if the act starts with one.
    pub co_values: Option<u64>,
    /// The workloads and their arguments at that time.
    workloads: BTreeMap<String, Vec<String>>,
    /// The figures.
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

    /// The record of the act, if the act has not changed since.
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

    /// Replaces the record of the act.
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
        // The act had other workloads at the time of the record.
        record.write(folder.path(), other).unwrap();
        assert!(Record::read(folder.path(), other).unwrap().is_none());
    }
}
