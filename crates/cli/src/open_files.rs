//! How many files may be open at the same time: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Files besides connections: those of the store, the admin port's 64 connections, upstreams, logs.
const OTHER_FILES: u64 = 128;

/// Raises the limit to what the system lets this process have, and warns if that is too little for
/// so many connections. Systems keep the limit low for programs that cannot live with a higher one.
pub(crate) fn allow_for(max_connections: usize) {
    let needed = u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let limit = raise(needed);
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        warn!(
            limit,
            max_connections,
            "too few files may be open for as many connections: raise the limit (`ulimit -n`, \
             LimitNOFILE of systemd), or lower `--max-connections`"
        );
    }
}

/// The limit after all that can be done; nothing where there is none.
fn raise(needed: u64) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Some systems take no number above one of their own, whatever they say that the limit is.
    let wanted = [maximum, Some(needed)];
    for wanted in wanted.into_iter().filter(|wanted| is_more(*wanted, current)) {
        match setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum }) {
            Ok(()) => return wanted,
            Err(error) => debug!(%error, ?wanted, "the limit of open files cannot be raised"),
        }
    }
    current
}

/// Whether one limit is higher than another; nothing is higher than none.
fn is_more(limit: Option<u64>, other: Option<u64>) -> bool {
    other.is_some_and(|other| limit.is_none_or(|limit| limit > other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_the_highest() {
        assert!(is_more(Some(2), Some(1)) && is_more(None, Some(1)));
        assert!(!is_more(Some(1), Some(1)) && !is_more(Some(1), None) && !is_more(None, None));
    }
}
