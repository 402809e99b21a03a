//! Conversions from store to store.

mod copies;
mod damage;
mod interrupted;
mod refused;

use downbeat_protocol::{CoValueId, SessionCounts, Signature, UpstreamName};
use downbeat_storage::{StoreStats, Unsynced, UnsyncedUpdate};

use crate::given::{Cast, Dumped, Place};

/// The command and its flags for a native file as the target.
pub(crate) const NATIVE: [&str; 5] = ["convert", "--json", "-q", "--storage-format", "native"];

/// The ends of parts of a log, with their signatures.
type Ends = Vec<(u64, Signature)>;

/// Everything that a conversion keeps.
#[derive(Debug, PartialEq)]
pub(crate) struct Kept {
    content: Vec<Dumped>,
    /// The ends and signatures of the extensions, and those of the runs that clients get.
    cuts: Vec<(CoValueId, Ends, Ends)>,
    notes: Vec<Unsynced>,
    stats: StoreStats,
}

impl Kept {
    /// Reads a store.
    pub(crate) fn of(place: &Place, name: &str) -> Self {
        let content = place.dump(name);
        let store = place.open(name);
        let kept = place.runtime.block_on(async {
            let mut cuts = Vec::new();
            for Dumped { id, .. } in &content {
                let all = SessionCounts::new();
                let extensions = store.read_extensions(*id, &all, usize::MAX >> 1).await.unwrap();
                let runs = store.read(*id, &all, usize::MAX >> 1).await.unwrap();
                let [extensions, runs] = [extensions, runs].map(|parts| {
                    parts.iter().map(|part| (part.end(), part.last_signature)).collect()
                });
                cuts.push((*id, extensions, runs));
            }
            let notes = store.unsynced(None, usize::MAX >> 1).await.unwrap();
            let stats = StoreStats { disk_bytes: None, ..store.stats().await.unwrap() };
            Self { content, cuts, notes, stats }
        });
        place.runtime.block_on(store.close()).unwrap();
        kept
    }
}

/// Makes a store with every kind of content, and notes about two upstreams. One of the notes is of
/// a CoValue that is not stored.
pub(crate) fn make(place: &Place, name: &str) -> Cast {
    let cast = place.make(name);
    let store = place.open(name);
    let missing = CoValueId::parse("co_zMissing").unwrap();
    let note = |id, upstream: &str| UnsyncedUpdate {
        entry: Unsynced { id, upstream: UpstreamName::new(upstream).unwrap() },
        synced: false,
    };
    let updates = vec![
        note(cast.long, "wss://one.example"),
        note(cast.long, "wss://two.example"),
        note(cast.deleted, "wss://one.example"),
        note(missing, "wss://two.example"),
    ];
    place.runtime.block_on(async {
        while store.erase(cast.deleted).await.unwrap().more {}
        store.track_unsynced(updates).await.unwrap();
        store.close().await.unwrap();
    });
    cast
}

/// The files in the directory of a test whose names begin like this.
pub(crate) fn files(place: &Place, beginning: &str) -> Vec<String> {
    let entries = std::fs::read_dir(place.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    names
}
