//! The configuration: what was written on the command line, in variables and in a file becomes one
//! [`Settings`], and that one [`Config`] for the server.
//!
//! A flag counts before a variable, a variable before the file, the file before the default. All
//! that is wrong is told at once, each with its place and what to write instead.

mod check;
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
pub(crate) use origin::{Place, Problems};
pub(crate) use show::{plain, show};
pub(crate) use source::Flags;
pub(crate) use table::Fields;
pub(crate) use value::{Count, HostName, LogFormat, Scalar, Site, Size, UpstreamUrl, Value};

use settings::Settings;
use source::Layer;

/// The file, for every command that reads settings.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct FileSources {
    /// A TOML file with settings: each key is a flag's name without the dashes.
    ///
    /// Flags count before variables, variables before the file, the file before the defaults;
    /// `downbeat config` shows each value and where it comes from.
    ///
    /// [variable: `DOWNBEAT_CONFIG`]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

/// Where settings come from.
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
    /// What should be told, and does not keep the server from starting.
    pub warnings: Vec<String>,
}

impl Sources {
    /// Reads everything from where this process can see it.
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
