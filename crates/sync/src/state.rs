//! The machine's state. Each type keeps its own invariants, has private fields, and does not know
//! the machine; the handlers in `crate::machine` connect them.

pub(crate) mod acknowledgements;
pub(crate) mod announcements;
pub(crate) mod backlog;
pub(crate) mod batches;
pub(crate) mod chains;
pub(crate) mod claims;
pub(crate) mod counts;
pub(crate) mod dependencies;
pub(crate) mod entry;
pub(crate) mod held;
pub(crate) mod index;
pub(crate) mod peer;
pub(crate) mod peers;
pub(crate) mod pending;
pub(crate) mod pipeline;
pub(crate) mod presence;
pub(crate) mod recency;
pub(crate) mod selection;
pub(crate) mod subscribers;
pub(crate) mod subscription;
pub(crate) mod table;
pub(crate) mod timers;
pub(crate) mod unsynced;
pub(crate) mod upstream_link;
pub(crate) mod upstreams;
pub(crate) mod use_list;
pub(crate) mod walk;
