//! All settings, each defined once: from this come the flag, the variable, the key of the file,
//! the help text, and what `downbeat config` shows.

use clap::ValueHint;
use downbeat_protocol::CoValueId;
use downbeat_transport::net::{ForwardedHeader, Network};
use serde_json::Value as Json;

use super::origin::{Origin, Problems};
use super::source::Layer;
use super::value::{
    AccessMode, Count, Host, HostName, LogFilter, LogFormat, Shape, Site, Size, Time, UpstreamUrl,
    Value,
};
use crate::storage::{DurabilityChoice, StorageChoice};

/// What is known of a setting before anybody has written it.
#[derive(Debug)]
pub(crate) struct Spec {
    pub name: &'static str,
    pub value_name: &'static str,
    pub heading: &'static str,
    /// The lines of its description. The first paragraph is the short help.
    help: &'static [&'static str],
    /// As it would be written; empty where it is a list or can be missing.
    default: &'static str,
    pub shape: Shape,
    pub choices: &'static [&'static str],
    pub hint: ValueHint,
}

impl Spec {
    /// The variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("DOWNBEAT_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// The short and the long help of its flag.
    pub(crate) fn help_texts(&self) -> (String, String) {
        let text: Vec<_> = self.help.iter().map(|line| line.trim()).collect();
        let text = text.join("\n");
        let paragraphs: Vec<_> =
            text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        let first = paragraphs.first().map_or("", |first| first.trim_end_matches('.'));
        let all = paragraphs.join("\n\n");
        let default = match (self.default, self.shape) {
            ("", _) | (_, Shape::Switch) => String::new(),
            (text, _) => format!(" [default: {text}]"),
        };
        let variable = self.variable();
        (format!("{first}{default}"), format!("{all}\n\n[variable: {variable}]{default}"))
    }

    fn default_texts(&self) -> Vec<String> {
        match self.default {
            "" => Vec::new(),
            text => vec![text.to_owned()],
        }
    }
}

/// A setting's value, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub value: T,
    pub origin: Origin,
}

/// One line of what `downbeat config` shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shown {
    pub name: &'static str,
    pub value: Json,
    pub origin: Origin,
}

macro_rules! settings {
    ($(
        $heading:literal {
            $($(#[doc = $help:literal])+ $field:ident ($name:literal, $value_name:literal): $kind:ty = $default:literal;)+
        }
    )+) => {
        /// Every setting with its value.
        #[derive(Debug, Clone)]
        pub(crate) struct Settings {
            $($($(#[doc = $help])+ pub $field: Setting<$kind>,)+)+
        }

        /// Every setting, in the order of the help.
        pub(crate) const SPECS: &[Spec] = &[$($(Spec {
            name: $name,
            value_name: $value_name,
            heading: $heading,
            help: &[$($help),+],
            default: $default,
            shape: <$kind as Value>::SHAPE,
            choices: <$kind as Value>::CHOICES,
            hint: <$kind as Value>::HINT,
        },)+)+];

        impl Settings {
            /// Takes each value from the first layer that has it.
            pub(crate) fn resolve(layers: &[Layer], problems: &mut Problems) -> Option<Self> {
                // All are read before any is missed, so that all that is wrong is told.
                $($(let $field = resolve_one::<$kind>($name, layers, problems);)+)+
                Some(Self { $($($field: $field?,)+)+ })
            }

            /// Every setting as it is shown.
            pub(crate) fn shown(&self) -> Vec<Shown> {
                vec![$($(Shown {
                    name: $name,
                    value: Value::json(&self.$field.value),
                    origin: self.$field.origin.clone(),
                },)+)+]
            }
        }
    };
}

settings! {
    "Listening" {
        /// The address to listen on; `0.0.0.0` or `::` for all of this machine's.
        host("host", "IP"): Host = "127.0.0.1";
        /// The port to listen on; 0 takes a free one.
        port("port", "PORT"): u16 = "4200";
        /// The port for other Downbeat servers, which sync faster over TCP (`tcp://`) than over
        /// WebSocket; 0 takes a free one. Off if not set.
        ///
        /// It has the host, certificate, keys and limits of the WebSocket port.
        tcp_port("tcp-port", "PORT"): Option<u16> = "";
        /// The certificate chain for TLS, a PEM file. Changes count within two seconds.
        tls_cert("tls-cert", "FILE"): Option<std::path::PathBuf> = "";
        /// The private key of the certificate, a PEM file. Changes count within two seconds.
        tls_key("tls-key", "FILE"): Option<std::path::PathBuf> = "";
    }
    "Storage" {
        /// Where data is kept: `memory`, `sled:DIR`, or `sqlite:FILE`, as the reference server
        /// keeps it.
        storage("storage", "STORAGE"): StorageChoice = "sled:./downbeat-data";
        /// Keep data in memory: the same as `--storage memory`.
        in_memory("in-memory", "BOOL"): bool = "false";
        /// Keep data in a SQLite file as the reference server does: the same as
        /// `--storage sqlite:FILE`.
        db("db", "FILE"): Option<std::path::PathBuf> = "";
        /// When content is acknowledged to its author: `safe`, when it is on disk; or `relaxed`,
        /// when it is in memory, from where it is flushed within 0.2 s.
        ///
        /// With `safe`, nothing that was acknowledged is lost when the machine crashes. `relaxed`
        /// is faster on slow disks; a crash loses up to 0.2 s of what was acknowledged.
        durability("durability", "WHEN"): DurabilityChoice = "safe";
        /// Memory that the server is to take; it keeps more CoValues and content at hand with more.
        ///
        /// Half of it is for what is known of CoValues, an eighth for the store's cache, a
        /// sixteenth for content, and the rest for connections and what is under way.
        memory_budget("memory-budget", "SIZE"): Size = "1GiB";
    }
    "Access" {
        /// Who may use the server: `open`, everybody who can reach it; `keys`, who brings a key of
        /// the file of --keys; or `accounts`, everybody may connect, and only content of the listed
        /// accounts is stored.
        access("access", "WHO"): AccessMode = "open";
        /// The key file, for `--access keys`. `downbeat key add NAME` adds keys to it; changes
        /// count within two seconds.
        keys("keys", "FILE"): Option<std::path::PathBuf> = "";
        /// A file with the ids of accounts, one on each line, for `--access accounts`. Changes count
        /// within two seconds.
        accounts("accounts", "FILE"): Option<std::path::PathBuf> = "";
        /// The id of an account, for `--access accounts`, besides those of the file. Can be given
        /// several times.
        account("account", "ID"): Vec<CoValueId> = "";
        /// A site whose pages may connect, as `https://app.example.com`, or `https://*.example.com` for
        /// all sites below a domain; every site if none is given. Can be given several times.
        ///
        /// Browsers say which site a page is from, and only they do: what other programs may do is
        /// chosen by --access.
        allowed_origin("allowed-origin", "SITE"): Vec<Site> = "";
        /// A proxy in front of the server, as `127.0.0.1` or `10.0.0.0/8`, whose word on a client's
        /// address is taken. Can be given several times.
        trusted_proxy("trusted-proxy", "NETWORK"): Vec<Network> = "";
        /// The header in which the trusted proxies write a client's address.
        proxy_header("proxy-header", "HEADER"): ForwardedHeader = "x-forwarded-for";
    }
    "Limits" {
        /// Connections in all.
        max_connections("max-connections", "N"): Count = "20000";
        /// Connections from one IPv4 address, or from one /64 network of IPv6.
        max_connections_per_address("max-connections-per-address", "N"): Count = "1000";
        /// Bytes in one message; a client that sends more is closed.
        max_message_size("max-message-size", "SIZE"): Size = "32MiB";
        /// Messages a second from one connection; beyond that it is read more slowly.
        messages_per_second("messages-per-second", "N"): Option<Count> = "10000";
        /// Bytes a second from one connection; beyond that it is read more slowly.
        bytes_per_second("bytes-per-second", "SIZE"): Option<Size> = "64MiB";
        /// How long a connection may be read more slowly without a rest, before it is closed.
        rate_patience("rate-patience", "TIME"): Time = "5m";
        /// CoValues that one connection may be subscribed to; one that asks for more is closed.
        max_subscriptions("max-subscriptions", "N"): Count = "1000000";
        /// Messages a second from all connections with the same key together, where the key file
        /// says nothing else.
        key_messages_per_second("key-messages-per-second", "N"): Option<Count> = "";
        /// Bytes a second from all connections with the same key together, where the key file says
        /// nothing else.
        key_bytes_per_second("key-bytes-per-second", "SIZE"): Option<Size> = "";
        /// Bytes stored for one key, where the key file says nothing else; content beyond that is
        /// refused.
        max_stored_per_key("max-stored-per-key", "SIZE"): Option<Size> = "";
        /// Bytes stored for one account, with `--access accounts`; content beyond that is refused.
        max_stored_per_account("max-stored-per-account", "SIZE"): Option<Size> = "";
    }
    "Upstreams" {
        /// A server to sync with, as `wss://sync.example.com/?key=KEY`, or
        /// `tcps://sync.example.com:4202?key=KEY` for the `--tcp-port` of a Downbeat server. CoValues
        /// that are missing here are loaded from it, and new content is sent to it. Can be given
        /// several times.
        upstream("upstream", "URL"): Vec<UpstreamUrl> = "";
        /// Certificates of authorities that vouch for upstreams, a PEM file, besides those that every
        /// browser trusts.
        upstream_ca("upstream-ca", "FILE"): Option<std::path::PathBuf> = "";
        /// With how many of the upstreams each CoValue is synced; all of them if this is not given.
        upstreams_per_covalue("upstreams-per-covalue", "N"): Option<Count> = "";
        /// Compare everything in storage with each upstream when it is connected.
        full_storage_reconciliation("full-storage-reconciliation", "BOOL"): bool = "false";
    }
    "Operations" {
        /// The port of the status page, /metrics and /ready; 0 takes a free one. Without it there
        /// is no such port, and nothing of it is on the public one, save /health and /ready.
        admin_port("admin-port", "PORT"): Option<u16> = "";
        /// The address of the admin port. Whoever can reach it can read all figures.
        admin_host("admin-host", "IP"): Host = "127.0.0.1";
        /// A name by which the admin port may be called, as `sync.internal`, besides `localhost` and
        /// addresses. Can be given several times.
        ///
        /// Requests under other names are refused: a page of a foreign site could read the figures
        /// through a browser, if the site's name stood for the address of this machine.
        admin_allowed_host("admin-allowed-host", "NAME"): Vec<HostName> = "";
        /// How long a stop may take to finish what was taken in.
        drain_time("drain-time", "TIME"): Time = "20s";
    }
    "Logs" {
        /// How log lines look: `text`, or `json` with one object a line.
        log_format("log-format", "FORMAT"): LogFormat = "text";
        /// Which log lines are written: a level, or directives like `info,downbeat_node=debug`.
        ///
        /// Where nothing else is said, the variable `RUST_LOG` counts as well.
        log("log", "FILTER"): LogFilter = "info";
    }
}

fn resolve_one<T: Value>(
    name: &'static str,
    layers: &[Layer],
    problems: &mut Problems,
) -> Option<Setting<T>> {
    let written = layers.iter().find_map(|layer| layer.get(name));
    let (texts, origin) = if let Some(written) = written {
        (written.texts.clone(), written.origin.clone())
    } else {
        let spec = SPECS.iter().find(|spec| spec.name == name)?;
        (spec.default_texts(), Origin::Default)
    };
    match T::from_texts(&texts) {
        Ok(value) => Some(Setting { value, origin }),
        Err(error) => {
            match &origin {
                // There the place does not name the setting.
                Origin::File(place) => problems.add(place, format_args!("{name}: {error}")),
                _ => problems.add(&origin, error),
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_read() {
        let mut problems = Problems::default();
        assert!(Settings::resolve(&[], &mut problems).is_some(), "{problems}");
    }

    #[test]
    fn every_setting_has_a_name_of_its_own() {
        let mut names: Vec<_> = SPECS.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SPECS.len());
    }

    #[test]
    fn the_help_has_a_short_and_a_long_form() {
        let spec = SPECS.iter().find(|spec| spec.name == "durability").unwrap();
        let (short, long) = spec.help_texts();
        assert!(short.starts_with("When content") && short.ends_with("[default: safe]"), "{short}");
        assert!(!short.contains("crash") && long.contains("crash"));
        assert!(long.contains("[variable: DOWNBEAT_DURABILITY]"));
    }
}
