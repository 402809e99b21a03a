//! Whether a CoValue is here, and what can change that.

use crate::event::{Millis, UpstreamName};
use crate::state::index::Index;

/// Whether a CoValue is here.
#[derive(Debug)]
pub(crate) enum Presence {
    /// Storage is being asked.
    Loading,
    /// Storage could not answer, and is asked again at this time.
    Unknown(Millis),
    /// Storage does not have it, and upstreams have not answered yet.
    Asking(Asked),
    /// Neither storage nor any upstream has it.
    Absent,
    /// It is here.
    Here(Box<Index>),
}

/// Upstreams that are asked for a CoValue.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Those that have not answered.
    pub pending: Vec<UpstreamName>,
    /// When they count as not having it.
    pub until: Millis,
}

/// An event that changes a presence.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// Storage could not answer.
    StorageFailed { retry_at: Millis },
    /// The time has come to ask storage again.
    Retry { now: Millis },
    /// Storage does not have the CoValue.
    NotStored,
    /// Storage has the CoValue.
    Stored(Box<Index>),
    /// Upstreams are asked.
    Asked(Asked),
    /// An upstream that is answering gets more time.
    MoreTime { until: Millis },
    /// An upstream does not have the CoValue.
    UpstreamLacks(&'a UpstreamName),
    /// The time for upstreams' answers may be over.
    Timeout { now: Millis },
    /// No peer waits for upstreams' answers any longer.
    NotNeeded,
    /// A peer has sent the header.
    Created(Box<Index>),
    /// Another writer has changed what is stored.
    Outdated,
}

impl Presence {
    /// The presence after a change. A change that does not fit, such as the answer to a question
    /// that is no longer asked, changes nothing.
    #[allow(clippy::match_same_arms, reason = "a table, with one line for each change")]
    pub(crate) fn after(self, change: Change<'_>) -> Self {
        match (self, change) {
            (Self::Loading, Change::StorageFailed { retry_at }) => Self::Unknown(retry_at),
            (Self::Unknown(at), Change::Retry { now }) if at <= now => Self::Loading,
            (Self::Loading, Change::NotStored) => Self::Absent,
            (Self::Loading, Change::Stored(index)) => Self::Here(index),
            (Self::Absent, Change::Asked(asked)) => Self::Asking(asked),
            (Self::Asking(asked), Change::MoreTime { until }) => {
                Self::Asking(Asked { until, ..asked })
            }
            (Self::Asking(mut asked), Change::UpstreamLacks(name)) => {
                asked.pending.retain(|other| other != name);
                if asked.pending.is_empty() { Self::Absent } else { Self::Asking(asked) }
            }
            (Self::Asking(asked), Change::Timeout { now }) if asked.until <= now => Self::Absent,
            (Self::Asking(_), Change::NotNeeded) => Self::Absent,
            (Self::Asking(_) | Self::Absent, Change::Created(index)) => Self::Here(index),
            (Self::Here(_), Change::Outdated) => Self::Loading,
            (unchanged, _) => unchanged,
        }
    }

    /// Whether storage has not answered yet.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Loading | Self::Unknown(_))
    }

    pub(crate) fn is_loading(&self) -> bool {
        matches!(self, Self::Loading)
    }

    pub(crate) fn is_asking(&self) -> bool {
        matches!(self, Self::Asking(_))
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(names: &[&str]) -> Presence {
        let pending = names.iter().map(|name| UpstreamName::from(*name)).collect();
        Presence::Absent.after(Change::Asked(Asked { pending, until: 10 }))
    }

    #[test]
    fn a_covalue_is_absent_when_the_last_upstream_lacks_it() {
        let presence = asking(&["a", "b"]).after(Change::UpstreamLacks(&"a".into()));
        assert!(presence.is_asking());
        assert!(presence.after(Change::UpstreamLacks(&"b".into())).is_absent());
    }

    #[test]
    fn more_time_moves_the_timeout() {
        let presence = asking(&["a"]).after(Change::MoreTime { until: 20 });
        let presence = presence.after(Change::Timeout { now: 10 });
        assert!(presence.is_asking());
        assert!(presence.after(Change::Timeout { now: 20 }).is_absent());
    }

    #[test]
    fn an_answer_to_no_question_is_ignored() {
        assert!(Presence::Absent.after(Change::StorageFailed { retry_at: 1 }).is_absent());
        assert!(asking(&["a"]).after(Change::NotStored).is_asking());
        assert!(Presence::Unknown(5).after(Change::Retry { now: 4 }).is_unanswered());
        assert!(Presence::Unknown(5).after(Change::Retry { now: 5 }).is_loading());
    }
}
