//! Evaluating the transactions of groups: which of them are valid.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use downbeat_protocol::CoValueId;

use super::group::{Effect, Group, Kind, Mapping, Step};
use super::history::{self, History};
use super::{Role, UnknownGroup};

/// Computes the histories of a group and its ancestors, unless they are known.
///
/// The transactions of a group depend on the roles in its parents, so a parent is evaluated when
/// the first valid transaction names it. Groups that depend on each other form one [`Circle`]. A
/// stack of circles replaces recursion, because the authors of groups choose the depth.
pub(super) fn evaluate(
    groups: &BTreeMap<CoValueId, Group>,
    histories: &mut BTreeMap<CoValueId, History>,
    group: CoValueId,
) -> Result<(), UnknownGroup> {
    if histories.contains_key(&group) {
        return Ok(());
    }
    let mut evaluation = Evaluation { groups, histories, stack: Vec::new() };
    let result = evaluation.open(group).and_then(|()| evaluation.run());
    if result.is_err() {
        // An incomplete history must not look complete.
        let Evaluation { histories, stack, .. } = evaluation;
        for id in stack.into_iter().flat_map(|circle| circle.members) {
            histories.remove(&id);
        }
    }
    result
}

struct Evaluation<'a> {
    groups: &'a BTreeMap<CoValueId, Group>,
    histories: &'a mut BTreeMap<CoValueId, History>,
    stack: Vec<Circle<'a>>,
}

/// Groups that are evaluated together; usually only one.
struct Circle<'a> {
    members: Vec<CoValueId>,
    /// The transactions of all members, in the order of their times.
    steps: Vec<(&'a Group, &'a Step)>,
    next: usize,
}

impl Evaluation<'_> {
    fn run(&mut self) -> Result<(), UnknownGroup> {
        while let Some(circle) = self.stack.last() {
            let Some((group, step)) = circle.steps.get(circle.next).copied() else {
                self.stack.pop();
                continue;
            };
            match self.take(group, step)? {
                ControlFlow::Continue(()) => {
                    if let Some(circle) = self.stack.last_mut() {
                        circle.next += 1;
                    }
                }
                ControlFlow::Break(Needs(parent)) => self.go_to(parent)?,
            }
        }
        Ok(())
    }

    /// Applies a transaction if its author has the right to make it, or returns the group that must
    /// be evaluated first.
    fn take(&mut self, group: &Group, step: &Step) -> Result<ControlFlow<Needs>, UnknownGroup> {
        let author_role = self.authority(group.id, &step.author, step.made_at);
        match &step.effect {
            Effect::Role { member, role } => {
                let member_role = || self.authority(group.id, member, step.made_at);
                let may = may_set_role(group, step, member, *role, author_role, member_role);
                if may && let Some(history) = self.histories.get_mut(&group.id) {
                    history.set_role(step.made_at, member, *role);
                }
            }
            Effect::Parent { parent, mapping } => {
                if !matches!(author_role, Authority::Role(Role::Admin | Role::Manager)) {
                    return Ok(ControlFlow::Continue(()));
                }
                let named = self.groups.get(parent).ok_or(UnknownGroup(*parent))?;
                if named.kind != Kind::Group {
                    return Ok(ControlFlow::Continue(()));
                }
                if !self.is_ready(*parent) {
                    return Ok(ControlFlow::Break(Needs(*parent)));
                }
                if !self.is_circular(group.id, *parent)
                    && let Some(history) = self.histories.get_mut(&group.id)
                {
                    history.set_parent(step.made_at, *parent, *mapping);
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether a group has been evaluated, or belongs to the current circle.
    fn is_ready(&self, id: CoValueId) -> bool {
        let is_waiting = |circle: &Circle<'_>| circle.members.contains(&id);
        let waiting = self.stack.split_last().map_or(&[][..], |(_, waiting)| waiting);
        self.histories.contains_key(&id) && !waiting.iter().any(is_waiting)
    }

    /// Whether a parent that is ready has the group among its ancestors. Both are in the current
    /// circle then, because a parent that was evaluated earlier did not depend on the group.
    fn is_circular(&self, group: CoValueId, parent: CoValueId) -> bool {
        self.stack.last().is_some_and(|circle| circle.members.contains(&parent))
            && history::is_ancestor(self.histories, group, parent)
    }

    /// Continues with a group that the current circle depends on. If that group waits for the
    /// current circle, all circles between them are restarted as one.
    fn go_to(&mut self, id: CoValueId) -> Result<(), UnknownGroup> {
        match self.stack.iter().position(|circle| circle.members.contains(&id)) {
            None => self.open(id),
            Some(first) => {
                let members = self.stack.drain(first..).flat_map(|circle| circle.members).collect();
                self.begin(members)
            }
        }
    }

    fn open(&mut self, id: CoValueId) -> Result<(), UnknownGroup> {
        self.begin(vec![id])
    }

    fn begin(&mut self, members: Vec<CoValueId>) -> Result<(), UnknownGroup> {
        let mut groups = Vec::with_capacity(members.len());
        for id in &members {
            let group = self.groups.get(id).ok_or(UnknownGroup(*id))?;
            self.histories.insert(*id, History::new(group.kind == Kind::Account));
            groups.push(group);
        }
        // At equal times the older group comes first, which is usually the parent.
        groups.sort_by(|a, b| {
            let created_at =
                |group: &Group| group.steps.first().map_or(f64::MAX, |step| step.made_at);
            created_at(a).total_cmp(&created_at(b)).then(a.id.cmp(&b.id))
        });
        let mut steps: Vec<_> =
            groups.iter().flat_map(|group| group.steps.iter().map(|step| (*group, step))).collect();
        if groups.len() > 1 {
            steps.sort_by(|(_, a), (_, b)| a.made_at.total_cmp(&b.made_at));
        }
        self.stack.push(Circle { members, steps, next: 0 });
        Ok(())
    }

    /// The role that decides over a change in a group, of its author or of the member that it
    /// concerns: the last role given in the group, or a higher one from a parent. The role of
    /// everyone does not count.
    fn authority(&self, group: CoValueId, member: &str, at: f64) -> Authority {
        let Some(history) = self.histories.get(&group) else { return Authority::None };
        let mut authority = history.own_role(member, None).map_or(Authority::None, Authority::Role);
        if authority == Authority::Role(Role::Admin) {
            return authority;
        }
        for (parent, mapping) in history.authorities() {
            let parent_role = history::role_at(self.histories, *parent, member, Some(at));
            let Some(parent_role) = parent_role.filter(|role| history::is_inheritable(*role))
            else {
                continue;
            };
            let inherited = match mapping {
                Mapping::Extend => Authority::Role(parent_role),
                Mapping::Role(role) => Authority::Role(*role),
                Mapping::Unknown => Authority::Unknown,
                Mapping::Revoked | Mapping::Absent => continue,
            };
            if inherited.is_above(authority) {
                authority = inherited;
            }
        }
        authority
    }
}

/// The group that must be evaluated first.
struct Needs(CoValueId);

/// The authority of a member in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Authority {
    /// No role.
    None,
    /// A role.
    Role(Role),
    /// A parent's mapping to a value that is not a role.
    Unknown,
}

impl Authority {
    /// Whether this authority from a parent replaces `other`.
    ///
    /// Writers rank like readers here, because neither can change roles.
    fn is_above(self, other: Self) -> bool {
        self.rank() > other.rank()
    }

    fn rank(self) -> u8 {
        match self {
            Self::None | Self::Role(Role::Revoked) => 0,
            Self::Role(Role::Admin) => 3,
            Self::Role(Role::Manager) => 2,
            Self::Role(_) | Self::Unknown => 1,
        }
    }
}

/// Whether an author has the right to give a role to a member.
fn may_set_role(
    group: &Group,
    step: &Step,
    member: &str,
    role: Role,
    author_role: Authority,
    member_role: impl Fn() -> Authority,
) -> bool {
    let is_self = *step.author == *member;
    let is_foundation = author_role == Authority::None
        && step.author == group.initial_admin
        && is_self
        && role == Role::Admin;
    if is_foundation || is_self && role == Role::Revoked {
        return true;
    }
    let Authority::Role(author_role) = author_role else { return false };
    let is_admin = || member_role() == Authority::Role(Role::Admin);
    match author_role {
        Role::Admin => role == Role::Admin || is_self || !is_admin(),
        Role::Manager => {
            !matches!(role, Role::Admin | Role::AdminInvite | Role::ManagerInvite) && !is_admin()
        }
        Role::AdminInvite => role == Role::Admin,
        Role::ManagerInvite => role == Role::Manager,
        Role::WriterInvite => role == Role::Writer,
        Role::ReaderInvite => role == Role::Reader,
        Role::WriteOnlyInvite => role == Role::WriteOnly,
        Role::Writer | Role::Reader | Role::WriteOnly | Role::Revoked => false,
    }
}
