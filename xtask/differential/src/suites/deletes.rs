//! Deletion: the transactions that delete a CoValue, their authors, and content after the deletion.

use std::cell::RefCell;

use anyhow::{Context, Result, bail};
use downbeat_core::delete::{Claim, DeleteError};
use downbeat_core::roles::{Group, Member, Roles};
use downbeat_core::{CoValue, Directory, SessionError};
use downbeat_crypto::{HashChain, header_id};
use downbeat_protocol::{
    AgentId, CoValueId, Content, Header, Limits, Owner, Ruleset, SessionContent, SessionId,
    Signature, Transaction, Uniqueness,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::given::{self, AGENTS, agent_secret};
use crate::groups::{self, ACCOUNTS, GroupLog, World};
use crate::random::Random;
use crate::suite::Rule;

pub(crate) struct Deletes;

#[derive(Serialize, Deserialize)]
pub(crate) struct Case {
    groups: Vec<GroupLog>,
    /// The headers of further accounts, which are not among the groups.
    accounts: Vec<Account>,
    id: String,
    header: String,
    steps: Vec<Step>,
}

#[derive(Serialize, Deserialize)]
struct Account {
    id: String,
    header: String,
}

/// The first run of transactions of a session.
#[derive(Serialize, Deserialize)]
struct Step {
    session: String,
    transactions: Vec<Text>,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    is_private: bool,
    made_at: u64,
    meta: Option<String>,
}

impl Rule for Deletes {
    type Case = Case;

    fn case(random: &mut Random) -> Case {
        let world = World::random(random, 2, 12);
        let header = header(random, &world);
        let id = header_id(&header).to_string();
        let steps = (0..=random.below(4)).map(|_| Step::random(random, &world, &id)).collect();
        let accounts = (0..ACCOUNTS)
            .map(|number| {
                let header = groups::account(number);
                Account { id: header_id(&header).to_string(), header: text(&header) }
            })
            .filter(|account| world.groups.iter().all(|group| group.id != account.id))
            .collect();
        Case { groups: world.groups, accounts, id, header: text(&header), steps }
    }

    /// The result of each run, and whether the CoValue is deleted in the end.
    fn answer(case: &Case) -> Result<Value> {
        let mut value =
            CoValue::new(Header::parse(&case.header.clone().into(), &Limits::unlimited())?);
        let mut roles = groups::roles(&case.groups)?;
        for account in &case.accounts {
            let header = Header::parse(&account.header.clone().into(), &Limits::unlimited())?;
            // A group may have named it as its parent.
            roles.insert(Group::new(header_id(&header), &header, []));
        }
        let known = Known { roles: RefCell::new(roles) };
        let steps = case
            .steps
            .iter()
            .map(|step| step.take(&mut value, &known))
            .collect::<Result<Vec<_>>>()?;
        Ok(json!({
            "steps": steps,
            "isDeleted": value.is_deleted(),
            "known": given::counts(&value.known_state().sessions),
        }))
    }
}

impl Step {
    fn random(random: &mut Random, world: &World, id: &str) -> Self {
        let number = random.byte() % AGENTS;
        let secret = agent_secret(number);
        let owner = if number < ACCOUNTS && random.percent(60) {
            header_id(&groups::account(number)).to_string()
        } else {
            secret.agent().to_string()
        };
        let digits = random.base58(11);
        let session = if random.percent(75) {
            format!("{owner}_session_d{digits}$")
        } else {
            format!("{owner}_session_z{digits}")
        };
        let count = if random.percent(95) { 1 } else { 2 };
        let transactions: Vec<_> = (0..count)
            .map(|_| Text {
                is_private: random.percent(5),
                made_at: world.moment(random),
                meta: meta(random, id),
            })
            .collect();
        let mut chain = HashChain::new();
        for text in &transactions {
            chain.append(text.transaction().json());
        }
        if random.percent(4) {
            chain.append(b"something else");
        }
        let signature = secret.signer_secret().sign_chain(&chain).to_string();
        Self { session, transactions, signature }
    }

    /// The result of the run, with the reference's names.
    fn take(&self, value: &mut CoValue, known: &Known) -> Result<&'static str> {
        let run = SessionContent {
            session: SessionId::parse(&self.session)?,
            after: 0,
            transactions: self.transactions.iter().map(Text::transaction).collect(),
            last_signature: Signature::parse(&self.signature)?,
        };
        let content = Content {
            id: value.id(),
            header: None,
            priority: value.header().priority(),
            sessions: vec![run],
            malformed: Vec::new(),
            expect_content_until: None,
        };
        let ingested = value.ingest(&content, known)?;
        let (_, result) = ingested.sessions.first().context("the run has no result")?;
        Ok(match result {
            Ok(_) => "taken",
            Err(SessionError::Log(_)) => "InvalidSignature",
            Err(SessionError::UnknownAccount(_)) => "ResolveAccountAgentError",
            Err(SessionError::Deleted) => "CoValueDeleted",
            Err(SessionError::Delete(error)) => match error {
                DeleteError::NotAlone | DeleteError::OtherCoValue(_) => "InvalidDeleteTransaction",
                DeleteError::Group => "CoValueNotDeletable",
                DeleteError::NotOwned => "CannotVerifyPermissions",
                DeleteError::NotAdmin(_) => "NotAdmin",
                DeleteError::RoleUnknown => "a group is not known",
                other => bail!("unexpected refusal: {other}"),
            },
            Err(other) => bail!("unexpected refusal: {other}"),
        })
    }
}

impl Text {
    fn transaction(&self) -> Transaction {
        let meta = self.meta.as_deref();
        if self.is_private {
            Transaction::private("encrypted_U", "key_z1", self.made_at, meta)
        } else {
            Transaction::trusting("[]", self.made_at, meta)
        }
    }
}

/// The known groups and accounts.
struct Known {
    roles: RefCell<Roles>,
}

impl Directory for Known {
    fn agent(&self, account: CoValueId) -> Option<AgentId> {
        (0..ACCOUNTS)
            .find(|number| header_id(&groups::account(*number)) == account)
            .map(|number| agent_secret(number).agent())
    }

    fn may_delete(&self, claim: &Claim) -> Result<(), DeleteError> {
        let author = Member::from(claim.author.clone());
        let mut roles = self.roles.borrow_mut();
        let role = roles.role_of(claim.group, &author, Some(claim.made_at));
        claim.decide(role.map_err(|_| DeleteError::RoleUnknown)?)
    }
}

fn header(random: &mut Random, world: &World) -> Header {
    let admin = agent_secret(0).agent();
    let group = &world.groups[random.index(world.groups.len())].id;
    let group = if random.percent(3) { "co_zUnknownUnknownUnknown" } else { group };
    let ruleset = match random.below(12) {
        0 => Ruleset::UnsafeAllowAll,
        1 => Ruleset::Group { initial_admin: Owner::Agent(admin) },
        _ => Ruleset::OwnedByGroup { group: CoValueId::parse(group).expect("the id is valid") },
    };
    let meta = if random.percent(5) { r#"{"type":"account"}"# } else { "null" };
    Header::builder(random.pick(&["comap", "colist", "costream"]), ruleset)
        .meta(meta)
        .uniqueness(Uniqueness::Text(random.base58(16)))
        .build()
        .expect("all parts are valid")
}

fn meta(random: &mut Random, id: &str) -> Option<String> {
    let text = match random.below(20) {
        0 => return None,
        1 => r#"{"deleted":"co_z1"}"#.to_owned(),
        2 => format!(r#"{{"deleted":"{id}","deleted":true}}"#),
        3 => format!(r#"{{"deleted":true,"deleted":"{id}"}}"#),
        4 => format!(r#"["{id}"]"#),
        5 => "no JSON".to_owned(),
        6 => r#"{"deleted":""}"#.to_owned(),
        7 => format!(r#" {{ "a" : [1e999, "\ud800"], "\u0064eleted" : "{id}" }} "#),
        8 => String::new(),
        _ => format!(r#"{{"deleted":"{id}"}}"#),
    };
    Some(text)
}

fn text(header: &Header) -> String {
    String::from_utf8_lossy(header.json()).into_owned()
}
