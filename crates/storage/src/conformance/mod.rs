//! The rules of the [`Storage`] contract, as a suite that any backend runs in its own tests.
//!
//! [`run`] checks the rules that one opening of a store can show. [`run_reopening`] checks that a
//! store keeps its data, and [`run_moving`] that it notices when its files are moved or deleted.
//! All content is really signed, so a run that a store cuts or merges wrongly fails by its
//! signature.
//!
//! ```no_run
//! use downbeat_storage::{MemoryStorage, conformance};
//!
//! #[tokio::main]
//! async fn main() {
//!     conformance::run(|| (), async |()| MemoryStorage::new()).await;
//! }
//! ```

mod concurrency;
mod content;
mod deleting;
mod ids;
#[cfg(unix)]
mod moving;
mod paging;
mod random;
mod reading;
mod reopening;
mod scale;
mod writing;

#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::storage::Storage;

pub use content::{Author, CoValueFixture};

/// Time limit of one rule, for stores that hang. Generous, because the suite also runs on loaded
/// machines and slow disks.
const RULE_TIMEOUT: Duration = Duration::from_mins(2);

type Store = Arc<dyn Storage>;

/// Runs every rule, each on an empty store of its own. `place` makes a place for the store, for
/// example a temporary directory, which is dropped after the rule. `open` opens the store in it.
///
/// Needs a multi-threaded Tokio runtime with time enabled.
///
/// # Panics
///
/// If a rule is broken. The message names the rule.
pub async fn run<P, S: Storage>(place: impl Fn() -> P, open: impl AsyncFn(&P) -> S) {
    macro_rules! rules {
        ($($module:ident: $($rule:ident),* $(,)?;)*) => {
            $($({
                let place = place();
                let store: Store = Arc::new(open(&place).await);
                timed(stringify!($rule), Box::pin($module::$rule(&store))).await;
            })*)*
        };
    }
    rules! {
        writing:
            nothing_is_stored_at_first,
            a_header_alone_makes_a_covalue,
            content_without_a_header_is_reported_and_not_stored,
            what_was_appended_is_read_back_and_verifies,
            an_extension_off_its_expectation_is_reported_by_itself,
            the_writes_of_a_batch_build_on_each_other,
            an_extension_without_transactions_changes_nothing,
            a_covalue_is_created_even_if_its_sessions_conflict,
            the_figures_follow_the_writes;
        reading:
            small_extensions_are_merged_up_to_a_checkpoint,
            an_extension_is_never_split,
            reading_starts_at_any_position,
            reading_stops_at_the_budget_and_can_be_gone_on_with,
            extensions_are_read_as_they_were_appended,
            sessions_come_in_the_order_of_their_ids,
            there_is_nothing_beyond_what_is_stored,
            many_are_looked_up_as_each_by_itself,
            many_are_read_as_each_by_itself_within_one_budget;
        deleting:
            a_tombstone_hides_all_but_delete_sessions,
            a_deleted_covalue_takes_delete_sessions_only,
            a_tombstone_that_does_not_fit_deletes_nothing,
            a_tombstone_may_follow_its_covalue_in_one_batch,
            a_tombstone_for_a_stored_delete_session_marks_it,
            erasing_removes_everything_but_the_tombstone,
            erasing_takes_bounded_steps,
            what_is_not_deleted_cannot_be_erased;
        paging:
            covalues_are_listed_in_pages,
            a_walk_while_others_write_finds_all_that_was_there,
            what_is_not_acknowledged_is_listed_in_pages,
            an_acknowledged_covalue_is_forgotten;
        ids:
            ids_that_begin_like_others_are_kept_apart,
            sessions_of_any_kind_of_owner_are_kept_apart,
            names_of_upstreams_are_kept_apart;
        scale:
            a_large_transaction_comes_back,
            a_large_extension_comes_back,
            a_large_header_comes_back,
            a_long_log_of_small_extensions_is_read_in_few_runs,
            many_sessions_of_one_covalue,
            many_covalues;
        concurrency:
            of_writers_that_race_for_a_log_one_wins_each_round,
            appends_from_everywhere_all_take_effect,
            readers_see_whole_extensions_while_one_writes,
            a_reader_is_not_disturbed_by_deletion,
            an_abandoned_append_is_whole_or_nothing,
            a_closed_store_says_so;
        random:
            a_random_history_ends_as_in_memory;
    }
}

/// Runs the rules of a store that keeps its data when it is closed, and opened again in the same
/// place. The arguments are those of [`run`].
pub async fn run_reopening<P, S: Storage>(place: impl Fn() -> P, open: impl AsyncFn(&P) -> S) {
    macro_rules! rules {
        ($($rule:ident),* $(,)?) => {
            $({
                let place = place();
                let open = async || Arc::new(open(&place).await) as Store;
                timed(stringify!($rule), Box::pin(reopening::$rule(open))).await;
            })*
        };
    }
    rules! {
        everything_is_there_after_closing,
        everything_is_there_after_dropping,
        a_log_goes_on_where_it_was,
        erasure_goes_on_where_it_was,
        a_store_can_be_opened_again_and_again,
    }
}

/// Runs the rules of a store that is moved or deleted while it is open. `place` makes an empty
/// directory for each rule, and `open` opens a store in a directory inside it, which may not exist
/// yet. The store must keep all its files in that directory.
#[cfg(unix)]
pub async fn run_moving<P: AsRef<Path>, S: Storage>(
    place: impl Fn() -> P,
    open: impl AsyncFn(&Path) -> S,
) {
    let open = async |dir: &Path| Arc::new(open(dir).await) as Store;
    let directory = place();
    let rule = Box::pin(moving::nothing_is_stored_while_the_store_is_moved_away(
        directory.as_ref(),
        &open,
    ));
    timed("nothing_is_stored_while_the_store_is_moved_away", rule).await;
    let directory = place();
    let rule =
        Box::pin(moving::nothing_is_stored_once_the_store_is_deleted(directory.as_ref(), &open));
    timed("nothing_is_stored_once_the_store_is_deleted", rule).await;
}

async fn timed(name: &str, rule: impl Future<Output = ()>) {
    tokio::time::timeout(RULE_TIMEOUT, rule)
        .await
        .unwrap_or_else(|_| panic!("{name} did not end within {RULE_TIMEOUT:?}"));
}
