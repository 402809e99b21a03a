//! Gathering a group with all of its parents.

use downbeat_protocol::CoValueId;

use super::{Group, Roles};

/// Groups in a family. Real groups have a handful of ancestors.
pub const MAX_GROUPS: usize = 10_000;

/// Gathers a group and all its parents from wherever they are stored: load the groups that
/// [`Self::next_missing`] returns, and [`insert`](Self::insert) each of them.
///
/// ```
/// use downbeat_core::roles::FamilyLoader;
/// use downbeat_protocol::CoValueId;
///
/// let id = CoValueId::parse("co_z1")?;
/// let mut loader = FamilyLoader::new(id);
/// assert_eq!(loader.next_missing(), Some(id));
/// assert_eq!(loader.next_missing(), None);
/// assert!(loader.finish().is_some(), "this group has no parents");
/// # Ok::<(), downbeat_protocol::InvalidId>(())
/// ```
#[derive(Debug)]
pub struct FamilyLoader {
    roles: Roles,
    /// Groups to load next.
    missing: Vec<CoValueId>,
    loaded: usize,
    is_too_large: bool,
}

impl FamilyLoader {
    /// Begins with a group.
    pub fn new(group: CoValueId) -> Self {
        Self { roles: Roles::new(), missing: vec![group], loaded: 0, is_too_large: false }
    }

    /// The next group to load. `None` if all are there, or if there are more than [`MAX_GROUPS`].
    pub fn next_missing(&mut self) -> Option<CoValueId> {
        if self.missing.is_empty() && self.loaded > 0 {
            self.missing = self.roles.missing();
        }
        let next = self.missing.pop()?;
        self.is_too_large = self.loaded >= MAX_GROUPS;
        self.loaded += 1;
        (!self.is_too_large).then_some(next)
    }

    /// Adds a group that has been loaded.
    pub fn insert(&mut self, group: Group) {
        self.roles.insert(group);
    }

    /// The roles in all of the groups. `None` if there were too many.
    pub fn finish(self) -> Option<Roles> {
        (!self.is_too_large).then_some(self.roles)
    }
}
