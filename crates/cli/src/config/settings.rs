//! The table of all settings. Flags, variables, keys of the file, help texts and the output of
//! `downbeat config` are derived from it.

use clap::ValueHint;
use downbeat_protocol::CoValueId;
use downbeat_transport::net::{ForwardedHeader, Network};
use serde_json::Value as Json;

use super::layer::Layer;
use super::origin::{Origin, Problems};
use super::value::{
    AccessMode, Count, Host, HostName, LogFilter, LogFormat, Shape, Site, Size, Time, UpstreamUrl,
    Value,
};
use crate::storage::{DurabilityChoice, StorageChoice, StorageFormat};

/// The definition of a setting.
#[derive(Debug)]
pub(crate) struct Spec {
    pub name: &'static str,
    pub value_name: &'static str,
    pub heading: &'static str,
    /// The lines of the description. The first paragraph is the short help.
    help: &'static [&'static str],
    /// The default as text; empty for lists and optional settings.
    default: &'static str,
    pub shape: Shape,
    pub choices: &'static [&'static str],
    pub hint: ValueHint,
}

impl Spec {
    /// The name of its environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("DOWNBEAT_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// The short and the long help of its flag, with the variable and the default as clap shows
    /// them.
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
        (format!("{first}{default}"), format!("{all}\n\n[env: {variable}]{default}"))
    }

    fn default_texts(&self) -> Vec<String> {
        match self.default {
            "" => Vec::new(),
            text => vec![text.to_owned()],
        }
    }
}

/// The value of a setting, and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub value: T,
    pub origin: Origin,
}

/// One line of the output of `downbeat config`.
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
            /// Takes each value from the first layer that has one.
            pub(crate) fn resolve(layers: &[Layer], problems: &mut Problems) -> Option<Self> {
                // All settings are read before the first error returns, so that all problems are
                // reported.
                $($(let $field = resolve_one::<$kind>($name, layers, problems);)+)+
                Some(Self { $($($field: $field?,)+)+ })
            }

            /// Every setting as `downbeat config` shows it.
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
        /// IP address to listen on. `0.0.0.0` and `::` listen on all addresses of this machine.
        host("host", "IP"): Host = "127.0.0.1";
        /// Port to listen on. 0 chooses a free port.
        port("port", "PORT"): u16 = "4200";
        /// TCP port for other Downbeat servers. TCP costs less than WebSocket between servers. 0
        /// chooses a free port. Default: off.
        ///
        /// The host, certificate, access keys and limits are those of the WebSocket port.
        tcp_port("tcp-port", "PORT"): Option<u16> = "";
        /// PEM file with the TLS certificate chain. Changes take effect within two seconds.
        tls_cert("tls-cert", "FILE"): Option<std::path::PathBuf> = "";
        /// PEM file with the private key of the certificate. Changes take effect within two
        /// seconds.
        tls_key("tls-key", "FILE"): Option<std::path::PathBuf> = "";
    }
    "Storage" {
        /// Storage: `memory`, `data:DIR`, `sqlite:FILE` or `sled:DIR`.
        ///
        /// `data:DIR` is the file `downbeat.db` in DIR; if DIR has a sled store, it is that store.
        storage("storage", "STORAGE"): StorageChoice = "data:./downbeat-data";
        /// Keep data in memory only. Same as `--storage memory`.
        in_memory("in-memory", "BOOL"): bool = "false";
        /// Keep data in a SQLite file, like the reference server. Same as `--storage sqlite:FILE`.
        db("db", "FILE"): Option<std::path::PathBuf> = "";
        /// Format of a new SQLite file: `reference`, which the reference server can use too; or
        /// `native`, which is faster and has checksums, for Downbeat only.
        ///
        /// In a data directory, the default is `native`.
        /// An existing file keeps its format. If this setting names another one, the server does
        /// not start.
        storage_format("storage-format", "FORMAT"): StorageFormat = "reference";
        /// When content is acknowledged: `safe`, after it is on disk; or `relaxed`, up to 0.2 s
        /// earlier.
        ///
        /// With `safe`, a crash loses no acknowledged content. `relaxed` is faster on slow disks,
        /// but a crash loses up to 0.2 s of acknowledged content.
        durability("durability", "WHEN"): DurabilityChoice = "safe";
        /// Target memory use. A larger budget caches more CoValues and content.
        ///
        /// `docs/operations.md` lists the shares, and the memory that it does not cover.
        memory_budget("memory-budget", "SIZE"): Size = "1GiB";
    }
    "Access" {
        /// Who may use the server. `open`: every client. `keys`: only clients with a key from the
        /// `--keys` file. `accounts`: every client may connect, but only content of the listed
        /// accounts is stored.
        access("access", "WHO"): AccessMode = "open";
        /// Key file for `--access keys`. `downbeat key add NAME` adds keys to it. Changes take
        /// effect within two seconds.
        keys("keys", "FILE"): Option<std::path::PathBuf> = "";
        /// File with account ids for `--access accounts`, one per line. Changes take effect within
        /// two seconds.
        accounts("accounts", "FILE"): Option<std::path::PathBuf> = "";
        /// Account id for `--access accounts`, in addition to the file. Repeatable.
        account("account", "ID"): Vec<CoValueId> = "";
        /// Web site whose pages may connect: `https://app.example.com`, or `https://*.example.com`
        /// for all subdomains. Default: all sites. Repeatable.
        ///
        /// Only browsers send the site of a page. Use --access to restrict other programs.
        allowed_origin("allowed-origin", "SITE"): Vec<Site> = "";
        /// Address or network of a proxy that is trusted to report client addresses: `127.0.0.1`,
        /// `10.0.0.0/8`. Repeatable.
        trusted_proxy("trusted-proxy", "NETWORK"): Vec<Network> = "";
        /// Header in which trusted proxies report the client address.
        proxy_header("proxy-header", "HEADER"): ForwardedHeader = "x-forwarded-for";
    }
    "Limits" {
        /// Maximum number of connections.
        max_connections("max-connections", "N"): Count = "20000";
        /// Maximum number of connections from one IPv4 address or one IPv6 /64 network.
        max_connections_per_address("max-connections-per-address", "N"): Count = "1000";
        /// Maximum size of a message. A client that sends a larger one is disconnected.
        max_message_size("max-message-size", "SIZE"): Size = "16MiB";
        /// Messages per second from one connection. Above that, it is slowed down.
        messages_per_second("messages-per-second", "N"): Option<Count> = "10000";
        /// Bytes per second from one connection. Above that, it is slowed down.
        bytes_per_second("bytes-per-second", "SIZE"): Option<Size> = "64MiB";
        /// Messages per second from all connections of one IPv4 address or one IPv6 /64 network.
        address_messages_per_second("address-messages-per-second", "N"): Option<Count> = "100000";
        /// Bytes per second from all connections of one IPv4 address or one IPv6 /64 network.
        address_bytes_per_second("address-bytes-per-second", "SIZE"): Option<Size> = "640MiB";
        /// How long a connection may stay slowed down before it is closed.
        rate_patience("rate-patience", "TIME"): Time = "5m";
        /// Maximum number of subscriptions of one connection. A connection that asks for more is
        /// closed.
        max_subscriptions("max-subscriptions", "N"): Count = "500000";
        /// Messages per second from all connections of a key. The key file overrides it.
        key_messages_per_second("key-messages-per-second", "N"): Option<Count> = "";
        /// Bytes per second from all connections of a key. The key file overrides it.
        key_bytes_per_second("key-bytes-per-second", "SIZE"): Option<Size> = "";
        /// Storage quota of a key; content above it is refused. The key file overrides it.
        max_stored_per_key("max-stored-per-key", "SIZE"): Option<Size> = "";
        /// Storage quota of an account, for `--access accounts`. Content above it is refused.
        max_stored_per_account("max-stored-per-account", "SIZE"): Option<Size> = "";
    }
    "Upstreams" {
        /// URL of a server to sync with: `wss://sync.example.com/?key=KEY`, or
        /// `tcps://sync.example.com:4202?key=KEY` for the `--tcp-port` of a Downbeat server.
        /// Missing CoValues are loaded from it, and new content is sent to it. Repeatable.
        ///
        /// Write a URL with a key to the configuration file or to the variable
        /// `DOWNBEAT_UPSTREAM`: other users of the machine can read the command line, and the shell
        /// keeps it in its history.
        upstream("upstream", "URL"): Vec<UpstreamUrl> = "";
        /// PEM file with additional certificate authorities for upstreams. Public authorities are
        /// always trusted.
        upstream_ca("upstream-ca", "FILE"): Option<std::path::PathBuf> = "";
        /// Number of upstreams that each CoValue is synced with. Default: all.
        upstreams_per_covalue("upstreams-per-covalue", "N"): Option<Count> = "";
        /// Compare the whole storage with each upstream when it connects.
        full_storage_reconciliation("full-storage-reconciliation", "BOOL"): bool = "false";
    }
    "Operations" {
        /// Port of the status page, /metrics and /ready. 0 chooses a free port. Default: no admin
        /// port; the public port only answers /health and /ready.
        admin_port("admin-port", "PORT"): Option<u16> = "";
        /// IP address of the admin port. The port has no login: every client that can reach it can
        /// read all metrics.
        admin_host("admin-host", "IP"): Host = "127.0.0.1";
        /// Host name of the admin port: `sync.internal`. `localhost` and IP addresses are always
        /// allowed. Repeatable.
        ///
        /// Requests with other host names are refused. Otherwise a web site whose name resolves to
        /// this machine could read the metrics through a browser (DNS rebinding).
        admin_allowed_host("admin-allowed-host", "NAME"): Vec<HostName> = "";
        /// Time limit for storing received content during a shutdown.
        drain_time("drain-time", "TIME"): Time = "20s";
    }
    "Logs" {
        /// Format of log lines: `text`, or `json` with one object per line.
        log_format("log-format", "FORMAT"): LogFormat = "text";
        /// Log filter: a level, or directives like `info,downbeat_node=debug`.
        ///
        /// If it is not set, the variable `RUST_LOG` is used.
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
                // A line number does not name the setting.
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
        assert!(long.contains("[env: DOWNBEAT_DURABILITY]"));
    }
}
