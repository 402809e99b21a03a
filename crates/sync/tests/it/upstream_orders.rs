//! The orders in which a client's LOAD, storage's answer, and the comings and goings of an upstream
//! may fall: in each the upstream is asked, and the client is answered without any time passing.

use downbeat_protocol::Message;
use downbeat_sync::PeerId;

use crate::upstream::world_and_map;
use crate::world::World;

#[derive(Debug, Clone, Copy)]
enum Step {
    ClientAsks,
    StorageAnswers,
    Connects,
    Disconnects,
}

/// When the upstream answers a LOAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    AtOnce,
    /// A LOAD over a connection that ends before is never answered.
    InTheEnd,
}

/// Each way in which a client's question and storage's answer fall before, between and after what
/// becomes of an upstream's connection.
fn orders() -> Vec<Vec<Step>> {
    use Step::{ClientAsks, Connects, Disconnects, StorageAnswers};
    let places = (0_u8..32).filter(|places| places.count_ones() == 2);
    let orders = places.map(|places| {
        let mut question = [ClientAsks, StorageAnswers].into_iter();
        let mut connection = [Connects, Disconnects, Connects].into_iter();
        (0..5)
            .filter_map(|place| match places >> place & 1 {
                1 => question.next(),
                _ => connection.next(),
            })
            .collect()
    });
    orders.collect()
}

/// An upstream that answers each LOAD of one that has nothing.
struct Upstream {
    answer: Message,
    peer: Option<PeerId>,
    is_asked: bool,
    /// The messages that the client got.
    heard: Vec<String>,
}

impl Upstream {
    fn listen(&mut self, world: &mut World) {
        for line in world.said() {
            self.is_asked |= line == "core ← LOAD map nothing";
            self.heard.extend(line.strip_prefix("ann ← ").map(str::to_owned));
        }
    }

    fn answer(&mut self, world: &mut World) {
        self.listen(world);
        if let Some(core) = self.peer.filter(|_| std::mem::take(&mut self.is_asked)) {
            world.send(core, self.answer.clone());
            self.listen(world);
        }
    }
}

/// A message to the client.
fn heard(order: &[Step], answers: Answers, has_it: bool) -> Vec<String> {
    let (mut world, map, mut log) = world_and_map();
    let answer = if has_it { map.whole(vec![log.write(&["[1]"])]) } else { map.known_nothing() };
    let mut core = Upstream { answer, peer: None, is_asked: false, heard: Vec::new() };
    world.add_upstream("core");
    let ann = world.connect("ann");
    world.slow_loads = true;
    for step in order {
        match step {
            Step::ClientAsks => world.send(ann, map.load_nothing()),
            Step::StorageAnswers => world.catch_up(),
            Step::Connects => core.peer = Some(world.connect_upstream("core")),
            Step::Disconnects => {
                core.listen(&mut world);
                core.is_asked = false;
                world.disconnect(core.peer.take().unwrap());
            }
        }
        if answers == Answers::AtOnce {
            core.answer(&mut world);
        }
    }
    core.answer(&mut world);
    core.heard
}

#[test]
fn a_value_that_an_upstream_lacks_is_not_found_in_any_order() {
    for order in orders() {
        for answers in [Answers::AtOnce, Answers::InTheEnd] {
            let heard = heard(&order, answers, false);
            assert_eq!(heard, ["KNOWN map nothing"], "{order:?}, {answers:?}");
        }
    }
}

#[test]
fn a_value_that_an_upstream_has_is_served_in_any_order() {
    for order in orders() {
        for answers in [Answers::AtOnce, Answers::InTheEnd] {
            let heard = heard(&order, answers, true);
            let (last, before) = heard.split_last().expect("the client hears something");
            assert_eq!(last, "CONTENT map header a:0+1", "{order:?}, {answers:?}");
            // An upstream that leaves before it answers is not waited for.
            let leaves = order.iter().any(|step| matches!(step, Step::Disconnects));
            let is_expected = before.is_empty() || leaves && before == ["KNOWN map nothing"];
            assert!(is_expected, "{before:?}: {order:?}, {answers:?}");
        }
    }
}

#[test]
fn upstreams_that_come_while_storage_is_asked_are_asked_as_soon_as_it_has_answered() {
    let (mut world, map, _) = world_and_map();
    let ann = world.connect("ann");
    world.add_upstream("one");
    world.add_upstream("two");
    world.slow_loads = true;
    world.send(ann, map.load_nothing());
    let (one, two) = (world.connect_upstream("one"), world.connect_upstream("two"));
    world.expect(&["ann → LOAD map nothing"]);
    world.catch_up();
    world.expect(&["one ← LOAD map nothing", "two ← LOAD map nothing"]);
    world.send(one, map.known_nothing());
    world.send(two, map.known_nothing());
    world.expect(&[
        "one → KNOWN map nothing",
        "two → KNOWN map nothing",
        "ann ← KNOWN map nothing",
    ]);
}

#[test]
fn an_upstream_that_comes_while_storage_does_not_answer_is_asked_when_it_does() {
    let (mut world, map, _) = world_and_map();
    world.add_upstream("core");
    let ann = world.connect("ann");
    world.broken_loads = true;
    world.send(ann, map.load_nothing());
    let core = world.connect_upstream("core");
    world.expect(&["ann → LOAD map nothing"]);
    world.broken_loads = false;
    world.pass(1_000);
    world.expect(&["core ← LOAD map nothing"]);
    world.send(core, map.known_nothing());
    world.expect(&["core → KNOWN map nothing", "ann ← KNOWN map nothing"]);
}
