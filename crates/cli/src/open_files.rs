//! The limit of open files. Each connection is an open file.

use downbeat_transport::net::ConnectionLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Open files besides client connections: the store, 64 connections of the admin port, upstreams,
/// logs, and the reserve.
const OTHER_FILES: usize = 128;

/// The least number of files for connections, however low the limit is.
const LEAST_ROOM: usize = 16;

/// Raises the limit as far as the system allows, and warns if it is too low for this number of
/// connections. Systems have a low default for the sake of old programs.
pub(crate) fn allow_for(connections: usize) {
    let needed = connections.saturating_add(OTHER_FILES);
    if let Some(limit) = raise(needed).filter(|limit| *limit < needed) {
        warn!(
            limit,
            connections,
            "the limit of open files is too low for this number of connections: raise it (`ulimit -n`)"
        );
    }
}

/// Raises the limit, and lowers the maximum of connections if the limit is still too low.
pub(crate) fn fit(configured: ConnectionLimits) -> ConnectionLimits {
    // Handshakes and refusals need files as well.
    let needed = configured.total.saturating_add(configured.pending).saturating_add(OTHER_FILES);
    let Some(limit) = raise(needed).filter(|limit| *limit < needed) else { return configured };
    let fitting = within(configured, limit);
    if fitting.total == configured.total {
        debug!(limit, pending = fitting.pending, "lowered the maximum of pending handshakes");
        return fitting;
    }
    warn!(
        max_connections = fitting.total,
        configured = configured.total,
        limit,
        "max-connections is lowered because of the limit of open files: raise the limit \
         (`ulimit -n`, LimitNOFILE of systemd), or lower `--max-connections`"
    );
    fitting
}

/// The connection limits for this limit of open files.
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

/// Raises the limit if it is below `needed`. Returns the limit, or `None` if there is none.
fn raise(needed: usize) -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Some systems refuse numbers above an internal maximum, even below the stated limit.
    let wanted = [maximum, Some(u64::try_from(needed).unwrap_or(u64::MAX))];
    let wanted = wanted.into_iter().filter(|wanted| is_more(*wanted, current));
    let raised = wanted.into_iter().find(|wanted| {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: *wanted, maximum });
        raised.inspect_err(|error| debug!(%error, "cannot raise the limit of open files")).is_ok()
    });
    let limit = raised.unwrap_or(current);
    limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Whether one limit is higher than another. `None` is no limit, the highest.
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
