//! The runs of one session that are in memory.

use std::collections::VecDeque;

use downbeat_protocol::SessionContent;

/// Runs of one session, in their order and without gaps, which is what the searches rely on: a
/// session of small edits has very many, and each edit is looked for once for each subscriber.
///
/// For a moment it may be otherwise, when storage turns out to have something else. Then runs may
/// not be found, which is as if they were not there.
#[derive(Debug, Default)]
pub(crate) struct Runs(VecDeque<Run>);

#[derive(Debug)]
struct Run {
    content: SessionContent,
    durable: bool,
}

impl Runs {
    /// Adds the next run, which is not durable yet.
    pub(crate) fn add(&mut self, content: SessionContent) {
        self.0.push_back(Run { content, durable: false });
    }

    /// Runs from the one on that has the transaction behind these many. Where there is none, from
    /// some later one on.
    pub(crate) fn beyond(&self, at: u64) -> impl Iterator<Item = &SessionContent> {
        let first = self.0.partition_point(|run| run.end() <= at);
        self.0.range(first..).map(|run| &run.content)
    }

    /// Notes that the run that starts here is durable, if there is one.
    pub(crate) fn set_durable(&mut self, after: u64) -> bool {
        let index = self.0.partition_point(|run| run.end() <= after);
        let run = self.0.get_mut(index).filter(|run| run.content.after == after);
        run.map(|run| run.durable = true).is_some()
    }

    /// Forgets the first run, if it starts here and is durable.
    pub(crate) fn forget_first(&mut self, after: u64) -> Option<SessionContent> {
        let is_meant = |run: &mut Run| run.durable && run.content.after == after;
        self.0.pop_front_if(is_meant).map(|run| run.content)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &SessionContent> {
        self.0.iter().map(|run| &run.content)
    }
}

impl Run {
    fn end(&self) -> u64 {
        #[cfg(test)]
        tests::LOOKS.set(tests::LOOKS.get() + 1);
        self.content.end()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use downbeat_protocol::{SessionId, Signature, Transaction};

    use super::*;

    thread_local! {
        /// How many runs were looked at.
        pub(super) static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    /// A run of two transactions.
    fn run(after: u64) -> SessionContent {
        SessionContent {
            session: SessionId::parse("co_z2_session_z1").unwrap(),
            after,
            transactions: vec![Transaction::trusting("[]", 0, None); 2],
            last_signature: Signature::from_bytes(&[0; 64]),
        }
    }

    /// Runs from this position on.
    fn runs(from: u64, count: u64) -> Runs {
        let mut runs = Runs::default();
        (0..count).for_each(|index| runs.add(run(from + 2 * index)));
        runs
    }

    #[test]
    fn the_run_with_a_position_and_those_behind_it_are_found() {
        let runs = runs(10, 3);
        let found = |at| runs.beyond(at).map(|run| run.after).collect::<Vec<_>>();
        assert_eq!(found(0), [10, 12, 14], "what is in between is not here");
        assert_eq!(found(11), [10, 12, 14]);
        assert_eq!(found(12), [12, 14]);
        assert_eq!(found(15), [14]);
        assert_eq!(found(16), [0; 0]);
        assert_eq!(found(u64::MAX), [0; 0]);
    }

    #[test]
    fn only_the_first_run_is_forgotten_and_only_when_it_is_durable() {
        let mut runs = runs(0, 2);
        assert!(runs.set_durable(2));
        assert!(runs.forget_first(2).is_none(), "it is not the first");
        assert!(runs.forget_first(0).is_none(), "it is not durable");
        for start_of_none in [1, 4] {
            assert!(!runs.set_durable(start_of_none));
        }
        assert!(runs.set_durable(0));
        assert_eq!(runs.forget_first(0), Some(run(0)));
        assert_eq!(runs.forget_first(2), Some(run(2)));
        assert!(runs.is_empty());
    }

    #[test]
    fn in_a_session_of_very_many_runs_only_a_few_are_looked_at() {
        let mut runs = runs(0, 10_000);
        LOOKS.set(0);
        assert_eq!(runs.beyond(19_998).count(), 1);
        assert!(runs.set_durable(19_998));
        // Two searches by halves: 2 to the power of 14 is more than 10,000.
        assert!(LOOKS.get() <= 2 * 15, "{} looks", LOOKS.get());
    }
}
