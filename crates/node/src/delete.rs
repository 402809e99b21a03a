//! Whether the author of a deletion was allowed to delete, by the history of the owning group.

use downbeat_core::delete::{Claim, DeleteError};
use downbeat_core::roles::Member;
use downbeat_sync::Rejection;
use tracing::error;

use crate::content::ContentStore;
use crate::groups;
use crate::verifier::Failure;

/// Checks a claim against the group that it names, and the group's parents.
pub(crate) async fn check(content: &ContentStore, claim: &Claim) -> Result<(), Failure> {
    let role = match groups::load(content, claim.group).await {
        Ok(Some(mut family)) => {
            let author = Member::from(claim.author.clone());
            family.roles.role_of(claim.group, &author, Some(claim.made_at))
        }
        Ok(None) => return Err(Rejection::from(DeleteError::RoleUnknown).into()),
        Err(error) => {
            error!(group = %claim.group, %error, "a group could not be read");
            return Err(Failure::of_storage(&error));
        }
    };
    let decided = match role {
        Ok(role) => claim.decide(role),
        Err(_) => Err(DeleteError::RoleUnknown),
    };
    decided.map_err(|error| Rejection::from(error).into())
}
