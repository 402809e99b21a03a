//! The sources of settings, and the messages about invalid ones.

use std::path::Path;
use std::process::Output;

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::program::{Server, downbeat, run, stderr, stdout, text};

/// `downbeat config --json` with a file of this text.
fn config(file: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Json {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("downbeat.toml");
    std::fs::write(&path, file).unwrap();
    let output = downbeat()
        .args(["config", "--json", "--config", text(&path)])
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn from(config: &Json, name: &str) -> (Json, String) {
    let setting = &config[name];
    let from = setting["from"].as_str().unwrap();
    let file = Path::new(from).file_name().unwrap().to_str().unwrap();
    (setting["value"].clone(), file.to_owned())
}

#[test]
fn a_flag_counts_before_a_variable_before_the_file_before_the_default() {
    let file = "# comment\nport = 1\nhost = \"::1\"\n";
    let one = |variables: &[_], arguments: &[_]| from(&config(file, variables, arguments), "port");
    let of = |value: u16, from: &str| (Json::from(value), from.to_owned());
    assert_eq!(one(&[("DOWNBEAT_PORT", "2")], &["--port", "3"]), of(3, "--port"));
    assert_eq!(one(&[("DOWNBEAT_PORT", "2")], &[]), of(2, "DOWNBEAT_PORT"));
    assert_eq!(one(&[("DOWNBEAT_PORT", "")], &[]), of(1, "downbeat.toml:2"));
    assert_eq!(from(&config("", &[], &[]), "port"), of(4200, "default"));
}

#[test]
fn lists_switches_and_numbers_can_be_written_everywhere() {
    let file = "upstream = [\"ws://a\", \"ws://b\"]\nin-memory = true\nmax-connections = 5\n";
    let config = config(
        file,
        &[("DOWNBEAT_ALLOWED_ORIGIN", "https://a.example, https://b.example")],
        &["--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "::1"],
    );
    assert_eq!(config["upstream"]["value"], serde_json::json!(["ws://a", "ws://b"]));
    assert_eq!(config["in-memory"]["value"], true);
    assert_eq!(config["max-connections"]["value"], 5);
    let sites = serde_json::json!(["https://a.example", "https://b.example"]);
    assert_eq!(config["allowed-origin"]["value"], sites);
    assert_eq!(config["trusted-proxy"]["value"], serde_json::json!(["10.0.0.0/8", "::1/128"]));
}

#[test]
fn the_keys_of_upstreams_are_not_shown() {
    let output = run(&["config", "--upstream", "wss://a.example/?key=secret"]);
    assert!(stdout(&output).contains("wss://a.example/?***"), "{}", stdout(&output));
    assert!(!stdout(&output).contains("secret"));
}

#[test]
fn the_three_ways_to_name_a_storage_count_by_where_they_stand() {
    let storage = |file, arguments: &[_]| {
        let output = serve_briefly(file, arguments);
        (output.status.code(), stderr(&output))
    };
    // A missing certificate ends the server before it opens the store.
    let (code, said) = storage("in-memory = true\n", &["--storage", "sled:x"]);
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = storage("in-memory = true\nstorage = \"sled:x\"\n", &[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("downbeat.toml:1: `in-memory` contradicts `storage`"), "{said}");
}

#[test]
fn a_storage_of_a_higher_rank_replaces_the_format_too() {
    // A missing certificate ends the server before it opens the store.
    let file = "db = \"x.db\"\nstorage-format = \"native\"\n";
    for arguments in [&[][..], &["--in-memory"], &["--storage-format", "reference"]] {
        let output = serve_briefly(file, arguments);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    }
}

#[test]
fn a_new_sqlite_file_gets_the_format_of_the_setting_and_keeps_it() {
    let dir = TempDir::new().unwrap();
    let serve = |file: &str, format: &[&str]| {
        let mut command = downbeat();
        command.args(["serve", "--port", "0", "--db", file]).args(format).current_dir(dir.path());
        command
    };
    let native = ["--storage-format", "native"];
    for (file, format, name) in
        [("a.db", &[][..], "reference"), ("b.db", &native, "native"), ("b.db", &[], "native")]
    {
        let mut server = Server::spawn(&mut serve(file, format));
        let kept = format!("Data is kept in sqlite:{file} ({name} format)");
        assert!(server.said.contains(&kept), "{}", server.said);
        server.signal("TERM");
        assert!(server.ended().success());
    }
    let before = std::fs::read(dir.path().join("a.db")).unwrap();
    let output = serve("a.db", &native).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let expected = "a.db has the format `reference`, but `storage-format` is `native`";
    assert!(said.contains(expected), "{said}");
    assert_eq!(std::fs::read(dir.path().join("a.db")).unwrap(), before);
    let output = serve("b.db", &["--storage-format", "reference"]).output().unwrap();
    assert!(stderr(&output).contains("b.db has the format `native`"), "{}", stderr(&output));
}

fn serve_briefly(file: &str, arguments: &[&str]) -> Output {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("downbeat.toml"), file).unwrap();
    downbeat()
        .args(["serve", "--port", "0", "--config", "downbeat.toml"])
        .args(["--tls-cert", "none.pem", "--tls-key", "none.key"])
        .args(arguments)
        .current_dir(dir.path())
        .output()
        .unwrap()
}

#[test]
fn what_is_wrong_in_a_file_is_said_with_its_line_and_what_to_write() {
    said_to_be_wrong(&[
        ("prot = 1", &[], "downbeat.toml:1: `prot` is not a setting; did you mean port?"),
        ("\n\nport = \"http\"", &[], "downbeat.toml:3: port: \"http\" is not valid: write a port"),
        ("port = 70000", &[], "downbeat.toml:1: port: \"70000\" is not valid"),
        ("port = [1]", &[], "downbeat.toml:1: port: write one value instead of a list"),
        ("port = 1.5", &[], "downbeat.toml:1: port: write a string, a number, true or false"),
        (
            "[limits]\nmax = 1",
            &[],
            "downbeat.toml:1: `limits` is not a setting; settings are at the top",
        ),
        ("[server]\nport = 1", &[], "downbeat.toml:1: `server` is not a setting"),
        ("port = 1\nport = 2", &[], "downbeat.toml:2: this is not TOML"),
        ("host = localhost", &[], "downbeat.toml:1: this is not TOML"),
        ("upstream = [1.5]", &[], "downbeat.toml:1: upstream: a list must hold strings or numbers"),
        ("upstream = \"sync.example.com\"", &[], "write a URL like wss://sync.example.com"),
        (
            "memory-budget = \"lots\"",
            &[],
            "downbeat.toml:1: memory-budget: \"lots\" is not valid: write a size",
        ),
        (
            "drain-time = 20",
            &[],
            "downbeat.toml:1: drain-time: \"20\" is not valid: write a time, like 20s",
        ),
        (
            "access = \"private\"",
            &[],
            "downbeat.toml:1: access: \"private\" is not valid: write open, keys or accounts",
        ),
        ("log = \"=\"", &[], "downbeat.toml:1: log: \"=\" is not valid: write a level"),
    ]);
}

#[test]
fn what_is_wrong_on_the_command_line_is_said_with_what_to_write() {
    said_to_be_wrong(&[
        (
            "",
            &["--host", "example.com"],
            "--host: \"example.com\" is not valid: write an IP address",
        ),
        ("", &["--storage", "rocks:x"], "--storage: \"rocks:x\" is not valid"),
        (
            "",
            &["--trusted-proxy", "10.0.0.0/99"],
            "--trusted-proxy: \"10.0.0.0/99\" is not valid: write an address or a network",
        ),
        (
            "",
            &["--allowed-origin", "*"],
            "--allowed-origin: \"*\" is not valid: write a site like https://",
        ),
        (
            "",
            &["--max-connections", "0"],
            "--max-connections: \"0\" is not valid: write a whole number of at least 1",
        ),
        ("", &["--account", "Ada"], "--account: \"Ada\" is not valid: write the id of an account"),
        (
            "",
            &["--memory-budget", "1MiB"],
            "--memory-budget: `memory-budget` must be 64MiB or more",
        ),
    ]);
}

#[test]
fn what_does_not_go_together_is_said_with_what_is_missing() {
    said_to_be_wrong(&[
        (
            "",
            &["--in-memory", "--storage", "memory"],
            "--in-memory: `in-memory` contradicts `storage` (--storage)",
        ),
        ("tls-cert = \"a\"", &[], "downbeat.toml:1: `tls-cert` needs `tls-key`"),
        ("", &["--tls-key", "a"], "--tls-key: `tls-key` needs `tls-cert`"),
        ("", &["--access", "keys"], "--access: `access = keys` needs `keys`"),
        ("", &["--access", "accounts"], "--access: `access = accounts` needs `accounts`"),
        ("", &["--keys", "k.toml"], "--keys: `keys` has no effect without `--access keys`"),
        (
            "",
            &["--account", "co_z1"],
            "--account: `account` has no effect without `--access accounts`",
        ),
        (
            "",
            &["--proxy-header", "forwarded"],
            "--proxy-header: `proxy-header` needs `trusted-proxy`",
        ),
        ("", &["--admin-host", "0.0.0.0"], "--admin-host: `admin-host` needs `admin-port`"),
        ("admin-port = 4200", &[], "downbeat.toml:1: `admin-port` is also the public port"),
        (
            "full-storage-reconciliation = true",
            &[],
            "downbeat.toml:1: `full-storage-reconciliation` needs `upstream`",
        ),
        (
            "",
            &["--storage", "sled:x", "--storage-format", "native"],
            "--storage-format: `storage-format` needs `storage = sqlite:FILE` or `db`, but \
             `storage` (--storage) sets the storage to sled:x",
        ),
        (
            "",
            &["--in-memory", "--storage-format", "reference"],
            "`in-memory` (--in-memory) sets the storage to memory",
        ),
        (
            "storage-format = \"native\"",
            &[],
            "downbeat.toml:1: `storage-format` needs `storage = sqlite:FILE` or `db`, but \
             `storage` (default) sets the storage to sled:./downbeat-data",
        ),
        (
            "",
            &["--db", "x", "--storage-format", "fast"],
            "invalid value 'fast' for '--storage-format <FORMAT>'",
        ),
        ("", &["--upstream-ca", "ca.pem"], "--upstream-ca: `upstream-ca` needs `upstream`"),
        (
            "",
            &["--upstreams-per-covalue", "2"],
            "--upstreams-per-covalue: `upstreams-per-covalue` needs `upstream`",
        ),
    ]);
}

/// The text of a file, arguments, and the expected message.
fn said_to_be_wrong(cases: &[(&str, &[&str], &str)]) {
    for (file, arguments, expected) in cases {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("downbeat.toml"), file).unwrap();
        let mut command = downbeat();
        command.args(["config", "--config", "downbeat.toml"]).args(*arguments);
        let output = command.current_dir(dir.path()).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{file} {arguments:?}\n{said}");
        assert!(said.contains(expected), "{file} {arguments:?}\n{said}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let mut command = downbeat();
    command.args(["config", "--host", "x"]).env("DOWNBEAT_PORT", "y");
    let said = stderr(&command.output().unwrap());
    assert!(said.contains("--host: ") && said.contains("DOWNBEAT_PORT: "), "{said}");
}

#[test]
fn a_variable_that_is_no_setting_is_a_warning() {
    let mut command = downbeat();
    command.arg("config").env("DOWNBEAT_PROT", "1").env("DOWNBEAT_CONFIG", "");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = stderr(&output);
    assert!(said.contains("DOWNBEAT_PROT is not a setting; did you mean DOWNBEAT_PORT?"), "{said}");
}

#[test]
fn the_variables_that_kubernetes_injects_for_a_service_are_not_ours() {
    let injected = [
        ("DOWNBEAT_SERVICE_HOST", "10.96.0.12"),
        ("DOWNBEAT_SERVICE_PORT", "4200"),
        ("DOWNBEAT_SERVICE_PORT_HTTP", "4200"),
        ("DOWNBEAT_PORT", "tcp://10.96.0.12:4200"),
        ("DOWNBEAT_PORT_4200_TCP", "tcp://10.96.0.12:4200"),
        ("DOWNBEAT_PORT_4200_TCP_PROTO", "tcp"),
        ("DOWNBEAT_PORT_4200_TCP_PORT", "4200"),
        ("DOWNBEAT_PORT_4200_TCP_ADDR", "10.96.0.12"),
        // For a Service named downbeat-admin.
        ("DOWNBEAT_ADMIN_SERVICE_HOST", "10.96.0.13"),
        ("DOWNBEAT_ADMIN_SERVICE_PORT", "4201"),
        ("DOWNBEAT_ADMIN_PORT", "tcp://10.96.0.13:4201"),
        ("DOWNBEAT_ADMIN_PORT_4201_UDP", "udp://10.96.0.13:4201"),
        ("DOWNBEAT_ADMIN_PORT_4201_UDP_ADDR", "10.96.0.13"),
    ];
    let output = downbeat().args(["config", "--json"]).envs(injected).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "they are no mistakes either");
    let config: Json = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(config["port"]["value"], 4200);
    assert_eq!(config["port"]["from"], "default");
    assert_eq!(config["admin-port"]["value"], Json::Null);
    let mut serve = downbeat();
    serve.args(["serve", "--in-memory", "--port", "0"]).envs(injected);
    let log = Server::spawn(&mut serve).whole_log();
    assert!(!log.contains("is not a setting"), "{log}");
}

#[test]
fn an_url_that_no_service_has_stays_a_mistake() {
    for (name, value) in [
        ("DOWNBEAT_PORT", "http://10.96.0.12:4200"),
        ("DOWNBEAT_MAX_CONNECTIONS", "tcp://10.96.0.12:4200"),
    ] {
        let output = downbeat().arg("config").env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
    }
    let output = downbeat().arg("config").env("DOWNBEAT_PORT_HTTP", "1").output().unwrap();
    assert!(stderr(&output).contains("DOWNBEAT_PORT_HTTP is not a setting"), "{}", stderr(&output));
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let output = run(&["config", "--config", "no-such.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no-such.toml: cannot read the file"));
}

#[test]
fn every_shell_gets_completions_with_the_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("full-storage-reconciliation"), "{shell}");
    }
}

#[test]
fn the_help_has_examples_and_the_exit_codes() {
    assert!(stdout(&run(&["--help"])).contains("Exit codes:"));
    let help = stdout(&run(&["serve", "--help"]));
    assert!(help.contains("Examples:") && help.contains("[env: DOWNBEAT_PORT]"), "{help}");
}
