//! Loading a group with all of its ancestors.

use downbeat_protocol::CoValueId;

use super::{Group, Roles};

/// The maximum number of groups that are loaded to compute a role. Real groups have few ancestors.
pub const MAX_GROUPS: usize = 10_000;

/// Loads a group and all of its ancestors, from any storage: the caller loads each group that
/// [`Self::next_missing`] returns, and [`insert`](Self::insert)s it.
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
    /// The groups to load next.
    missing: Vec<CoValueId>,
    loaded: usize,
    is_too_large: bool,
}

impl FamilyLoader {
    /// Starts with a group.
    pub fn new(group: CoValueId) -> Self {
        Self { roles: Roles::new(), missing: vec![group], loaded: 0, is_too_large: false }
    }

    /// The next group to load. `None` if all groups are loaded, or more than [`MAX_GROUPS`] are
    /// needed.
    pub fn next_missing(&mut self) -> Option<CoValueId> {
        if self.missing.is_empty() && self.loaded > 0 {
            self.missing = self.roles.missing();
        }
        let next = self.missing.pop()?;
        self.is_too_large = self.loaded >= MAX_GROUPS;
        self.loaded += 1;
        (!self.is_too_large).then_some(next)
    }

    /// Adds a loaded group.
    pub fn insert(&mut self, group: Group) {
        self.roles.insert(group);
    }

    /// The roles in all loaded groups. `None` if more than [`MAX_GROUPS`] were needed.
    pub fn finish(self) -> Option<Roles> {
        (!self.is_too_large).then_some(self.roles)
    }
}
