//! Machines behind machines, with random failures of connections and memory: in the end all have
//! everything, and know it.

use downbeat_protocol::SessionContent;
use downbeat_sync::{Config, PeerId};

use crate::authors::{Author, Log, Value};
use crate::machines::Ring;

const VALUES: usize = 5;
const STEPS: usize = 150;

/// Storms of each kind. Few enough for every run of the tests; forty pass as well.
const SEEDS: u64 = 3;

/// Numbers that are the same at every run (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// A client of one machine, which keeps all that it has written.
struct Client {
    author: Author,
    peer: PeerId,
    logs: Vec<(Log, Vec<SessionContent>)>,
}

struct Storm {
    dice: Dice,
    net: Ring,
    links: Vec<(usize, usize)>,
    values: Vec<Value>,
    clients: Vec<Client>,
}

impl Storm {
    fn new(seed: u64, size: usize, is_ring: bool, config: Config) -> Self {
        let mut links: Vec<_> = (1..size).map(|to| (to - 1, to)).collect();
        links.extend(is_ring.then_some((size - 1, 0)));
        let mut net = Ring::apart(size, config);
        let clients = net.worlds.iter_mut().zip(1..).map(|(world, number)| {
            let author = Author::new(number);
            // Some sign as agents, and some as accounts, on which their content depends then.
            let log = |value| match number % 2 {
                0 => author.agent_log(value),
                _ => author.account_log(value),
            };
            let logs = (0..VALUES).map(|value| (log(u8::try_from(value).unwrap()), Vec::new()));
            Client { logs: logs.collect(), peer: world.connect("client"), author }
        });
        let clients = clients.collect();
        let values = (0..VALUES).map(|number| Value::free(&number.to_string())).collect();
        Self { dice: Dice(seed), net, links, values, clients }
    }

    fn step(&mut self) {
        let number = self.dice.below(self.clients.len());
        let value = self.dice.below(VALUES);
        let link = self.links[self.dice.below(self.links.len())];
        match self.dice.below(20) {
            0..5 => self.write(number, value),
            5..7 => {
                let peer = self.clients[number].peer;
                self.net.worlds[number].send(peer, self.values[value].load_nothing());
            }
            7 => self.net.part(link.0, link.1),
            8 | 9 => {
                if !self.net.are_joined(link.0, link.1) {
                    self.net.join(link.0, link.1);
                }
            }
            10 if self.dice.below(3) == 0 => {
                self.net.restart(number);
                self.come_back(number);
            }
            11 => self.net.worlds[number].slow_stores = true,
            12 => self.net.worlds[number].catch_up(),
            13 => self.net.worlds[number].pass(1_000),
            _ => {
                for _ in 0..self.dice.below(10) {
                    self.net.carry(number);
                }
            }
        }
    }

    fn write(&mut self, number: usize, value: usize) {
        let (world, client) = (&mut self.net.worlds[number], &mut self.clients[number]);
        let (log, written) = &mut client.logs[value];
        let run = log.write(&["[1]"]);
        written.push(run.clone());
        let value = &self.values[value];
        if run.after == 0 {
            world.send(client.peer, client.author.account.whole(Vec::new()));
            world.send(client.peer, value.whole(vec![run]));
        } else {
            world.send(client.peer, value.more(vec![run]));
        }
    }

    /// A client reconnects to a machine that has lost its memory, and sends what that lacks.
    fn come_back(&mut self, number: usize) {
        let (world, client) = (&mut self.net.worlds[number], &mut self.clients[number]);
        world.slow_stores = false;
        client.peer = world.connect("client");
        world.send(client.peer, client.author.account.whole(Vec::new()));
        for (value, (log, written)) in self.values.iter().zip(&client.logs) {
            let durable = world.durable(value, log);
            for run in written.iter().filter(|run| run.after >= durable) {
                world.send(client.peer, value.whole(vec![run.clone()]));
            }
        }
    }

    /// Everything works again, and every client loads everything.
    fn calm_down(&mut self) {
        for world in &mut self.net.worlds {
            world.catch_up();
        }
        for (from, to) in self.links.clone() {
            if !self.net.are_joined(from, to) {
                self.net.join(from, to);
            }
        }
        self.net.run();
        self.net.pass(60_000);
        for (world, client) in self.net.worlds.iter_mut().zip(&self.clients) {
            for value in &self.values {
                world.send(client.peer, value.load_nothing());
            }
        }
        self.net.run();
        self.net.pass(60_000);
    }

    fn check(&mut self, name: &str) {
        assert_eq!(self.net.run(), 0);
        for (number, world) in self.net.worlds.iter().enumerate() {
            for client in &self.clients {
                for (value, (log, _)) in self.values.iter().zip(&client.logs) {
                    assert_eq!(world.durable(value, log), log.count, "{name}: at {number}");
                }
            }
            assert_eq!(world.reports, [], "{name}: at {number}");
            assert!(world.notes.is_empty(), "{name}: at {number} {:?}", world.notes);
        }
    }
}

#[test]
fn after_any_storm_all_machines_have_everything_and_know_it() {
    for (size, is_ring) in [(2, false), (3, false), (2, true), (3, true)] {
        for warm_co_values in [0, 2, 1_000] {
            for loads_per_upstream in [1, 1_000] {
                let config = Config { warm_co_values, loads_per_upstream, ..Config::default() };
                for seed in 0..SEEDS {
                    let mut storm = Storm::new(seed, size, is_ring, config);
                    (0..STEPS).for_each(|_| storm.step());
                    storm.calm_down();
                    storm.check(&format!(
                        "{size} {is_ring} warm {warm_co_values} loads {loads_per_upstream} {seed}"
                    ));
                }
            }
        }
    }
}
