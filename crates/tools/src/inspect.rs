//! A close look at one CoValue.

use std::collections::BTreeMap;

use downbeat_core::dependencies;
use downbeat_core::roles::Role;
use downbeat_protocol::{CoValueId, Ruleset, SessionCounts, SessionId, Transaction};
use downbeat_storage::{StorageError, StoredCoValue};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::check::{Checked, Extension, Reason, check};
use crate::directory::Directory;
use crate::error::Error;
use crate::findings::{Findings, FindingsReport};
use crate::store::Store;

/// A CoValue as it is stored.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Inspected {
    /// The CoValue.
    pub id: CoValueId,
    /// The kind of CoValue, as a phrase: `account`, `group`, `owned by a group`.
    pub kind: &'static str,
    /// Whether the store holds a tombstone of it.
    pub deleted: bool,
    /// The header, as JSON.
    pub header: Box<RawValue>,
    /// The sessions.
    pub sessions: Vec<SessionFigures>,
    /// Valid transactions of all sessions.
    pub transactions: u64,
    /// Bytes of JSON in the valid transactions.
    pub bytes: u64,
    /// The CoValues that are needed to verify this one.
    pub dependencies: Vec<Dependency>,
    /// The group whose roles decide who may write: the owner, or the CoValue itself.
    pub group: Option<CoValueId>,
    /// The roles in this group. `None` if the group or one of its parents is missing.
    pub roles: Option<Vec<RoleOf>>,
    /// The content that is broken.
    #[serde(flatten)]
    pub report: FindingsReport,
}

/// One session of a CoValue.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SessionFigures {
    /// The session.
    #[serde(rename = "session")]
    pub id: SessionId,
    /// Transactions, as the store counts them.
    pub transactions: u64,
    /// Bytes of JSON in the valid transactions.
    pub bytes: u64,
    /// The time of the last transaction according to its author, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_made_at: Option<f64>,
    /// The signature of the whole log.
    pub last_signature: String,
    /// Whether all transactions are valid.
    pub holds: bool,
}

/// A CoValue that another one needs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Dependency {
    /// The CoValue.
    pub id: CoValueId,
    /// Whether it is in the store.
    pub stored: bool,
}

/// The role of one member of a group.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct RoleOf {
    /// An account, an agent, or `everyone`.
    pub member: String,
    /// The role: `admin`, `reader`.
    pub role: &'static str,
}

/// The transactions of a session that were read and are valid.
#[derive(Default)]
struct Read {
    count: u64,
    bytes: u64,
    last_made_at: Option<f64>,
}

/// Reads and checks one CoValue. `None` if it is not in the store.
pub fn inspect(store: &Store, id: CoValueId) -> Result<Option<Inspected>, Error> {
    let Some(stored) = store.load(id)? else { return Ok(None) };
    let header = &stored.header;
    let findings = Findings::default();
    let directory = Directory::new(vec![store.clone()]);
    let mut needs = dependencies::of_header(header);
    needs.extend(dependencies::of_sessions(stored.sessions.iter().map(|stored| &stored.session)));
    let mut read: BTreeMap<SessionId, Read> = BTreeMap::new();
    match Checked::new(id, header.clone()) {
        Ok(mut checked) => {
            let gather = |_: &Checked, extensions: Vec<Extension>| {
                for Extension { content, .. } in extensions {
                    if header.is_group() {
                        let set = dependencies::of_group_transactions(&content.transactions);
                        needs.extend(set);
                    }
                    let bytes = content.json_len();
                    let read = read.entry(content.session).or_default();
                    read.count += content.transactions.len() as u64;
                    read.bytes += bytes;
                    read.last_made_at = content.transactions.last().map(Transaction::made_at);
                }
                Ok::<_, StorageError>(())
            };
            let refuse = |session: Option<&SessionId>, reason| findings.add(id, session, reason);
            check(store, SessionCounts::new(), &mut checked, &directory, gather, refuse)?;
            if stored.deleted && !checked.is_deleted() {
                findings.add(id, None, Reason::NotDeleted);
            }
        }
        Err(reason) => findings.add(id, None, reason),
    }
    let group = match header.ruleset() {
        Ruleset::Group { .. } => Some(id),
        Ruleset::OwnedByGroup { group } => Some(*group),
        Ruleset::UnsafeAllowAll => None,
    };
    let roles = match group {
        Some(group) => roles(store, &directory, group)?,
        None => None,
    };
    Ok(Some(Inspected {
        id,
        kind: kind(&stored),
        deleted: stored.deleted,
        header: raw_json(header.json()),
        transactions: read.values().map(|read| read.count).sum(),
        bytes: read.values().map(|read| read.bytes).sum(),
        sessions: sessions(&stored, &read),
        dependencies: look_up(store, id, needs)?,
        group,
        roles,
        report: findings.report(),
    }))
}

/// The JSON of a header, which was parsed before.
fn raw_json(json: &[u8]) -> Box<RawValue> {
    serde_json::from_slice(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn sessions(stored: &StoredCoValue, read: &BTreeMap<SessionId, Read>) -> Vec<SessionFigures> {
    let none = Read::default();
    stored
        .sessions
        .iter()
        .map(|stored| {
            let read = read.get(&stored.session).unwrap_or(&none);
            SessionFigures {
                id: stored.session.clone(),
                transactions: stored.count,
                bytes: read.bytes,
                last_made_at: read.last_made_at,
                last_signature: stored.last_signature.to_string(),
                holds: read.count == stored.count,
            }
        })
        .collect()
}

fn look_up(
    store: &Store,
    id: CoValueId,
    mut needs: Vec<CoValueId>,
) -> Result<Vec<Dependency>, StorageError> {
    needs.retain(|other| *other != id);
    needs.sort_unstable();
    needs.dedup();
    let stored = |id| match store.load(id) {
        Ok(stored) => Ok(Dependency { id, stored: stored.is_some() }),
        // A damaged CoValue is still in the store.
        Err(StorageError::Corrupt(_)) => Ok(Dependency { id, stored: true }),
        Err(error) => Err(error),
    };
    needs.into_iter().map(stored).collect()
}

/// The present roles of the members of a group, including those inherited from its parents.
fn roles(
    store: &Store,
    directory: &Directory,
    group: CoValueId,
) -> Result<Option<Vec<RoleOf>>, StorageError> {
    let Some(mut groups) = directory.load_groups(store, group)? else { return Ok(None) };
    let mut granted = Vec::new();
    for member in &groups.members {
        match groups.roles.role_of(group, member, None) {
            Ok(Some(role)) => {
                let member = member.as_str().to_owned();
                granted.push(RoleOf { member, role: Role::as_str(role) });
            }
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(granted))
}

fn kind(stored: &StoredCoValue) -> &'static str {
    let header = &stored.header;
    match header.ruleset() {
        Ruleset::Group { .. } if header.account_agent().is_some() => "account",
        Ruleset::Group { .. } => "group",
        Ruleset::OwnedByGroup { .. } => "owned by a group",
        Ruleset::UnsafeAllowAll => "open to everyone",
    }
}
