//! What is kept of what upstreams send.

use std::collections::BTreeSet;
use std::sync::Arc;

use downbeat_core::dependencies;
use downbeat_protocol::{CoValueId, Content, Header, Ruleset};

use super::{ContentPolicy, Reason, Verdict, is_of, needs_of};
use crate::access::account_of;
use crate::link::Link;

impl ContentPolicy {
    /// An upstream sends what it was asked for, and the operator chose it: what it
    /// sends is not taken apart, but it is only kept where a listed account may load it.
    pub(super) async fn of_upstream(
        &self,
        listed: &Arc<BTreeSet<CoValueId>>,
        link: &Link,
        content: Content,
    ) -> Verdict {
        let id = content.id;
        let Some(header) = &content.header else {
            // More of what is here, or of what was not wanted.
            return if self.memory().is_unwanted(id) {
                Verdict::Refuse
            } else {
                self.need(listed, needs_of(&content), None);
                Verdict::Take(content)
            };
        };
        if !self.is_here(id).await && !self.is_wanted(listed, &content, header).await {
            self.refuse(link, id, None, Reason::NotWanted);
            self.memory().set_unwanted(id);
            return Verdict::Refuse;
        }
        self.let_in(listed, &content);
        self.need(listed, needs_of(&content), None);
        Verdict::Take(content)
    }

    async fn is_wanted(
        &self,
        listed: &BTreeSet<CoValueId>,
        content: &Content,
        header: &Header,
    ) -> bool {
        let id = content.id;
        if self.memory().needed.contains(&id)
            || content.sessions.iter().any(|run| is_of(listed, run))
        {
            return true;
        }
        match header.ruleset() {
            Ruleset::Group { .. } if header.account_agent().is_some() => listed.contains(&id),
            Ruleset::Group { initial_admin } => {
                let is_ours = listed.contains(&account_of(initial_admin))
                    || self.names_listed(listed, content).await
                    // The pieces that follow may name other accounts.
                    || content.expect_content_until.is_some();
                self.memory().set_standing(id, is_ours);
                is_ours
            }
            Ruleset::OwnedByGroup { group } => self.is_group_of(listed, *group, None).await,
            Ruleset::UnsafeAllowAll => false,
        }
    }

    /// Whether a group's content names a listed account as a member, or as a parent a group in
    /// which one has a role.
    async fn names_listed(&self, listed: &BTreeSet<CoValueId>, content: &Content) -> bool {
        let transactions = content.sessions.iter().flat_map(|run| &run.transactions);
        let named = dependencies::of_group_transactions(transactions);
        if named.iter().any(|id| listed.contains(id)) {
            return true;
        }
        for id in named {
            if self.is_group_of(listed, id, None).await {
                return true;
            }
        }
        false
    }
}
