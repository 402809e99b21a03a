//! Creating, ingesting and sending CoValues without a server.

use downbeat_core::{
    AppendError, CoValue, DeleteError, IngestError, LogError, SessionError, delete,
};
use downbeat_crypto::{AgentSecret, VerifyError, delete_session_id, session_id};
use downbeat_protocol::{
    AgentId, CHUNK_LEN, CoValueId, Content, KnownState, Owner, SessionCounts, SessionId,
    Transaction,
};

use crate::given::{header, id, session};

const OPEN: &str =
    r#"{"meta":null,"ruleset":{"type":"unsafeAllowAll"},"type":"comap","uniqueness":"z1"}"#;
const OWNED: &str = r#"{"meta":null,"ruleset":{"group":"co_zGroup","type":"ownedByGroup"},"type":"comap","uniqueness":"z1"}"#;
const GROUP: &str = r#"{"meta":null,"ruleset":{"initialAdmin":"co_zA","type":"group"},"type":"comap","uniqueness":"z1"}"#;

/// A directory without accounts.
fn no_accounts(_: CoValueId) -> Option<AgentId> {
    None
}

/// An agent with one session.
struct Author {
    secret: AgentSecret,
    session: SessionId,
}

impl Author {
    fn new(seed: u8) -> Self {
        let secret = AgentSecret::from_secret_seed(&[seed; 32]);
        let session = session_id(&Owner::Agent(secret.agent()), [seed; 8]);
        Self { secret, session }
    }

    fn append(&self, value: &mut CoValue, changes: &str) {
        let transaction = Transaction::trusting(changes, 1_700_000_000_000, None);
        value.append(&self.session, transaction, self.secret.signer_secret()).unwrap();
    }

    /// Makes a run of several transactions with one signature at its end.
    fn run(&self, value: &CoValue, lengths: &[usize]) -> Content {
        let mut ahead = value.clone();
        for length in lengths {
            self.append(&mut ahead, &"x".repeat(*length));
        }
        let known = KnownState { header: false, ..value.known_state() };
        let mut pieces = ahead.content_since(Some(&known)).into_iter();
        let mut run = pieces.next().unwrap();
        for piece in pieces {
            run.sessions[0].transactions.extend_from_slice(&piece.sessions[0].transactions);
            run.sessions[0].last_signature = piece.sessions[0].last_signature;
        }
        run
    }
}

/// Ingests a message without refusals.
fn ingest(value: &mut CoValue, content: &Content) -> u64 {
    let ingested = value.ingest(content, &no_accounts).unwrap();
    assert_eq!(ingested.refused().next(), None);
    ingested.added()
}

/// The start and end of the runs in each message.
fn shape(pieces: &[Content]) -> Vec<Vec<(u64, u64)>> {
    let runs = |piece: &Content| piece.sessions.iter().map(|run| (run.after, run.end())).collect();
    pieces.iter().map(runs).collect()
}

#[test]
fn what_one_makes_another_takes_piece_by_piece() {
    let (alice, bob) = (Author::new(1), Author::new(2));
    let mut original = CoValue::new(header(OPEN));
    alice.append(&mut original, "[1]");
    bob.append(&mut original, "[2]");
    let (mut copy, _) =
        CoValue::from_content(&original.content_since(None)[0], &no_accounts).unwrap();
    assert_eq!(copy.known_state(), original.known_state());

    let before = copy.known_state();
    alice.append(&mut original, "[3]");
    let [update] = <[_; 1]>::try_from(original.content_since(Some(&before))).unwrap();
    assert_eq!(update.header, None);
    assert_eq!(ingest(&mut copy, &update), 1);
    assert!(original.content_since(Some(&copy.known_state())).is_empty());
}

#[test]
fn a_known_prefix_is_skipped_and_a_known_whole_not_even_looked_at() {
    let alice = Author::new(1);
    let mut value = CoValue::new(header(OPEN));
    let mut long = alice.run(&value, &[1, 2, 3]);
    let short = alice.run(&value, &[1, 2]);
    assert_eq!(ingest(&mut value, &short), 2);
    assert_eq!(ingest(&mut value, &long), 1);
    long.sessions[0].last_signature = "signature_z22".parse().unwrap();
    assert_eq!(ingest(&mut value, &long), 0);
}

#[test]
fn a_gap_is_told_with_what_is_there() {
    let alice = Author::new(1);
    let mut value = CoValue::new(header(OPEN));
    alice.append(&mut value, "[]");
    let mut content = alice.run(&value, &[1]);
    content.sessions[0].after = 5;
    let ingested = value.ingest(&content, &no_accounts).unwrap();
    let gap = SessionError::Log(LogError::Gap { have: 1, after: 5 });
    assert_eq!(ingested.sessions, [(alice.session, Err(gap))]);
}

#[test]
fn a_bad_session_leaves_the_others_and_itself_unharmed() {
    let (alice, bob) = (Author::new(1), Author::new(2));
    let value = CoValue::new(header(OPEN));
    let mut content = alice.run(&value, &[1, 1]);
    content.sessions.extend(bob.run(&value, &[1]).sessions);
    let good = content.clone();
    content.sessions[0].transactions.pop();

    let (mut value, ingested) = CoValue::from_content(&content, &no_accounts).unwrap();
    let refused: Vec<_> = ingested.refused().collect();
    assert!(matches!(
        refused[..],
        [(session, SessionError::Log(LogError::Signature(VerifyError::WrongSignature { .. })))]
            if *session == alice.session
    ));
    assert_eq!(value.known_state().sessions, SessionCounts::from_iter([(bob.session, 1)]));
    assert_eq!(ingest(&mut value, &good), 2, "the true content is still taken");
}

#[test]
fn content_must_belong_to_the_covalue() {
    let alice = Author::new(1);
    let mut value = CoValue::new(header(OPEN));
    let content = alice.run(&value, &[1]);

    let other = Content { id: id("co_zX"), ..content.clone() };
    assert_eq!(value.ingest(&other, &no_accounts), Err(IngestError::OtherCoValue(other.id)));
    let headless = Content { header: None, ..content.clone() };
    let error = CoValue::from_content(&headless, &no_accounts).unwrap_err();
    assert_eq!(error, IngestError::NoHeader(content.id));
    let wrong = Content { id: other.id, header: Some(header(OPEN)), ..content.clone() };
    let error = CoValue::from_content(&wrong, &no_accounts).unwrap_err();
    assert_eq!(error, IngestError::HeaderMismatch { id: other.id, actual: content.id });
}

#[test]
fn an_account_signs_with_the_agent_in_its_header() {
    let alice = Author::new(1);
    let account = header(&format!(
        r#"{{"meta":{{"type":"account"}},"ruleset":{{"initialAdmin":"{}","type":"group"}},"type":"comap"}}"#,
        alice.secret.agent()
    ));
    let account = CoValue::new(account);
    let session = session_id(&Owner::Account(account.id()), [1; 8]);
    let mut original = CoValue::new(header(OPEN));
    let transaction = Transaction::trusting("[]", 1, None);
    original.append(&session, transaction.clone(), alice.secret.signer_secret()).unwrap();
    let content = &original.content_since(None)[0];

    let (_, ingested) = CoValue::from_content(content, &no_accounts).unwrap();
    let unknown = SessionError::UnknownAccount(account.id());
    assert_eq!(ingested.refused().collect::<Vec<_>>(), [(&session, &unknown)]);
    let directory = |id: CoValueId| {
        (id == account.id()).then(|| account.header().account_agent().cloned()).flatten()
    };
    let (_, ingested) = CoValue::from_content(content, &directory).unwrap();
    assert_eq!(ingested.added(), 1);

    let mut itself = account.clone();
    itself.append(&session, transaction, alice.secret.signer_secret()).unwrap();
    let (_, ingested) =
        CoValue::from_content(&itself.content_since(None)[0], &no_accounts).unwrap();
    assert_eq!(ingested.added(), 1, "an account knows itself");
}

#[test]
fn a_session_takes_no_other_agents_transactions() {
    let (alice, bob) = (Author::new(1), Author::new(2));
    let mut value = CoValue::new(header(OPEN));
    let transaction = Transaction::trusting("[]", 1, None);
    assert_eq!(
        value.append(&alice.session, transaction, bob.secret.signer_secret()),
        Err(AppendError::WrongSigner(alice.secret.agent()))
    );
}

#[test]
fn own_transactions_leave_a_checkpoint_as_soon_as_there_is_more_than_the_measure() {
    let measure = usize::try_from(CHUNK_LEN).unwrap();
    let alice = Author::new(1);
    let mut value = CoValue::new(header(OPEN));
    for (length, checkpoints) in [(measure - 1, 0), (1, 0), (1, 1), (measure, 1), (1, 2)] {
        alice.append(&mut value, &"x".repeat(length));
        let log = value.session(&alice.session).unwrap();
        assert_eq!(log.checkpoints().len(), checkpoints, "after {} transactions", log.len());
    }
    // Bytes count, not characters.
    alice.append(&mut value, &"é".repeat(measure / 2 + 1));
    assert_eq!(value.session(&alice.session).unwrap().checkpoints().len(), 3);
    let pieces = value.content_since(None);
    assert_eq!(shape(&pieces), [[(0, 3)], [(3, 5)], [(5, 6)]]);
}

#[test]
fn a_run_from_elsewhere_is_not_divided_by_a_checkpoint() {
    let alice = Author::new(1);
    let mut value = CoValue::new(header(OPEN));
    for lengths in [&[60_000, 60_000, 60_000][..], &[50_000], &[50_000, 50_000]] {
        let run = alice.run(&value, lengths);
        ingest(&mut value, &run);
    }
    let ends: Vec<_> =
        value.session(&alice.session).unwrap().checkpoints().iter().map(|at| at.end).collect();
    assert_eq!(ends, [3, 6]);
}

#[test]
fn small_logs_share_a_piece_until_it_is_full() {
    let authors = [1, 2, 3, 4].map(Author::new);
    let mut value = CoValue::new(header(OPEN));
    for (author, length) in authors.iter().zip([60_000, 60_000, 10_000, 5]) {
        author.append(&mut value, &"x".repeat(length));
    }
    let pieces = value.content_since(None);
    let sizes: Vec<_> = pieces.iter().map(|piece| piece.sessions.len()).collect();
    assert_eq!(sizes, [2, 2]);
    assert_eq!(pieces[0].expect_content_until, Some(value.known_state().sessions));
    assert!(pieces[0].header.is_some() && pieces[1].header.is_none());
}

#[test]
fn a_log_up_to_a_checkpoint_is_a_piece_by_itself_before_the_shared_one() {
    let (alice, bob) = (Author::new(1), Author::new(2));
    let mut value = CoValue::new(header(OPEN));
    alice.append(&mut value, "[]");
    let run = bob.run(&value, &[60_000, 60_000]);
    ingest(&mut value, &run);
    let pieces = value.content_since(None);
    let sessions: Vec<_> = pieces.iter().map(|piece| piece.sessions[0].session.clone()).collect();
    assert_eq!(sessions, [bob.session, alice.session]);
}

#[test]
fn expected_content_is_passed_on_until_it_has_come() {
    let alice = Author::new(1);
    let mut value = CoValue::new(header(OPEN));
    let run = alice.run(&value, &[1, 1]);
    alice.append(&mut value, "[]");
    let until = SessionCounts::from_iter([(alice.session.clone(), 2)]);
    value.expect(&until);
    assert!(value.is_streaming());
    assert_eq!(value.content_since(None)[0].expect_content_until, Some(until));

    let mut other = CoValue::new(header(OPEN));
    other.expect(&SessionCounts::from_iter([(alice.session, 2)]));
    ingest(&mut other, &run);
    assert!(!other.is_streaming());
    assert_eq!(other.content_since(None)[0].expect_content_until, None);
}

#[test]
fn someone_who_claims_more_than_there_is_gets_nothing() {
    let alice = Author::new(1);
    let mut value = CoValue::new(header(OPEN));
    alice.append(&mut value, "[]");
    let sessions = SessionCounts::from_iter([(alice.session.clone(), u64::MAX)]);
    let known = KnownState { id: value.id(), header: true, sessions };
    assert!(value.content_since(Some(&known)).is_empty());
    let [header_only] =
        <[_; 1]>::try_from(value.content_since(Some(&KnownState { header: false, ..known })))
            .unwrap();
    assert!(header_only.header.is_some() && header_only.sessions.is_empty());
}

mod deletion {
    use downbeat_core::roles::Role;

    use super::*;
    use crate::vectors::{self, Loaded};

    fn delete_session(author: &Author) -> SessionId {
        delete_session_id(&Owner::Agent(author.secret.agent()), [7; 7])
    }

    #[test]
    fn an_admins_deletion_leaves_the_header_and_the_delete_session() {
        let mut loaded = Loaded::default();
        for name in ["account", "account-of-bob", "group-parent", "group"] {
            loaded.load(name);
        }
        let before = vectors::messages("deleted-before").remove(0);
        let (mut value, _) = CoValue::from_content(&before, &loaded).unwrap();
        assert_eq!(value.sessions().len(), 1);
        let ingested = value.ingest(&vectors::messages("deleted")[0], &loaded).unwrap();
        assert_eq!(ingested.refused().next(), None);
        assert!(value.is_deleted());
        assert!(value.sessions().all(|log| log.session().is_delete()));

        let late = value.ingest(&before, &loaded).unwrap();
        assert_eq!(late.sessions[0].1, Err(SessionError::Deleted));
    }

    #[test]
    fn without_knowing_roles_nothing_is_deleted() {
        let account = Loaded::all();
        let directory = |id: CoValueId| account.get(id)?.header().account_agent().cloned();
        let (value, ingested) =
            CoValue::from_content(&vectors::messages("deleted")[0], &directory).unwrap();
        let unknown = SessionError::Delete(DeleteError::RoleUnknown);
        assert_eq!(ingested.refused().map(|(_, error)| error).collect::<Vec<_>>(), [&unknown]);
        assert!(!value.is_deleted());
    }

    #[test]
    fn a_claim_needs_an_admin() {
        let author = Author::new(1);
        let value = CoValue::new(header(OWNED));
        let marker = [delete::transaction(value.id(), 5)];
        let session = delete_session(&author);
        let claim = delete::claim(value.id(), value.header(), &session, 0, &marker);
        let claim = claim.unwrap().unwrap();
        assert_eq!(claim.group, id("co_zGroup"));
        assert_eq!(claim.author, Owner::Agent(author.secret.agent()));
        assert!((claim.made_at - 5.0).abs() < f64::EPSILON);
        assert_eq!(claim.decide(Some(Role::Admin)), Ok(()));
        for role in [None, Some(Role::Manager), Some(Role::AdminInvite)] {
            assert_eq!(claim.decide(role), Err(DeleteError::NotAdmin(role)));
        }
    }

    #[test]
    fn a_delete_session_holds_one_marker_for_this_covalue() {
        let session = delete_session(&Author::new(1));
        let owned = CoValue::new(header(OWNED));
        let claim = |value: &CoValue, have, new: &[Transaction]| {
            delete::claim(value.id(), value.header(), &session, have, new)
        };
        let marker = delete::transaction(owned.id(), 5);
        assert_eq!(claim(&owned, 1, std::slice::from_ref(&marker)), Err(DeleteError::NotAlone));
        assert_eq!(claim(&owned, 0, &[marker.clone(), marker.clone()]), Err(DeleteError::NotAlone));
        let other = delete::transaction(id("co_zX"), 5);
        let error = DeleteError::OtherCoValue("co_zX".to_owned());
        assert_eq!(claim(&owned, 0, &[other]), Err(error));
        for ordinary in [
            Transaction::trusting("[]", 5, None),
            Transaction::trusting("[]", 5, Some(r#"{"deleted":true}"#)),
            Transaction::trusting("[]", 5, Some("no JSON")),
            Transaction::private("encrypted_Uab", "key_z1", 5, Some(r#"{"deleted":"co_z1"}"#)),
        ] {
            assert_eq!(claim(&owned, 0, &[ordinary]), Ok(None));
        }
        let open = CoValue::new(header(OPEN));
        let marker = [delete::transaction(open.id(), 5)];
        assert_eq!(claim(&open, 0, &marker), Err(DeleteError::NotOwned));
        let group = CoValue::new(header(GROUP));
        let marker = [delete::transaction(group.id(), 5)];
        assert_eq!(claim(&group, 0, &marker), Err(DeleteError::Group));
    }

    #[test]
    fn ones_own_deletion_ends_the_covalue() {
        let author = Author::new(1);
        let mut value = CoValue::new(header(OWNED));
        author.append(&mut value, "[]");
        let marker = delete::transaction(value.id(), 5);
        let session = delete_session(&author);
        value.append(&session, marker, author.secret.signer_secret()).unwrap();
        assert_eq!(value.known_state().sessions, SessionCounts::from_iter([(session, 1)]));
        let more = Transaction::trusting("[]", 6, None);
        assert_eq!(
            value.append(&author.session, more, author.secret.signer_secret()),
            Err(AppendError::Deleted)
        );
    }

    #[test]
    fn an_ordinary_session_deletes_nothing() {
        let value = CoValue::new(header(OWNED));
        let marker = [delete::transaction(value.id(), 5)];
        let ordinary = session("co_zA_session_z1");
        assert_eq!(delete::claim(value.id(), value.header(), &ordinary, 0, &marker), Ok(None));
    }
}
