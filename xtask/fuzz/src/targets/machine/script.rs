//! The script of a case: bytes to steps. Each byte sequence is a script.

use std::ops::Range;

use downbeat_protocol::{SessionCounts, SessionId};

use super::universe::{Log, VALUES, Value};
use crate::features::Features;

/// Peers, by number. The last is an upstream.
pub(super) const PEERS: u8 = 4;

/// The last digits of sessions that do not exist.
const INVENTED: &str = "123456789ABCDEFGHJKLMNPQ";

/// One thing that happens.
#[derive(Debug)]
pub(super) enum Step {
    Connect(u8),
    Disconnect(u8),
    Load {
        peer: u8,
        value: u8,
        counts: SessionCounts,
    },
    Known {
        peer: u8,
        value: u8,
        counts: SessionCounts,
        is_correction: bool,
    },
    Content {
        peer: u8,
        value: u8,
        has_header: bool,
        is_announced: bool,
        runs: Vec<Run>,
    },
    Reconcile {
        peer: u8,
        values: Vec<(u8, bool)>,
    },
    ReconcileAck {
        peer: u8,
        batch: u8,
    },
    /// A frame of bytes, as a transport gets it.
    Frame {
        peer: u8,
        bytes: Vec<u8>,
    },
    /// One of the actions in progress is completed.
    Complete(u8),
    /// All are.
    CompleteAll,
    Pass(u64),
    /// Look-ups fail from now on, or work again.
    BreakStorage(bool),
}

/// A run of a session in a content message.
#[derive(Debug)]
pub(super) struct Run {
    /// The number of the session's log.
    pub log: u8,
    pub range: Range<u8>,
    pub kind: RunKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunKind {
    Valid,
    BadSignature,
    Fork,
}

/// Reads steps from bytes.
pub(super) struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next byte, or 0 at the end.
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    pub(super) fn next_step(&mut self) -> Option<Step> {
        if self.rest.is_empty() {
            return None;
        }
        let kind = self.byte();
        let target = self.byte();
        let peer = target % PEERS;
        let value = target / PEERS % value_count();
        Some(match kind % 16 {
            0 => Step::Connect(peer),
            1 => Step::Disconnect(peer),
            2 => Step::Load { peer, value, counts: self.counts(value) },
            3 => {
                let is_correction = kind & 16 != 0;
                Step::Known { peer, value, counts: self.counts(value), is_correction }
            }
            4..=7 => Step::Content {
                peer,
                value,
                has_header: kind & 16 != 0,
                is_announced: kind & 32 != 0,
                runs: (0..=kind / 64).map(|_| self.run(value)).collect(),
            },
            8 => {
                let values = (0..=kind / 64).map(|_| self.byte());
                let values =
                    values.map(|byte| (byte / 2 % (value_count() + 1), byte.is_multiple_of(2)));
                Step::Reconcile { peer, values: values.collect() }
            }
            9 => Step::ReconcileAck { peer, batch: self.byte() },
            10 => {
                let len = usize::from(self.byte()) * 4;
                let (bytes, rest) = self.rest.split_at(len.min(self.rest.len()));
                self.rest = rest;
                Step::Frame { peer, bytes: bytes.to_vec() }
            }
            11 | 12 => Step::Complete(target),
            13 => Step::CompleteAll,
            14 => Step::Pass(1 << (target % 18)),
            _ => Step::BreakStorage(target.is_multiple_of(2)),
        })
    }

    /// Counts that a peer claims: of any session as many as there are, fewer, or more, and
    /// sometimes of many sessions that do not exist.
    fn counts(&mut self, value: u8) -> SessionCounts {
        let mut counts = SessionCounts::new();
        let invented = self.byte();
        for digit in INVENTED.chars().take(usize::from(invented / 64) * 8) {
            let session = format!("co_z1_session_z{digit}");
            counts.set(&SessionId::parse(&session).expect("valid"), 1);
        }
        for log in logs_of(value) {
            let len = u8::try_from(log.entries.len()).unwrap_or(u8::MAX);
            counts.set(&log.session, u64::from(self.byte() % (len + 2)));
        }
        counts
    }

    fn run(&mut self, value: u8) -> Run {
        let choice = self.byte();
        let logs = logs_of(value);
        let log = choice % u8::try_from(logs.len()).unwrap_or(1).max(1);
        let len = logs.get(usize::from(log)).map_or(0, |log| log.entries.len());
        let len = u8::try_from(len).unwrap_or(u8::MAX);
        let start = self.byte() % (len + 1);
        let end = start + self.byte() % (len - start + 1);
        let kind = match choice / 8 {
            0 => RunKind::BadSignature,
            1 => RunKind::Fork,
            _ => RunKind::Valid,
        };
        Run { log, range: start..end, kind }
    }
}

impl Step {
    pub(super) fn note(&self, features: &mut Features) {
        features.note(std::mem::discriminant(self));
        match self {
            Self::Content { value, has_header, runs, .. } => {
                for run in runs {
                    features.note((value, has_header, run.log, run.kind == RunKind::Valid));
                }
            }
            Self::Load { value, counts, .. } | Self::Known { value, counts, .. } => {
                features.note((value, counts.len()));
            }
            _ => {}
        }
    }
}

/// The CoValue with a number. The last number stands for one that does not exist.
pub(super) fn value_at(number: u8) -> Option<&'static Value> {
    VALUES.get(usize::from(number))
}

/// The logs of the CoValue with a number.
fn logs_of(number: u8) -> &'static [Log] {
    value_at(number).map_or(&[], |value| &value.logs)
}

fn value_count() -> u8 {
    u8::try_from(VALUES.len()).unwrap_or(u8::MAX) + 1
}

/// Scripts that get far: CoValues are uploaded in and out of order, read, deleted and forgotten.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let target = |peer: u8, value: u8| value * PEERS + peer;
    let whole = |value: u8| {
        let logs = logs_of(value);
        let mut bytes = Vec::new();
        for (number, log) in (0_u8..).zip(logs) {
            // Valid runs have a large choice; its remainder is the number of the log.
            let count = u8::try_from(logs.len()).unwrap_or(1);
            let choice = 200 - 200 % count + number;
            let end = u8::try_from(log.entries.len()).unwrap_or(0);
            bytes.extend([4 + 16, target(0, value), choice, 0, end]);
        }
        bytes
    };
    let load = |peer: u8, value: u8| {
        let mut bytes = vec![2, target(peer, value), 0];
        bytes.extend(logs_of(value).iter().map(|_| 0));
        bytes
    };
    let connected: Vec<u8> = (0..PEERS).flat_map(|peer| [0, peer]).collect();
    let all: Vec<u8> = (0..value_count()).collect();
    let backwards: Vec<u8> = all.iter().rev().copied().collect();
    let mut seeds = Vec::new();
    for order in [&all, &backwards] {
        for config in 0..4 {
            let mut script = vec![config];
            script.extend(&connected);
            script.extend(order.iter().flat_map(|value| whole(*value)));
            script.extend([13, 0]);
            script.extend(order.iter().flat_map(|value| load(1, *value)));
            script.extend([13, 0, 14, 17, 1, 0, 13, 0]);
            seeds.push(script);
        }
    }
    let mut frames = vec![0];
    frames.extend(&connected);
    for frame in crate::seeds::json_frames() {
        let padded = frame.len().div_ceil(4);
        let Ok(len) = u8::try_from(padded) else { continue };
        frames.extend([10, 0, len]);
        frames.extend(&frame);
        frames.resize(frames.len() + padded * 4 - frame.len(), b'\n');
        frames.extend([13, 0]);
    }
    seeds.push(frames);
    seeds
}
