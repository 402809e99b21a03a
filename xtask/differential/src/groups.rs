//! Random histories of groups, for the suites of roles and deletion.

use anyhow::{Context, Result};
use downbeat_core::roles::{Group, Roles};
use downbeat_crypto::header_id;
use downbeat_protocol::{Header, Limits, Owner, Ruleset, SessionId, Transaction, Uniqueness};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::given::{AGENTS, agent_secret};
use crate::random::Random;

/// The time of the first transaction, in milliseconds since the Unix epoch.
pub(crate) const START: u64 = 1_700_000_000_000;

/// The number of agents with accounts.
pub(crate) const ACCOUNTS: u8 = 3;

/// A group with its logs, in the order in which they were received.
#[derive(Serialize, Deserialize)]
pub(crate) struct GroupLog {
    pub(crate) id: String,
    pub(crate) header: String,
    pub(crate) sessions: Vec<SessionLog>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SessionLog {
    session: String,
    transactions: Vec<Change>,
}

/// A transaction of a group.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    /// Whether the transaction is private, so that its changes cannot be read.
    is_private: bool,
    made_at: u64,
    changes: String,
}

/// Groups that refer to each other, with their members.
pub(crate) struct World {
    pub(crate) groups: Vec<GroupLog>,
    /// Accounts, agents and everyone.
    pub(crate) members: Vec<String>,
    /// The time of the last transaction.
    pub(crate) end: u64,
}

/// The header of the account of one of the agents.
pub(crate) fn account(number: u8) -> Header {
    Header::account(&agent_secret(number).agent())
}

/// Inserts the groups into a [`Roles`].
pub(crate) fn roles(groups: &[GroupLog]) -> Result<Roles> {
    let mut roles = Roles::new();
    for log in groups {
        let header = Header::parse(&log.header.clone().into(), &Limits::unlimited())?;
        let id = header_id(&header);
        anyhow::ensure!(id.as_str() == log.id, "the id of the header differs");
        let sessions = log.sessions.iter().map(SessionLog::parse).collect::<Result<Vec<_>>>()?;
        let sessions = sessions.iter().map(|(session, transactions)| (session, &transactions[..]));
        roles.insert(Group::new(id, &header, sessions));
    }
    Ok(roles)
}

impl World {
    /// Random groups, up to the given numbers of groups and of transactions in each.
    pub(crate) fn random(random: &mut Random, groups: u64, transactions: u64) -> Self {
        let mut owners: Vec<Owner> =
            (0..ACCOUNTS).map(|number| Owner::Account(header_id(&account(number)))).collect();
        owners.extend((0..AGENTS).map(|number| Owner::Agent(agent_secret(number).agent())));
        let mut headers: Vec<(Header, Owner)> = Vec::new();
        for _ in 0..=random.below(groups) {
            let (header, admin) = header(random, &owners);
            // Each account appears once.
            if headers.iter().all(|(other, _)| *other != header) {
                headers.push((header, admin));
            }
        }
        let mut world = Self { groups: Vec::new(), members: Vec::new(), end: START };
        let ids: Vec<_> = headers.iter().map(|(header, _)| header_id(header).to_string()).collect();
        for (index, (header, admin)) in headers.iter().enumerate() {
            let group = Writing { index, ids: &ids, owners: &owners, admin };
            let count = 1 + random.below(transactions);
            let (sessions, end) = group.sessions(random, count);
            world.end = world.end.max(end);
            let header = text(header.json());
            world.groups.push(GroupLog { id: ids[index].clone(), header, sessions });
        }
        world.members = owners.iter().map(ToString::to_string).collect();
        world.members.push("everyone".to_owned());
        world
    }

    /// A time close to a transaction.
    pub(crate) fn moment(&self, random: &mut Random) -> u64 {
        START + random.below(self.end - START + 3)
    }
}

impl SessionLog {
    fn parse(&self) -> Result<(SessionId, Vec<Transaction>)> {
        let session = SessionId::parse(&self.session).context("not a session id")?;
        Ok((session, self.transactions.iter().map(Change::transaction).collect()))
    }
}

impl Change {
    fn transaction(&self) -> Transaction {
        if self.is_private {
            Transaction::private("encrypted_U", "key_z1", self.made_at, None)
        } else {
            Transaction::trusting(&self.changes, self.made_at, None)
        }
    }
}

/// The state for writing a group's history.
struct Writing<'a> {
    index: usize,
    ids: &'a [String],
    owners: &'a [Owner],
    admin: &'a Owner,
}

impl Writing<'_> {
    /// The logs of the sessions, and the time of the last transaction.
    fn sessions(&self, random: &mut Random, count: u64) -> (Vec<SessionLog>, u64) {
        let mut sessions: Vec<SessionLog> = Vec::new();
        let mut now = START + random.below(10);
        let mut end = now;
        for number in 0..count {
            let is_first = number == 0 && random.percent(99);
            let author = if is_first || random.percent(55) {
                self.admin.to_string()
            } else {
                self.owner(random)
            };
            let changes = if is_first {
                set(&author, &json!("admin"))
            } else {
                self.changes(random, &author)
            };
            // Clocks differ, so times overlap, repeat and decrease.
            now += random.below(3);
            let made_at =
                if is_first { now } else { now.saturating_sub(random.pick(&[0, 0, 0, 1, 4])) };
            end = end.max(made_at);
            let session = format!("{author}_session_z{}", 1 + random.below(2));
            let change = Change { is_private: !is_first && random.percent(2), made_at, changes };
            match sessions.iter_mut().find(|log| log.session == session) {
                Some(log) => log.transactions.push(change),
                None => sessions.push(SessionLog { session, transactions: vec![change] }),
            }
        }
        if random.percent(20) {
            // The order of receipt differs from the order of time.
            sessions.reverse();
        }
        (sessions, end)
    }

    fn owner(&self, random: &mut Random) -> String {
        self.owners[random.index(self.owners.len())].to_string()
    }

    fn changes(&self, random: &mut Random, author: &str) -> String {
        match random.below(100) {
            0..=66 => {
                let key = match random.below(10) {
                    0 => "everyone".to_owned(),
                    1 => author.to_owned(),
                    _ => self.owner(random),
                };
                set(&key, &json!(role(random)))
            }
            67..=84 => self.parent(random),
            85..=89 => {
                let keys = [
                    "readKey",
                    "groupSealer",
                    "profile",
                    "root",
                    "key_z1_for_key_z2",
                    "key_z1_for_co_z1",
                    "key_z1_for_everyone",
                    "key_z1_sealedFor_sealer_z1",
                    "child_co_z1",
                    "x_for_everyone",
                    "key_z1",
                    "notAKey",
                    "writeKeyFor_co_z1",
                ];
                let key = random.pick(&keys);
                let value = if random.percent(30) { "admin" } else { "key_z1" };
                set(key, &json!(value))
            }
            90..=92 => {
                let key = self.owner(random);
                let values =
                    [json!(null), json!(1), json!(""), json!("owner"), json!({}), json!(["admin"])];
                set(&key, &values[random.index(values.len())])
            }
            _ => self.malformed(random),
        }
    }

    /// Adds or revokes a parent group.
    fn parent(&self, random: &mut Random) -> String {
        let later = self.ids.get(self.index + 1..).unwrap_or_default();
        let id = match random.below(100) {
            // A circle, possibly of one group.
            0..=2 => self.ids[random.index(self.ids.len())].clone(),
            // An account, which cannot be a parent and may be unknown.
            3..=4 => self.owners[0].to_string(),
            // An unknown group.
            5 => "co_z7FtZpeUUaZ8WLWFHBTGXwcJc".to_owned(),
            _ => match later.len() {
                0 => self.owner(random),
                len => later[random.index(len)].clone(),
            },
        };
        if !id.starts_with("co_z") {
            return set(&id, &json!(role(random)));
        }
        let mappings = [
            json!("extend"),
            json!("extend"),
            json!("extend"),
            json!("reader"),
            json!("writer"),
            json!("manager"),
            json!("admin"),
            json!("revoked"),
            json!("revoked"),
            json!("writeOnly"),
            json!("other"),
            json!(null),
            json!(5),
            json!(""),
        ];
        let known = if random.percent(90) { 9 } else { mappings.len() };
        set(&format!("parent_{id}"), &mappings[random.index(known)])
    }

    /// Transactions that no client writes and that the reference ignores.
    fn malformed(&self, random: &mut Random) -> String {
        let key = self.owner(random);
        let change = json!({ "op": "set", "key": key, "value": "admin" });
        let delete = json!({ "op": "del", "key": key });
        let choices = [
            json!([]),
            json!([change, change]),
            json!([delete]),
            json!([5]),
            json!(["set"]),
            json!({ "0": change }),
            json!("x"),
            json!(null),
            json!(7),
            json!([{ "op": "set", "key": key }]),
        ];
        if random.percent(20) {
            return "no JSON".to_owned();
        }
        choices[random.index(choices.len())].to_string()
    }
}

/// The header of a group or, rarely, of an account, with its first admin.
fn header(random: &mut Random, owners: &[Owner]) -> (Header, Owner) {
    if random.percent(6) {
        let number = random.byte() % ACCOUNTS;
        return (account(number), Owner::Agent(agent_secret(number).agent()));
    }
    let admin = owners[random.index(owners.len())].clone();
    let header = Header::builder("comap", Ruleset::Group { initial_admin: admin.clone() })
        .uniqueness(Uniqueness::Text(random.base58(16)))
        .build()
        .expect("all parts are valid");
    (header, admin)
}

fn role(random: &mut Random) -> &'static str {
    const COMMON: &[&str] = &["admin", "manager", "writer", "reader", "writeOnly", "revoked"];
    const INVITES: &[&str] =
        &["adminInvite", "managerInvite", "writerInvite", "readerInvite", "writeOnlyInvite"];
    if random.percent(75) { random.pick(COMMON) } else { random.pick(INVITES) }
}

fn set(key: &str, value: &serde_json::Value) -> String {
    json!([{ "op": "set", "key": key, "value": value }]).to_string()
}

fn text(json: &[u8]) -> String {
    String::from_utf8_lossy(json).into_owned()
}
