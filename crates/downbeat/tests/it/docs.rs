//! Checks that the docs match the program.

use std::collections::BTreeSet;
use std::path::Path;

use crate::program::{Server, get, run, stdout};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The names in the first cells of a document's tables that pass a test.
fn names_in_tables(text: &str, is_name: impl Fn(&str) -> bool) -> BTreeSet<&str> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells.filter(|name| is_name(name)).collect()
}

#[test]
fn the_metrics_in_the_docs_are_those_that_are_exported() {
    let file = |name: &str| {
        let certificates = "../../xtask/interop/lib/certificates";
        format!("{}/{certificates}/{name}", env!("CARGO_MANIFEST_DIR"))
    };
    let (cert, key) = (file("server.pem"), file("server-key.pem"));
    let more = ["--upstream", "ws://127.0.0.1:9", "--tls-cert", &cert, "--tls-key", &key];
    let server = Server::start(&[&["--in-memory", "--admin-port", "0"], &more[..]].concat());
    let (_, _, metrics) = get(&server.admin(), "/metrics");
    let mut exported = BTreeSet::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        exported.insert(line.split_once(' ').unwrap().0);
    }
    let text = document("metrics.md");
    let is_metric = |name: &str| name.starts_with("downbeat_") || name.starts_with("process_");
    let mut documented = names_in_tables(&text, is_metric);
    // Only for a store on disk.
    assert!(documented.remove("downbeat_disk_bytes"));
    assert_eq!(documented, exported);
}

#[test]
fn the_alert_rules_name_documented_metrics_and_are_documented() {
    let metrics = document("metrics.md");
    let documented = names_in_tables(&metrics, |_| true);
    let rules = document("deploy/alerts.yaml");
    let mut queried = BTreeSet::new();
    for line in rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        queried.extend(words.filter(|word| word.starts_with("downbeat_")));
    }
    assert!(queried.len() > 5, "{queried:?}");
    for name in queried {
        assert!(documented.contains(name.trim_end_matches("_bucket")), "{name}");
    }
    let alerts: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(names_in_tables(&metrics, |name| name.starts_with("Downbeat")), alerts);
}

#[test]
fn the_settings_in_the_docs_are_those_that_there_are() {
    let output = stdout(&run(&["config"]));
    let there: BTreeSet<&str> = output.lines().filter_map(|line| line.split(' ').next()).collect();
    let text = document("configuration.md");
    let documented = names_in_tables(&text, |_| true);
    assert_eq!(documented, there);
}

#[test]
fn the_example_files_in_the_docs_can_be_read() {
    let text = document("configuration.md");
    let examples: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    let dir = tempfile::tempdir().unwrap();
    for example in examples.iter().filter(|example| !example.contains("[[key]]")) {
        let path = dir.path().join("downbeat.toml");
        std::fs::write(&path, example).unwrap();
        let output = run(&["config", "--config", path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{example}\n{said}");
    }
}
