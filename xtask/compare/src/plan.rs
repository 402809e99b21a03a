//! What is measured, and where it has to arrive.

/// Workloads that are played one after the other, from an empty store on.
pub(crate) struct Act {
    pub name: &'static str,
    pub steps: &'static [Step],
    /// In how many of the rounds it is played; in all, unless it takes minutes.
    pub rounds: Option<usize>,
}

pub(crate) enum Step {
    /// The server is stopped and started again: nothing is in its memory.
    Restart,
    /// Clients play a workload.
    Play(Workload),
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
    Step::Play(Workload { name, arguments, marks: None })
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
        steps: &[
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
    },
    Act {
        name: "cold",
        steps: &[
            play("upload before a restart", &["upload"]),
            Step::Restart,
            marked("cold fetch", &["fetch"], 15.0, 25.0),
            Step::Restart,
            marked("up to date, cold", &["up-to-date"], 8.0, 12.0),
        ],
        rounds: None,
    },
    Act {
        name: "stream",
        steps: &[
            marked("stream up", &["stream-up"], 4.0, 6.0),
            Step::Restart,
            marked("stream down", &["stream-down"], 4.0, 6.0),
        ],
        rounds: None,
    },
    Act {
        name: "long",
        steps: &[
            play("append to a long log", &["long-append"]),
            Step::Restart,
            play("load a long log", &["long-load"]),
        ],
        rounds: Some(2),
    },
    Act {
        name: "sessions",
        steps: &[play("edits among 1,000 sessions", &["sessions"])],
        rounds: Some(2),
    },
    Act {
        name: "idle",
        steps: &[
            play("1,000 idle connections", &["idle"]),
            play("10,000 idle connections", &["idle", "--connections", "10000"]),
        ],
        rounds: Some(1),
    },
    Act {
        name: "many",
        steps: &[
            play("upload of 100,000", &["upload", "--co-values", "100000", "--transactions", "1"]),
            Step::Restart,
            play("fetch of 100,000", &["fetch", "--co-values", "100000", "--transactions", "1"]),
        ],
        rounds: Some(1),
    },
];

/// All workloads, in the order of the table.
pub(crate) fn workloads() -> impl Iterator<Item = &'static Workload> {
    ACTS.iter().flat_map(|act| act.steps).filter_map(|step| match step {
        Step::Play(workload) => Some(workload),
        Step::Restart => None,
    })
}
