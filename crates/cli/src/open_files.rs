//! How many files may be open at the same time: each connection is one.

use downbeat_transport::net::ConnectionLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Files besides connections: those of the store, the admin port's 64 connections, upstreams, logs, and
/// those that are kept back.
const OTHER_FILES: usize = 128;

/// What is left for connections at least, however low the limit is.
const LEAST_ROOM: usize = 16;

/// Raises the limit to what the system lets this process have, and warns if that is too little for
/// so many connections. Systems keep the limit low for programs that cannot live with a higher one.
pub(crate) fn allow_for(connections: usize) {
    let needed = connections.saturating_add(OTHER_FILES);
    if let Some(limit) = raise(needed).filter(|limit| *limit < needed) {
        warn!(
            limit,
            connections,
            "too few files may be open for as many connections: raise the limit (`ulimit -n`)"
        );
    }
}

/// Raises the limit, and lowers how many connections there may be to what it allows.
pub(crate) fn fit(configured: ConnectionLimits) -> ConnectionLimits {
    // A handshake needs a file as well, and so does refusing a client.
    let needed = configured.total.saturating_add(configured.pending).saturating_add(OTHER_FILES);
    let Some(limit) = raise(needed).filter(|limit| *limit < needed) else { return configured };
    let fitting = within(configured, limit);
    if fitting.total == configured.total {
        debug!(limit, pending = fitting.pending, "fewer handshakes may be under way at a time");
        return fitting;
    }
    warn!(
        max_connections = fitting.total,
        configured = configured.total,
        limit,
        "max-connections is lowered to what the limit of open files allows: raise the limit \
         (`ulimit -n`, LimitNOFILE of systemd), or lower `--max-connections`"
    );
    fitting
}

/// The limits on connections with so many files.
fn within(configured: ConnectionLimits, files: usize) -> ConnectionLimits {
    let room = files.saturating_sub(OTHER_FILES).max(LEAST_ROOM);
    let pending = configured.pending.min(room / 4);
    ConnectionLimits {
        total: configured.total.min(room - pending),
        pending,
        pending_per_address: configured.pending_per_address.min(pending),
        ..configured
    }
}

/// The limit after all that can be done; nothing where there is none.
fn raise(needed: usize) -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Some systems take no number above one of their own, whatever they say that the limit is.
    let wanted = [maximum, Some(u64::try_from(needed).unwrap_or(u64::MAX))];
    let wanted = wanted.into_iter().filter(|wanted| is_more(*wanted, current));
    let raised = wanted.into_iter().find(|wanted| {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: *wanted, maximum });
        raised
            .inspect_err(|error| debug!(%error, "the limit of open files cannot be raised"))
            .is_ok()
    });
    let limit = raised.unwrap_or(current);
    limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
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

    #[test]
    fn connections_and_handshakes_share_what_the_limit_leaves() {
        let configured = ConnectionLimits::default();
        for files in [1_024, 4_096, 20_000, 200] {
            let ConnectionLimits { total, pending, pending_per_address, .. } =
                within(configured, files);
            assert!(total + pending + OTHER_FILES <= files, "{files}: {total} + {pending}");
            assert!(pending >= 4 && pending_per_address <= pending && total >= 3 * pending);
        }
        assert!(within(configured, 10).total > 0);
        assert_eq!(within(configured, 1 << 20), configured);
    }
}
