//! Reads settings as text from the command line, variables and a file.

use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use toml_edit::{Document, Item, Value as Toml};

use super::layer::Layer;
use super::origin::{FileLine, Origin, Problems, did_you_mean};
use super::service;
use super::settings::{SPECS, Spec};
use super::value::Shape;

/// The variable with the path of the file. `--config` wins over it.
pub(crate) const CONFIG_VARIABLE: &str = "DOWNBEAT_CONFIG";
/// The prefix of our variables.
const PREFIX: &str = "DOWNBEAT_";
/// The usual variable for log filters of Rust programs. Used if our own variable is not set.
const RUST_LOG: &str = "RUST_LOG";

/// The settings on the command line. clap flattens them into the arguments of a command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags(pub Layer);

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut layer = Layer::default();
        for spec in SPECS {
            if let Some(texts) = matches.get_many::<String>(spec.name) {
                layer.put(spec.name, texts.cloned().collect(), Origin::Flag(spec.name));
            }
        }
        Ok(Self(layer))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        SPECS.iter().fold(command, |command, spec| command.arg(flag(spec)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(spec: &'static Spec) -> Arg {
    let (short, long) = spec.help_texts();
    let arg = Arg::new(spec.name)
        .long(spec.name)
        .value_name(spec.value_name)
        .help_heading(spec.heading)
        .value_hint(spec.hint)
        .help(short)
        .long_help(long);
    let arg = match spec.shape {
        Shape::One => arg.action(ArgAction::Set),
        Shape::Many => arg.action(ArgAction::Append).value_delimiter(','),
        Shape::Switch => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    };
    if spec.choices.is_empty() {
        return arg;
    }
    // Settings with choices have no `none`, so clap can check the value.
    arg.value_parser(clap::builder::PossibleValuesParser::new(spec.choices))
        .hide_possible_values(spec.shape == Shape::Switch)
}

/// Reads our variables. An unknown variable with our prefix is only a warning, because it may
/// belong to another program.
pub(crate) fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    problems: &mut Problems,
) -> (Layer, Vec<String>) {
    let mut layer = Layer::default();
    let mut warnings = Vec::new();
    let mut rust_log = None;
    for (name, value) in environment {
        let Ok(name) = name.into_string() else { continue };
        if service::is_injected(&name, &value) {
            continue;
        }
        let known = SPECS.iter().find(|spec| spec.variable() == name);
        if known.is_none() && name != RUST_LOG {
            if name.starts_with(PREFIX) && name != CONFIG_VARIABLE {
                let names: Vec<_> = SPECS.iter().map(Spec::variable).collect();
                let meant = did_you_mean(&name, names.iter().map(String::as_str));
                warnings.push(format!("the variable {name} is not a setting{meant}"));
            }
            continue;
        }
        let Ok(value) = value.into_string() else {
            problems.add(&name, "the value is not UTF-8");
            continue;
        };
        // Environment files of Docker and systemd unset a variable this way.
        if value.is_empty() {
            continue;
        }
        match known {
            Some(spec) => {
                let texts = match spec.shape {
                    Shape::Many => value.split(',').map(|text| text.trim().to_owned()).collect(),
                    Shape::One | Shape::Switch => vec![value],
                };
                layer.put(spec.name, texts, Origin::Variable(name));
            }
            None => rust_log = Some(value),
        }
    }
    if let (None, Some(value)) = (layer.get("log"), rust_log)
        && let Some(spec) = SPECS.iter().find(|spec| spec.name == "log")
    {
        layer.put(spec.name, vec![value], Origin::Variable(RUST_LOG.to_owned()));
    }
    (layer, warnings)
}

/// Reads a TOML file whose keys are the settings' names.
pub(crate) fn file(path: &Path, problems: &mut Problems) -> Layer {
    match std::fs::read_to_string(path) {
        Ok(text) => parse_file(path, &text, problems),
        Err(error) => {
            problems.add(path.display(), format_args!("cannot read the file: {error}"));
            Layer::default()
        }
    }
}

pub(crate) fn parse_file(path: &Path, text: &str, problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            problems.syntax(path, text, &error);
            return layer;
        }
    };
    let table = document.as_table();
    for (name, item) in table {
        let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
        let place = FileLine::of(path, text, span.map_or(0, |span| span.start));
        let Some(spec) = SPECS.iter().find(|spec| spec.name == name) else {
            let meant = did_you_mean(name, SPECS.iter().map(|spec| spec.name));
            let hint = if item.is_table_like() && meant.is_empty() {
                "; settings are at the top level of the file, without a [section]"
            } else {
                ""
            };
            problems.add(place, format_args!("`{name}` is not a setting{meant}{hint}"));
            continue;
        };
        match texts(item, spec.shape) {
            Ok(texts) => layer.put(spec.name, texts, Origin::File(place)),
            Err(expected) => problems.add(place, format_args!("{name}: {expected}")),
        }
    }
    layer
}

/// The texts of a value, as on the command line.
pub(super) fn texts(item: &Item, shape: Shape) -> Result<Vec<String>, &'static str> {
    match (item, shape) {
        (Item::Value(Toml::Array(array)), Shape::Many) => {
            let texts = array.iter().map(text);
            texts.collect::<Option<_>>().ok_or("a list must hold strings or numbers")
        }
        (Item::Value(Toml::Array(_)), Shape::One | Shape::Switch) => {
            Err("write one value instead of a list")
        }
        (Item::Value(value), _) => {
            text(value).map(|text| vec![text]).ok_or("write a string, a number, true or false")
        }
        _ => Err("write a value instead of a table"),
    }
}

fn text(value: &Toml) -> Option<String> {
    match value {
        Toml::String(text) => Some(text.value().clone()),
        Toml::Integer(number) => Some(number.value().to_string()),
        Toml::Boolean(choice) => Some(choice.value().to_string()),
        _ => None,
    }
}
