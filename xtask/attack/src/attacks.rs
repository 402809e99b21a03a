//! The catalogue of attacks.

mod claims;
mod connections;
mod content;
mod deletions;
mod memory;
mod names;
mod readers;
mod reconcile;
mod sessions;
mod signatures;
mod tcp;
mod upstream;

use std::pin::Pin;

use anyhow::Result;

use crate::ground::Ground;

/// An attack on a server.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// What is sent, in one sentence.
    pub(crate) what: &'static str,
    /// Whether it is in the selection of `--short`, which is the short run of the test command. Its
    /// verdict must not depend on the load of the machine.
    pub(crate) in_short: bool,
    pub(crate) stage: Stage,
    pub(crate) run: Run,
}

/// The work of an attack: it prepares, calls [`Ground::begin`] and attacks.
type Run = for<'a> fn(&'a mut Ground) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// The server that an attack needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Default settings.
    Default,
    /// With a TCP port.
    Tcp,
    /// Only for clients with keys.
    Keys,
    /// With the attacker as its upstream.
    Upstream,
}

/// Describes an attack: its function, its name, and what it sends.
macro_rules! attack {
    ($function:path, $name:literal, $what:literal) => {
        Attack {
            name: $name,
            what: $what,
            in_short: false,
            stage: Stage::Default,
            run: |ground| Box::pin($function(ground)),
        }
    };
}

impl Attack {
    const fn in_short(self) -> Self {
        Self { in_short: true, ..self }
    }

    const fn on(self, stage: Stage) -> Self {
        Self { stage, ..self }
    }
}

/// All attacks.
pub(crate) const ALL: &[Attack] = &[
    attack!(nothing, "nothing", "No attack: the bounds hold for an undisturbed server."),
    attack!(
        reconcile::flood,
        "reconcile-flood",
        "40 RECONCILE messages with 10,000 unknown ids each."
    )
    .in_short(),
    attack!(
        reconcile::held_groups,
        "held-groups",
        "48 groups that name 672,000 unknown parents, over 3 connections, then silence."
    ),
    attack!(
        sessions::many_sessions,
        "many-sessions",
        "Valid content of 20,000 sessions in one CoValue."
    ),
    attack!(
        sessions::acknowledged_sessions,
        "acknowledged-sessions",
        "Single writes to a CoValue with 6,000 sessions and 50 subscribers."
    ),
    attack!(
        claims::repeated_claims,
        "repeated-claims",
        "A KNOWN with 100,000 invented sessions, then many short KNOWNs of the same CoValue."
    )
    .in_short(),
    attack!(
        signatures::wrong_signatures,
        "wrong-signatures",
        "20,000 sessions with well-formed wrong signatures in few messages."
    )
    .in_short(),
    attack!(
        signatures::repeated_fork,
        "repeated-fork",
        "A fork of the last transaction of a 27 MB log, many times."
    ),
    attack!(
        memory::junk_frames,
        "junk-frames",
        "80 frames of 15 MiB, each a short transaction and junk in an unknown member."
    )
    .in_short(),
    attack!(
        memory::large_headers,
        "large-headers",
        "300 headers with 1 MiB of meta and no content."
    )
    .in_short(),
    attack!(
        memory::claimed_sessions,
        "claimed-sessions",
        "150 LOADs with 100,000 invented sessions each."
    ),
    attack!(
        memory::claims_at_once,
        "claims-at-once",
        "200 addresses send a LOAD with 100,000 invented sessions each, at the same time."
    ),
    attack!(
        memory::large_contents,
        "large-contents",
        "200 addresses send a message with 25,000 wrong signatures each, at the same time."
    ),
    attack!(memory::batch_ids, "batch-ids", "96 RECONCILE messages with a batch id of 15 MiB."),
    attack!(
        memory::reconcile_entries,
        "reconcile-entries",
        "1,000,000 unknown ids in RECONCILE messages."
    ),
    attack!(memory::held_ids, "held-ids", "15 groups that name 210,000 unknown parents."),
    attack!(
        memory::unread_loads,
        "unread-loads",
        "500 connections LOAD a CoValue of 1 MB transactions, and never read."
    )
    .in_short(),
    attack!(
        memory::wrong_signature_bytes,
        "wrong-signature-bytes",
        "131 MB of sessions with wrong signatures."
    ),
    attack!(
        memory::memory_return,
        "memory-return",
        "96 connections send a frame of 15 MiB each, and close."
    ),
    attack!(
        readers::hot_co_value,
        "hot-co-value",
        "200 writes in a second to a CoValue with 400 subscribers that read slowly or never."
    ),
    attack!(readers::crowd, "crowd", "990 connections LOAD the same 2.5 MB at once, and read it."),
    attack!(
        readers::repeated_loads,
        "repeated-loads",
        "60,000 LOADs of the same 5 MB as if nothing of it had arrived."
    ),
    attack!(
        readers::stale_claims,
        "stale-claims",
        "60,000 LOADs and KNOWNs that claim everything, nothing and too much by turns."
    ),
    attack!(
        connections::churn,
        "connection-churn",
        "40 connections with 10,000 subscriptions each that end at once."
    ),
    attack!(
        connections::short_connections,
        "short-connections",
        "5,000 connections that end as soon as they are made."
    ),
    attack!(
        connections::many_keys,
        "many-keys",
        "RECONCILE messages with 10,000 unknown ids from 50 keys."
    )
    .on(Stage::Keys),
    attack!(
        connections::many_addresses,
        "many-addresses",
        "RECONCILE messages with 10,000 unknown ids from 100 addresses with 10 connections each."
    ),
    attack!(
        connections::half_frames,
        "half-frames",
        "80 connections send 90 % of a frame of 15 MiB, then nothing."
    ),
    attack!(connections::slow_frames, "slow-frames", "900 connections send a frame byte by byte."),
    attack!(
        connections::pings,
        "pings",
        "Millions of WebSocket pings, from a client that does not read the answers, and one that does."
    ),
    attack!(connections::fragments, "fragments", "A message in 1,000,000 fragments."),
    attack!(
        connections::compressed_frames,
        "compressed-frames",
        "200 frames of 64 KiB that unpack to 64 MiB each, if they are unpacked."
    )
    .in_short(),
    attack!(connections::http, "http", "25,600 HTTP requests with large heads on the public port."),
    attack!(
        connections::garbage,
        "garbage",
        "80,000 frames that are no messages, cut off or nested deeply."
    ),
    attack!(names::unknown_loads, "unknown-loads", "500,000 LOADs of unknown ids."),
    attack!(names::unknown_knowns, "unknown-knowns", "500,000 KNOWNs of unknown ids."),
    attack!(
        names::unknown_corrections,
        "unknown-corrections",
        "500,000 corrections of unknown ids."
    ),
    attack!(
        names::wrong_hashes,
        "wrong-hashes",
        "500,000 stored ids with wrong hashes in RECONCILE messages."
    ),
    attack!(
        names::idle_talk,
        "idle-talk",
        "300,000 acknowledgements of nothing, DONEs and empty RECONCILE messages."
    ),
    attack!(
        names::forged_lines,
        "forged-lines",
        "Line ends and terminal escapes in every text of a message."
    )
    .in_short(),
    attack!(names::impossible_ids, "impossible-ids", "200,000 LOADs of texts that are no ids."),
    attack!(
        signatures::everywhere,
        "wrong-everywhere",
        "One wrong signature in each of 40,000 CoValues."
    ),
    attack!(
        deletions::forged,
        "forged-deletions",
        "20,000 deletions by strangers and with wrong signatures."
    )
    .in_short(),
    attack!(
        deletions::large,
        "large-deletions",
        "Valid deletions of CoValues with 2,000 sessions."
    ),
    attack!(
        deletions::after_deletion,
        "after-deletion",
        "Content of a deleted CoValue from 4,000 sessions, and LOADs that claim it."
    ),
    attack!(
        content::corrections,
        "corrections",
        "100,000 contents without a header or after a gap."
    ),
    attack!(
        content::backwards,
        "backwards",
        "A log of 20,000 transactions, one in each message, from the last to the first."
    ),
    attack!(content::replays, "replays", "The same 2 MB of valid content 400 times."),
    attack!(
        content::circles,
        "circles",
        "5,000 groups that are parents of each other, in circles."
    ),
    attack!(content::chain, "chain", "A chain of 5,000 groups, the lowest first."),
    attack!(
        content::lattice,
        "lattice",
        "1,000 groups in layers, each with all 30 groups of the next layer as parents."
    ),
    attack!(
        content::nested_headers,
        "nested-headers",
        "Headers with deeply nested meta, and with 2,000 members."
    ),
    attack!(
        content::unfinished,
        "unfinished",
        "2,000 CoValues that promise content of 2,000 sessions which never comes."
    ),
    attack!(
        content::tiny_co_values,
        "tiny-co-values",
        "60,000 CoValues with one valid transaction each."
    ),
    attack!(tcp::reconcile_flood, "tcp-reconcile-flood", "reconcile-flood over the TCP transport.")
        .on(Stage::Tcp),
    attack!(
        tcp::claims,
        "tcp-claims",
        "100 LOADs and KNOWNs with 100,000 invented sessions each over the TCP transport."
    )
    .on(Stage::Tcp),
    attack!(
        tcp::wrong_signatures,
        "tcp-wrong-signatures",
        "wrong-signatures over the TCP transport."
    )
    .on(Stage::Tcp),
    attack!(tcp::many_sessions, "tcp-many-sessions", "many-sessions over the TCP transport.")
        .on(Stage::Tcp),
    attack!(tcp::batch_ids, "tcp-batch-ids", "batch-ids over the TCP transport.").on(Stage::Tcp),
    attack!(upstream::silent, "upstream-silent", "An upstream that answers nothing.")
        .on(Stage::Upstream),
    attack!(
        upstream::garbage,
        "upstream-garbage",
        "An upstream that sends 20,000 frames that are no messages."
    )
    .on(Stage::Upstream),
    attack!(
        upstream::endless_promises,
        "upstream-promises",
        "An upstream that promises content of 20,000 sessions which never comes."
    )
    .on(Stage::Upstream),
    attack!(
        upstream::claims,
        "upstream-claims",
        "An upstream that claims 100,000 sessions of each CoValue."
    )
    .on(Stage::Upstream)
    .in_short(),
    attack!(
        upstream::unasked_content,
        "upstream-unasked",
        "An upstream that sends 20,000 CoValues which no client has asked for."
    )
    .on(Stage::Upstream),
];

async fn nothing(ground: &mut Ground) -> Result<()> {
    ground.begin().await
}
