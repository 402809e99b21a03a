//! The measurements and their targets.

/// Workloads that run one after the other, starting with an empty store.
pub(crate) struct Act {
    pub name: &'static str,
    /// A description for the documentation.
    pub about: &'static str,
    pub steps: &'static [Step],
    /// The maximum number of rounds that run this act. `None` for all rounds; acts that take
    /// minutes run less often.
    pub rounds: Option<usize>,
    /// Whether the act runs only if it is named or all acts run.
    pub long: bool,
}

pub(crate) enum Step {
    /// Restarts the server, so that its memory is empty.
    Restart,
    /// Clients run a workload with other content, which is not measured. It gives the JavaScript
    /// engine of the reference time to compile code.
    WarmUp(&'static [&'static str]),
    /// Clients run a workload.
    Play(Workload),
    /// Creates a store of `--co-values` CoValues. Servers that cannot open such a store are
    /// skipped.
    Generate,
    /// Starts the server, loads one CoValue, and stops the server. It must not run before.
    Start(Workload),
}

pub(crate) struct Workload {
    /// The unique name in the table.
    pub name: &'static str,
    /// The arguments of `downbeat bench`.
    pub arguments: &'static [&'static str],
    /// The target ratios to the reference: of throughput, and of the server's CPU time per
    /// operation.
    pub marks: Option<(f64, f64)>,
}

const fn play(name: &'static str, arguments: &'static [&'static str]) -> Step {
    Step::Play(workload(name, arguments))
}

const fn start(name: &'static str, arguments: &'static [&'static str]) -> Step {
    Step::Start(workload(name, arguments))
}

const fn workload(name: &'static str, arguments: &'static [&'static str]) -> Workload {
    Workload { name, arguments, marks: None }
}

const fn marked(
    name: &'static str,
    arguments: &'static [&'static str],
    throughput: f64,
    cpu: f64,
) -> Step {
    Step::Play(Workload { name, arguments, marks: Some((throughput, cpu)) })
}

/// All acts, in the order in which they run.
pub(crate) const ACTS: &[Act] = &[
    Act {
        name: "uploads",
        about: "upload of 2,000 CoMaps, then edits, fetches and fan-outs on the warm server",
        steps: &[
            Step::WarmUp(&["upload", "--seed", "1000"]),
            marked("upload", &["upload"], 10.0, 12.0),
            marked("live edits", &["live"], 6.0, 8.0),
            marked("warm fetch", &["fetch"], 5.0, 8.0),
            marked("up to date, warm", &["up-to-date", "--rounds", "5"], 4.0, 6.0),
            marked("fan-out to 100", &["fan-out"], 4.0, 6.0),
            marked(
                "fan-out to 1,000",
                &["fan-out", "--subscribers", "1000", "--edits", "20"],
                4.0,
                6.0,
            ),
        ],
        rounds: None,
        long: false,
    },
    Act {
        name: "cold",
        about: "the same CoMaps, each time right after a start",
        steps: &[
            play("upload before a restart", &["upload"]),
            Step::Restart,
            marked("cold fetch", &["fetch"], 15.0, 25.0),
            Step::Restart,
            marked("up to date, cold", &["up-to-date"], 8.0, 12.0),
        ],
        rounds: None,
        long: false,
    },
    Act {
        name: "stream",
        about: "one binary stream of 100 MB, uploaded by a client and downloaded by 4 clients",
        steps: &[
            marked("stream up", &["stream-up"], 4.0, 6.0),
            Step::Restart,
            marked("stream down", &["stream-down"], 4.0, 6.0),
        ],
        rounds: None,
        long: false,
    },
    Act {
        name: "large-stream",
        about: "the same with 400 MB, to show how memory grows with the size",
        steps: &[
            play("stream up, 400 MB", &["stream-up", "--megabytes", "400"]),
            Step::Restart,
            play("stream down, 400 MB", &["stream-down", "--megabytes", "400"]),
        ],
        rounds: Some(1),
        long: false,
    },
    Act {
        name: "long",
        about: "one CoValue of 100,000 small transactions",
        steps: &[
            play("append to a long log", &["long-append"]),
            Step::Restart,
            play("load a long log", &["long-load"]),
        ],
        rounds: Some(2),
        long: false,
    },
    Act {
        name: "sessions",
        about: "one CoValue of 1,000 sessions",
        steps: &[play("edits among 1,000 sessions", &["sessions"])],
        rounds: Some(2),
        long: false,
    },
    Act {
        name: "idle",
        about: "silent connections, each with a subscription to a CoValue",
        steps: &[
            play("1,000 idle connections", &["idle"]),
            Step::Restart,
            play("10,000 idle connections", &["idle", "--connections", "10000"]),
        ],
        rounds: Some(1),
        long: false,
    },
    Act {
        name: "many",
        about: "100,000 CoValues, loaded after a restart",
        steps: &[
            play("upload of 100,000", &["upload", "--co-values", "100000", "--transactions", "1"]),
            Step::Restart,
            play("fetch of 100,000", &["fetch", "--co-values", "100000", "--transactions", "1"]),
        ],
        rounds: Some(1),
        long: true,
    },
    Act {
        name: "startup",
        about: "starts on a large store, until the first CoValue is served",
        steps: &[
            Step::Generate,
            start("first start", &["start", "--starts", "1"]),
            start("later starts", &["start", "--starts", "5"]),
        ],
        rounds: Some(1),
        long: true,
    },
];

impl Act {
    /// The measured workloads, in the order of the table.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &'static Workload> + use<> {
        self.steps.iter().filter_map(|step| match step {
            Step::Play(workload) | Step::Start(workload) => Some(workload),
            Step::Restart | Step::Generate | Step::WarmUp(_) => None,
        })
    }

    /// Whether the act starts with a generated store.
    pub(crate) fn is_of_starts(&self) -> bool {
        matches!(self.steps, [Step::Generate, ..])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names = HashSet::new();
        let mut workloads = ACTS.iter().flat_map(Act::workloads);
        assert!(workloads.all(|workload| names.insert(workload.name)));
        assert!(ACTS.iter().all(|act| names.insert(act.name)));
    }
}
