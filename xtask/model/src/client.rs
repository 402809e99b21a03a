//! The clients, which behave like the reference client with one CoValue and one server.
//!
//! Across connections, a client keeps its content (it has a disk) and the state that the server has
//! reported. When a connection ends, it forgets sent content that is not acknowledged.

use crate::cast::{CLIENTS, Run, Said, State};

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// The number of the client and of its session.
    me: usize,
    /// The state of its copy.
    pub have: State,
    /// The counts that the first of several pieces has announced.
    promised: State,
    /// The state that the server has reported.
    known: State,
    /// The state of the server if everything sent arrives.
    expected: State,
    /// Whether the client has sent its state over this connection.
    told: bool,
    /// The connection, if there is one.
    pub connection: Option<u64>,
    /// The state in the last KNOWN of the server.
    pub heard: State,
    /// The number of transactions that it may still write.
    pub writes: u8,
}

impl Client {
    pub(crate) fn new(me: usize, writes: u8) -> Self {
        let nothing = State::default();
        Self {
            me,
            have: nothing,
            promised: nothing,
            known: nothing,
            expected: nothing,
            told: false,
            connection: None,
            heard: nothing,
            writes,
        }
    }

    /// Whether the client may write now: the first client creates the CoValue, the other needs its
    /// header.
    pub(crate) fn may_write(&self) -> bool {
        self.writes > 0 && (self.have.header || self.me == 0)
    }

    /// Writes a transaction. Without a connection, nothing is sent until the client connects.
    pub(crate) fn write(&mut self) -> Vec<Said> {
        let header = !self.have.header;
        let after = self.have.counts[self.me];
        self.writes -= 1;
        self.have.header = true;
        self.have.counts[self.me] += 1;
        if self.connection.is_none() {
            return Vec::new();
        }
        self.told = true;
        let run = Run { session: self.me, after, end: after + 1 };
        let mut sent = State { header: true, ..State::default() };
        sent.counts[self.me] = run.end;
        self.expected.merge(sent);
        vec![Said::Content { header, runs: vec![run], until: None }]
    }

    /// Handles a new connection. Sends a LOAD, except from the client that has yet to create the
    /// CoValue.
    pub(crate) fn connect(&mut self, connection: u64) -> Vec<Said> {
        self.connection = Some(connection);
        self.expected = self.known;
        self.told = false;
        if self.me == 0 && !self.have.header {
            return Vec::new();
        }
        self.told = true;
        vec![Said::Load(self.claim())]
    }

    /// Handles a message of the server. Returns the answers in their order.
    pub(crate) fn hear(&mut self, said: &Said) -> Vec<Said> {
        match said {
            Said::Load(state) => {
                self.replace(*state);
                if self.have.header {
                    return self.send_missing(true);
                }
                self.told = true;
                vec![Said::Known { state: State::default(), is_correction: false }]
            }
            Said::Known { state, is_correction } => {
                if *is_correction {
                    self.replace(*state);
                } else {
                    self.merge(*state);
                }
                self.heard = *state;
                self.send_missing(false)
            }
            Said::Content { header, runs, until } => self.take(*header, runs, *until),
        }
    }

    fn take(&mut self, header: bool, runs: &[Run], until: Option<[u8; CLIENTS]>) -> Vec<Said> {
        if !self.have.header && !header {
            return vec![Said::Known { state: State::default(), is_correction: true }];
        }
        if let Some(counts) = until {
            let promised = State { header: true, counts };
            self.promised.merge(promised);
            if !self.have.header {
                self.merge(promised);
            }
        }
        self.have.header = true;
        let mut follows = true;
        let mut taken = State { header, ..State::default() };
        for run in runs {
            let count = &mut self.have.counts[run.session];
            if run.after > *count {
                follows = false;
            } else if run.end > *count {
                *count = run.end;
                taken.counts[run.session] = run.end;
            }
        }
        self.merge(taken);
        let mut answers = vec![Said::Known { state: self.have, is_correction: !follows }];
        self.told = true;
        answers.extend(self.send_missing(false));
        answers
    }

    /// Sends the content that the server lacks. If it lacks nothing, sends KNOWN if `answer` is set
    /// or the client has not sent its state yet.
    fn send_missing(&mut self, answer: bool) -> Vec<Said> {
        if !self.have.header {
            return Vec::new();
        }
        let runs: Vec<Run> = (0..CLIENTS)
            .filter(|session| self.have.counts[*session] > self.expected.counts[*session])
            .map(|session| Run {
                session,
                after: self.expected.counts[session],
                end: self.have.counts[session],
            })
            .collect();
        let header = !self.expected.header;
        let said = if header || !runs.is_empty() {
            self.expected.merge(self.have);
            vec![Said::Content { header, runs, until: None }]
        } else if answer || !self.told {
            vec![Said::Known { state: self.claim(), is_correction: false }]
        } else {
            Vec::new()
        };
        self.told = true;
        said
    }

    /// The state that the client claims: its copy, and announced counts.
    fn claim(&self) -> State {
        let mut claim = self.have;
        if claim.header {
            claim.merge(self.promised);
        }
        claim
    }

    fn merge(&mut self, state: State) {
        self.known.merge(state);
        self.expected.merge(state);
    }

    fn replace(&mut self, state: State) {
        self.known = state;
        self.expected = state;
    }
}
