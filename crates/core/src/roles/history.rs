//! The valid role changes of a group over time, and the roles that follow from them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use downbeat_protocol::CoValueId;

use super::group::Mapping;
use super::{Member, Role};

/// The roles and parents of a group over time.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Whether the group is an account, which is always an admin of itself.
    pub(super) is_account: bool,
    roles: BTreeMap<Arc<str>, Timeline<Role>>,
    /// In the order in which they were first named.
    parents: Vec<(CoValueId, Timeline<Mapping>)>,
    /// The parents that are not revoked, in the order in which they were added.
    authorities: Vec<(CoValueId, Mapping)>,
}

/// Values with the times from which they hold, in order.
#[derive(Debug, Clone)]
struct Timeline<T>(Vec<(f64, T)>);

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> Timeline<T> {
    fn push(&mut self, made_at: f64, value: T) {
        self.0.push((made_at, value));
    }

    /// The value at a time, or the last value for `None`.
    fn at(&self, at: Option<f64>) -> Option<T> {
        let end =
            at.map_or(self.0.len(), |at| self.0.partition_point(|(made_at, _)| *made_at <= at));
        self.0.get(..end)?.last().map(|(_, value)| *value)
    }
}

impl History {
    /// A history without changes.
    pub(super) fn new(is_account: bool) -> Self {
        Self { is_account, ..Self::default() }
    }

    pub(super) fn set_role(&mut self, made_at: f64, member: &Arc<str>, role: Role) {
        self.roles.entry(member.clone()).or_default().push(made_at, role);
    }

    pub(super) fn set_parent(&mut self, made_at: f64, parent: CoValueId, mapping: Mapping) {
        match self.parents.iter_mut().find(|(id, _)| *id == parent) {
            Some((_, timeline)) => timeline.push(made_at, mapping),
            None => self.parents.push((parent, Timeline(vec![(made_at, mapping)]))),
        }
        let authority = self.authorities.iter().position(|(id, _)| *id == parent);
        match (authority, mapping) {
            (Some(index), Mapping::Revoked) => {
                self.authorities.remove(index);
            }
            (None, Mapping::Revoked) => {}
            (Some(index), _) => self.authorities[index].1 = mapping,
            (None, _) => self.authorities.push((parent, mapping)),
        }
    }

    /// The role that the group itself gives a member.
    pub(super) fn own_role(&self, member: &str, at: Option<f64>) -> Option<Role> {
        self.roles.get(member)?.at(at)
    }

    /// The parents that authors of transactions inherit roles from.
    pub(super) fn authorities(&self) -> &[(CoValueId, Mapping)] {
        &self.authorities
    }

    /// The parents that are not revoked at a time.
    fn parents(&self, at: Option<f64>) -> impl Iterator<Item = (CoValueId, Mapping)> {
        self.parents.iter().filter_map(move |(parent, timeline)| {
            timeline
                .at(at)
                .filter(|mapping| *mapping != Mapping::Revoked)
                .map(|mapping| (*parent, mapping))
        })
    }
}

/// The role of a member in a group at a time, including inherited roles.
///
/// The authors of groups choose the graph of parents, so the search visits each group once and does
/// not recurse.
pub(super) fn role_at(
    histories: &BTreeMap<CoValueId, History>,
    group: CoValueId,
    member: &str,
    at: Option<f64>,
) -> Option<Role> {
    // Rule of the reference: time 0 applies to the queried group, but means "now" for its parents.
    let parents_at = at.filter(|at| *at != 0.0);
    let mut found: BTreeMap<(CoValueId, bool), Option<Role>> = BTreeMap::new();
    let mut open = vec![(group, true, false)];
    while let Some((id, is_queried, is_opened)) = open.pop() {
        let Some(history) = histories.get(&id) else { continue };
        let at = if is_queried { at } else { parents_at };
        if is_opened {
            let parent_role = |parent| found.get(&(parent, false)).copied().flatten();
            let role = combined_role(history, id, member, at, parent_role);
            found.insert((id, is_queried), role);
        } else if let Entry::Vacant(entry) = found.entry((id, is_queried)) {
            // A group that is its own ancestor inherits nothing from itself.
            entry.insert(None);
            open.push((id, is_queried, true));
            open.extend(history.parents(at).map(|(parent, _)| (parent, false, false)));
        }
    }
    found.get(&(group, true)).copied().flatten()
}

/// Whether `group` is currently `parent` or one of its ancestors.
pub(super) fn is_ancestor(
    histories: &BTreeMap<CoValueId, History>,
    group: CoValueId,
    parent: CoValueId,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![parent];
    while let Some(id) = open.pop() {
        if id == group {
            return true;
        }
        if seen.insert(id)
            && let Some(history) = histories.get(&id)
        {
            open.extend(history.parents(None).map(|(parent, _)| parent));
        }
    }
    false
}

fn combined_role(
    history: &History,
    id: CoValueId,
    member: &str,
    at: Option<f64>,
    parent_role: impl Fn(CoValueId) -> Option<Role>,
) -> Option<Role> {
    if history.is_account && member == id.as_str() {
        return Some(Role::Admin);
    }
    let own_role = |member| history.own_role(member, at).filter(|role| *role != Role::Revoked);
    let mut role = own_role(member);
    for (parent, mapping) in history.parents(at) {
        if let Some(inherited) = inherited_role(mapping, parent_role(parent))
            && is_more_permissive(inherited, role)
        {
            role = Some(inherited);
        }
    }
    if role.is_none() && member != Member::EVERYONE {
        role = own_role(Member::EVERYONE);
    }
    role
}

/// The role that a member with `parent_role` in a parent inherits, if any.
fn inherited_role(mapping: Mapping, parent_role: Option<Role>) -> Option<Role> {
    let parent_role = parent_role.filter(|role| is_inheritable(*role))?;
    match mapping {
        Mapping::Extend => Some(parent_role),
        Mapping::Role(role) => Some(role),
        Mapping::Revoked | Mapping::Unknown | Mapping::Absent => None,
    }
}

/// Whether members with this role in a parent inherit a role.
pub(super) fn is_inheritable(role: Role) -> bool {
    matches!(role, Role::Admin | Role::Manager | Role::Writer | Role::Reader)
}

/// Whether an inherited role replaces the member's other role.
fn is_more_permissive(inherited: Role, role: Option<Role>) -> bool {
    match inherited {
        Role::Admin => role != Some(Role::Admin),
        Role::Manager => !matches!(role, Some(Role::Admin | Role::Manager)),
        Role::Writer => matches!(role, None | Some(Role::Reader | Role::WriteOnly)),
        Role::Reader => role.is_none(),
        _ => false,
    }
}
