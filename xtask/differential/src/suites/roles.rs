//! Roles in groups, now and at any time, over random histories.

use anyhow::Result;
use downbeat_core::roles::{Member, Role};
use downbeat_protocol::CoValueId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::groups::{GroupLog, World, roles};
use crate::random::Random;
use crate::suite::Rule;

pub(crate) struct Roles;

#[derive(Serialize, Deserialize)]
pub(crate) struct Case {
    groups: Vec<GroupLog>,
    members: Vec<String>,
    /// The times of the queries, in milliseconds since the Unix epoch. `None` is the time after all
    /// transactions.
    times: Vec<Option<u64>>,
}

impl Rule for Roles {
    type Case = Case;

    fn case(random: &mut Random) -> Case {
        let world = World::random(random, 4, 24);
        let mut times = vec![None];
        times.extend((0..6).map(|_| Some(world.moment(random))));
        if random.percent(10) {
            times.push(Some(0));
        }
        Case { groups: world.groups, members: world.members, times }
    }

    /// The members' roles, by group and time.
    fn answer(case: &Case) -> Result<Value> {
        let mut known = roles(&case.groups)?;
        let mut answers = Vec::new();
        for group in &case.groups {
            let id = CoValueId::parse(&group.id)?;
            for at in &case.times {
                let mut row = Vec::new();
                for member in &case.members {
                    #[expect(clippy::cast_precision_loss, reason = "times are below 2^53")]
                    let at = at.map(|at| at as f64);
                    let Ok(role) = known.role_of(id, &Member::parse(member)?, at) else {
                        return Ok(json!("a group is not known"));
                    };
                    row.push(role.map(Role::as_str));
                }
                answers.push(row);
            }
        }
        Ok(json!(answers))
    }
}
