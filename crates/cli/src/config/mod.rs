//! The configuration. Flags, variables and a file are merged into [`Settings`], and checked as a
//! whole to become the [`Config`] of the server.
//!
//! Flags win over variables, variables over the file, and the file over the defaults. All problems
//! are reported at once, each with its place and the expected text.

mod check;
mod layer;
mod origin;
mod service;
mod settings;
mod show;
mod source;
mod table;
mod units;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) use check::{AccessConfig, Config, TlsFiles, byte_rate, rate};
pub(crate) use origin::{FileLine, Problems};
pub(crate) use show::{plain, show};
pub(crate) use source::Flags;
pub(crate) use table::Fields;
pub(crate) use value::{Count, LogFormat, Scalar, Site, Size, UpstreamUrl, Value};

use layer::Layer;
use settings::Settings;

const CONFIG_HELP: &str = "\
TOML file with settings. The keys are the names of the flags.

Flags win over variables, variables over the file, and the file over the defaults. \
`downbeat config` shows each value and its origin.

[env: DOWNBEAT_CONFIG]";

/// The flag `--config`, for every command that reads settings.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct FileSources {
    /// TOML file with settings. The keys are the names of the flags.
    #[arg(long, long_help = CONFIG_HELP, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

/// The sources of settings on a command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Sources {
    #[command(flatten)]
    pub file: FileSources,
    #[command(flatten)]
    pub flags: Flags,
}

/// The configuration as it was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub settings: Settings,
    pub config: Config,
    /// Warnings that do not prevent the start.
    pub warnings: Vec<String>,
}

impl Sources {
    /// Reads flags, the variables of this process, and the file.
    pub(crate) fn load(&self) -> Result<Loaded, Problems> {
        let (settings, warnings) = self.file.resolve(self.flags.0.clone(), std::env::vars_os())?;
        let config = Config::of(&settings)?;
        Ok(Loaded { settings, config, warnings })
    }
}

impl FileSources {
    /// The settings of the file and the variables.
    pub(crate) fn settings(&self) -> Result<Settings, Problems> {
        self.resolve(Layer::default(), std::env::vars_os()).map(|(settings, _)| settings)
    }

    fn resolve(
        &self,
        flags: Layer,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Settings, Vec<String>), Problems> {
        let mut problems = Problems::default();
        let environment: Vec<_> = environment.into_iter().collect();
        let named = environment.iter().find(|(name, _)| name == source::CONFIG_VARIABLE);
        let named = named.map(|(_, value)| PathBuf::from(value));
        let path = self.config.clone().or(named).filter(|path| !path.as_os_str().is_empty());
        let (variables, warnings) = source::variables(environment, &mut problems);
        let file = path.map(|path| source::file(&path, &mut problems)).unwrap_or_default();
        match Settings::resolve(&[flags, variables, file], &mut problems) {
            Some(settings) => problems.or((settings, warnings)),
            None => Err(problems),
        }
    }
}
