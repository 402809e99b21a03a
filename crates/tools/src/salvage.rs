//! Salvage: copies what is left of a damaged store into another store.

use downbeat_storage::Damage;

use crate::check::Reason;
use crate::findings::Finding;
use crate::import::{Imported, Interrupted, import_store};
use crate::progress::ProgressObserver;
use crate::store::Store;

/// Copies the content that `to` lacks from a damaged store, and lists what is missing.
///
/// `losses` is damage that reading the store does not show; it is listed first. The target gets the
/// beginning of each session up to the first damage, so clients can send the rest again.
pub fn salvage(
    from: &Store,
    losses: &[Damage],
    to: &Store,
    progress: &dyn ProgressObserver,
) -> Result<Imported, Interrupted> {
    let add = |imported: &mut Imported| imported.report.add(losses.iter().map(finding));
    match import_store(from, to, progress) {
        Ok(mut imported) => {
            add(&mut imported);
            Ok(imported)
        }
        Err(mut interrupted) => {
            add(&mut interrupted.imported);
            Err(interrupted)
        }
    }
}

fn finding(damage: &Damage) -> Finding {
    Finding {
        line: None,
        co_value: damage.id(),
        session: damage.session().cloned(),
        reason: Reason::Damaged(damage.clone()),
    }
}
