//! The acts of lying peers.

use downbeat_core::delete;
use downbeat_crypto::session_id;
use downbeat_protocol::{
    CoValueId, Content, Header, Known as KnownMessage, KnownState, Message, Owner, Reconcile,
    SessionContent, SessionCounts, SessionId, ShortHash, Transaction,
};
use downbeat_sync::PeerId;

use super::{Kind, Step, World};
use crate::link::{End, Side};
use crate::people::{self, EPOCH, Person};

/// The number of LOADs for missing CoValues that a lying peer sends at once.
const FLOOD: usize = 20;

/// The first number of the CoValues of lying peers. Honest clients use smaller numbers.
const FIRST_NUMBER: u64 = 1 << 32;

impl World {
    /// A lying peer reads all messages, and answers none.
    pub(super) fn liar_reads(&mut self, _liar: usize, id: PeerId, side: Side) {
        while self.next_unread(id, side).is_some() {}
    }

    pub(super) fn lie(&mut self, liar: usize, left: usize) {
        if self.healed || left == 0 {
            return;
        }
        let link = self.dials.iter().find(|dial| dial.from == End::Liar(liar));
        if let Some(link) = link.and_then(|dial| dial.link) {
            for message in self.lies(liar) {
                self.send(link, Side::Dialler, message);
            }
        }
        let delay = self.rng.time(0, self.plan.pause);
        self.schedule(delay, Step::Lie { liar, left: left - 1 });
    }

    fn lies(&mut self, liar: usize) -> Vec<Message> {
        match self.rng.below(13) {
            0 => (0..FLOOD).map(|_| Message::Load(KnownState::empty(self.nowhere()))).collect(),
            1 => self.some_state().map(Message::Load).into_iter().collect(),
            2 => {
                let is_correction = self.rng.percent(50);
                let known = |state| KnownMessage { state, is_correction, as_dependency_of: None };
                self.some_state().map(known).map(Message::Known).into_iter().collect()
            }
            3 => self.repeat(|_, _| ()),
            4 => self.repeat(|rng, run| {
                let place = rng.below(run.transactions.len());
                run.transactions[place] = trusting("[]", 1, None);
            }),
            5 => self.repeat(|rng, run| run.after += 1 + rng.bits() % 50),
            6 => self.for_others(liar),
            7 => self.wrong_header(),
            8 => self.endless_dependencies(liar),
            9 => self.own_writing(liar, false),
            10 => self.own_writing(liar, true),
            11 => self.deletion(liar),
            _ => self.reconcile(),
        }
    }

    /// The id of a CoValue that does not exist.
    fn nowhere(&mut self) -> CoValueId {
        let mut hash = [7; 19];
        hash[..8].copy_from_slice(&self.rng.bits().to_be_bytes());
        CoValueId::from_short_hash(&hash)
    }

    fn liar_person(&self, liar: usize) -> Person {
        self.people[self.liars[liar].person].clone()
    }

    /// A false state of an existing CoValue.
    fn some_state(&mut self) -> Option<KnownState> {
        let id = self.rng.pick(&self.values)?.id;
        let mut sessions = SessionCounts::new();
        for (_, run) in self.overheard.iter().filter(|(other, _)| *other == id) {
            sessions.set(&run.session, self.rng.bits() % 12);
        }
        Some(KnownState { id, header: self.rng.percent(70), sessions })
    }

    /// Content of another client, after a change.
    fn repeat(
        &mut self,
        change: impl FnOnce(&mut crate::rng::Rng, &mut SessionContent),
    ) -> Vec<Message> {
        let Some((id, mut run)) = self.rng.pick(&self.overheard).cloned() else {
            return Vec::new();
        };
        change(&mut self.rng, &mut run);
        let header = self.header_of_known(id).filter(|_| self.rng.percent(60));
        vec![content(id, header, vec![run])]
    }

    fn header_of_known(&self, id: CoValueId) -> Option<Header> {
        self.values.iter().find(|known| known.id == id).map(|known| known.header.clone())
    }

    /// Content for the session of another client, or for a session that does not exist.
    fn for_others(&mut self, liar: usize) -> Vec<Message> {
        let Some((id, run)) = self.rng.pick(&self.overheard).cloned() else { return Vec::new() };
        let session = if self.rng.percent(50) {
            run.session
        } else {
            session_id(&Owner::Account(id), [9; 8])
        };
        let after = if self.rng.percent(50) { 0 } else { run.transactions.len() as u64 };
        let transaction = trusting("[]", 2, None);
        let secret = self.liar_person(liar).secret;
        let mut chain = downbeat_crypto::HashChain::new();
        chain.append(transaction.json());
        let last_signature = secret.signer_secret().sign_chain(&chain);
        let run =
            SessionContent { session, after, transactions: vec![transaction], last_signature };
        vec![content(id, self.header_of_known(id), vec![run])]
    }

    /// Content for a CoValue that does not exist, with the header of another CoValue or none.
    fn wrong_header(&mut self) -> Vec<Message> {
        let Some(header) = self.rng.pick(&self.values).map(|known| known.header.clone()) else {
            return Vec::new();
        };
        let header = self.rng.percent(60).then_some(header);
        vec![content(self.nowhere(), header, Vec::new())]
    }

    /// A chain of CoValues, each depending on the one before. The dependency of the first never
    /// arrives.
    fn endless_dependencies(&mut self, liar: usize) -> Vec<Message> {
        let mut before = self.nowhere();
        let count = 1 + self.rng.below(8);
        let person = self.liar_person(liar);
        let mut messages = Vec::new();
        for _ in 0..count {
            let number = FIRST_NUMBER + self.rng.bits() % FIRST_NUMBER;
            let header = people::owned_map(number, before);
            let id = downbeat_crypto::header_id(&header);
            self.suspect.insert(id);
            let session = person.session(200);
            let run = self.truth.sign(
                id,
                &session,
                &[],
                trusting("[]", 3, None),
                person.secret.signer_secret(),
            );
            messages.push(content(id, Some(header), vec![run]));
            before = id;
        }
        messages
    }

    /// A correctly signed transaction in its own CoValue. With `forked`, it continues an earlier
    /// state of the session, so the histories differ.
    fn own_writing(&mut self, liar: usize, forked: bool) -> Vec<Message> {
        let person = self.liar_person(liar);
        let header = people::free_map(FIRST_NUMBER + liar as u64);
        let id = downbeat_crypto::header_id(&header);
        self.suspect.insert(id);
        let session = person.session(201);
        let account = content(person.account, Some(person.account_header.clone()), Vec::new());
        let mut before = self.liars[liar].written.clone();
        if forked {
            before.truncate(self.rng.below(before.len() + 1));
        }
        let time = self.rng.bits() % 1_000;
        let transaction = trusting("[]", time, None);
        let secret = person.secret.signer_secret();
        let run = self.truth.sign(id, &session, &before, transaction.clone(), secret);
        before.push(transaction);
        self.liars[liar].written = before;
        vec![account, content(id, Some(header), vec![run])]
    }

    /// A deletion by an author without the right to delete.
    fn deletion(&mut self, liar: usize) -> Vec<Message> {
        let victims: Vec<_> =
            self.values.iter().filter(|known| known.kind != Kind::Account).cloned().collect();
        let Some(victim) = self.rng.pick(&victims) else { return Vec::new() };
        let person = self.liar_person(liar);
        let session: SessionId = person.delete_session(7);
        let transaction = delete::transaction(victim.id, EPOCH + self.now);
        let mut chain = downbeat_crypto::HashChain::new();
        chain.append(transaction.json());
        let last_signature = person.secret.signer_secret().sign_chain(&chain);
        let run =
            SessionContent { session, after: 0, transactions: vec![transaction], last_signature };
        let account = content(person.account, Some(person.account_header), Vec::new());
        vec![account, content(victim.id, Some(victim.header.clone()), vec![run])]
    }

    fn reconcile(&mut self) -> Vec<Message> {
        let nowhere = self.nowhere();
        let ids = self.values.iter().map(|known| known.id).take(5).chain([nowhere]);
        let hash = ShortHash::from_bytes([3; 19]);
        let values = ids.map(|id| (id, hash)).collect();
        vec![Message::Reconcile(Reconcile { id: "lie".to_owned(), values })]
    }
}

fn trusting(changes: &str, time: u64, meta: Option<&str>) -> Transaction {
    Transaction::trusting(changes, EPOCH + time, meta)
}

fn content(id: CoValueId, header: Option<Header>, sessions: Vec<SessionContent>) -> Message {
    let priority = header.as_ref().map_or(downbeat_protocol::Priority::Medium, Header::priority);
    Message::Content(Content {
        id,
        header,
        priority,
        sessions,
        malformed: Vec::new(),
        expect_content_until: None,
    })
}
