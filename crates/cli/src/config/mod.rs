//! The configuration: what was written on the command line, in variables and in a file becomes one
//! [`Settings`], and that one [`Config`] for the server.
//!
//! A flag counts before a variable, a variable before the file, the file before the default. All
//! that is wrong is told at once, each with its place and what to write instead.

mod check;
mod origin;
mod settings;
mod show;
mod source;
mod units;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) use check::Config;
pub(crate) use origin::{Place, Problems};
pub(crate) use show::show;
pub(crate) use source::Flags;
pub(crate) use value::LogFormat;

use settings::Settings;

/// Where settings come from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Sources {
    /// A TOML file with settings: each key is a flag's name without the dashes.
    ///
    /// Flags count before variables, variables before the file, the file before the defaults;
    /// `downbeat config` shows each value and where it comes from.
    ///
    /// [variable: DOWNBEAT_CONFIG]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
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
        self.load_with(std::env::vars_os())
    }

    fn load_with(
        &self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, Problems> {
        let mut problems = Problems::default();
        let environment: Vec<_> = environment.into_iter().collect();
        let named = environment.iter().find(|(name, _)| name == source::CONFIG_VARIABLE);
        let path = self.config.clone().or_else(|| {
            named.map(|(_, value)| value.into()).filter(|path: &PathBuf| path != "")
        });
        let (variables, warnings) = source::variables(environment, &mut problems);
        let file = path.map(|path| source::file(&path, &mut problems)).unwrap_or_default();
        let layers = [self.flags.0.clone(), variables, file];
        let settings = Settings::resolve(&layers, &mut problems);
        let Some(settings) = settings.filter(|_| problems.is_empty()) else {
            return Err(problems);
        };
        let config = Config::of(&settings)?;
        Ok(Loaded { settings, config, warnings })
    }
}
