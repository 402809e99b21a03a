//! What is measured, and where it has to arrive.

/// Workloads that are played one after the other, from an empty store on.
pub(crate) struct Act {
    pub name: &'static str,
    /// What it is about, for the documentation.
    pub about: &'static str,
    pub steps: &'static [Step],
    /// In how many of the rounds it is played; in all, unless it takes minutes.
    pub rounds: Option<usize>,
    /// Played only where it is named, or everything is.
    pub long: bool,
}

pub(crate) enum Step {
    /// The server is stopped and started again: nothing is in its memory.
    Restart,
    /// Clients play a workload that is not measured, with content of its own: the reference's
    /// language compiles its program while it runs.
    WarmUp(&'static [&'static str]),
    /// Clients play a workload.
    Play(Workload),
    /// A store of `--co-values` CoValues is made. Only servers that can be given one take part.
    Generate,
    /// The server is started and asked for one CoValue, and stopped. It is not running before.
    Start(Workload),
}

pub(crate) struct Workload {
    /// Unique, and what the table calls it.
    pub name: &'static str,
    /// As `downbeat bench` takes it.
    pub arguments: &'static [&'static str],
    /// The least ratios to the reference that are aimed at: of throughput, and of the server's CPU
    /// time for an operation.
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

/// Everything, in the order in which it is played.
pub(crate) const ACTS: &[Act] = &[
    Act {
        name: "uploads",
        about: "2,000 CoMaps and what is done with them while the server is warm",
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
        about: "100 MB as one binary stream, up and down to 4 clients",
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
        about: "the same with 400 MB, to see what of the memory grows with the size",
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
        about: "connections that are subscribed to a CoValue and silent",
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
        about: "starts on a large store, until the first CoValue is answered",
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
    /// What is measured in it, in the order of the table.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &'static Workload> + use<> {
        self.steps.iter().filter_map(|step| match step {
            Step::Play(workload) | Step::Start(workload) => Some(workload),
            Step::Restart | Step::Generate | Step::WarmUp(_) => None,
        })
    }

    /// Whether it begins with a store that is made for it.
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
