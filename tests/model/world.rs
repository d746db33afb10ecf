//! The world of the model: the queue of events, and the messages under way.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use portcullis::store::HistoryId;

use super::clock::{Drift, MILLI, SECOND, Time};
use super::flaw::Flaw;
use super::incident::Incident;
use super::judge::Judge;
use super::random::Random;
use super::redis::{Command, Data, Reply};
use super::replica::Replica;
use super::schedule::Schedule;
use super::server::Server;

/// Greatest age of a view at the end, a little after all replicas have received requests.
const STUCK: Duration = Duration::from_secs(4);

/// ID of one operation in one life of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub replica: usize,
    pub life: u64,
    pub number: u64,
}

#[derive(Debug)]
pub enum Event {
    /// A command reaches a server, on a connection to the process `run`. A command that is `held` has not left its replica yet.
    Command {
        line: Line,
        server: usize,
        run: u64,
        command: Command,
        held: bool,
    },
    Reply {
        line: Line,
        reply: Reply,
    },
    /// A deadline or a rest has ended.
    Over(Line),
    Copied {
        from: usize,
        to: usize,
        connection: u64,
        data: Rc<Data>,
        offset: u64,
    },
    Acknowledged {
        from: usize,
        to: usize,
        offset: u64,
    },
    /// A request reaches a replica; `since` is its first arrival.
    Check {
        replica: usize,
        token: usize,
        since: Time,
    },
    /// A request has reached its greatest waiting time.
    GiveUp {
        replica: usize,
        life: u64,
        request: u64,
    },
    Incident(Incident),
    /// A server's history has settled: every entry that the server lacks by now is either put back or excused.
    Settled {
        server: usize,
        mark: (HistoryId, portcullis::domain::Timestamp),
    },
}

pub struct World {
    pub now: Time,
    pub random: Random,
    pub flaw: Option<Flaw>,
    pub replicas: Vec<Replica>,
    pub servers: Vec<Server>,
    /// The primary according to the simulated Sentinels.
    pub primary: usize,
    /// Number of copies that must acknowledge a write.
    pub copies: usize,
    pub judge: Judge,
    pub trace: Option<Vec<String>>,
    queue: BTreeMap<(Time, u64), Event>,
    numbers: u64,
}

impl World {
    /// Executes a schedule and returns the world with the oracle's result.
    pub fn run(schedule: &Schedule, flaw: Option<Flaw>, traced: bool) -> Self {
        let mut random = Random::new(schedule.seed ^ 0x5bd1_e995);
        let servers = if schedule.copies > 0 { 3 } else { 1 };
        let mut clocks = || Drift::any(&mut random);
        let servers: Vec<_> = (0..servers)
            .map(|number| Server::new(number, clocks()))
            .collect();
        let windows = schedule.windows.iter();
        let replicas: Vec<_> = windows
            .map(|window| Replica::new(clocks(), *window, flaw))
            .collect();
        let mut world = Self {
            now: SECOND,
            random,
            flaw,
            judge: Judge::new(schedule.tokens, replicas.len()),
            replicas,
            servers,
            primary: 0,
            copies: schedule.copies,
            trace: traced.then(Vec::new),
            queue: BTreeMap::new(),
            numbers: 100,
        };
        world.judge.patient = flaw == Some(Flaw::NoSettling);
        if schedule.settled {
            let history = world.servers[0].history();
            world.servers[0].data = Data::long_settled(history);
        }
        for copy in 1..world.servers.len() {
            world.attach(copy, 0);
        }
        for (at, incident) in &schedule.incidents {
            world.at(*at, Event::Incident(incident.clone()));
        }
        while let Some(((at, _), event)) = world.queue.pop_first() {
            if at > schedule.end || world.judge.violation.is_some() {
                break;
            }
            world.now = at;
            world.handle(event);
        }
        world
    }

    /// Living replicas that cannot answer at the end, after a long time without faults.
    pub fn stuck(&self) -> Vec<usize> {
        let stuck = |replica: &&Replica| {
            let now = replica.clock.uptime(self.now);
            replica.up && replica.view.is_none_or(|sent| now.since(sent) > STUCK)
        };
        let numbers = 0..self.replicas.len();
        numbers
            .filter(|number| stuck(&&self.replicas[*number]))
            .collect()
    }

    pub fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn at(&mut self, at: Time, event: Event) {
        let number = self.number();
        self.queue.insert((at.max(self.now), number), event);
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let (millis, micros) = (self.now / 1000, self.now % 1000);
            trace.push(format!("{millis:8}.{micros:03} ms  {}", what()));
        }
    }

    fn handle(&mut self, event: Event) {
        // An event that reaches a paused replica or server takes effect when the pause ends.
        let still = match &event {
            Event::Command {
                line, held: true, ..
            } if self.replicas[line.replica].paused_until > self.now => {
                self.replicas[line.replica].paused_until
            }
            Event::Command { server, .. } => self.servers[*server].paused_until,
            Event::Copied { to, .. } => self.servers[*to].paused_until,
            Event::Acknowledged { from, .. } => self.servers[*from].paused_until,
            Event::Reply { line, .. } | Event::Over(line) => {
                self.replicas[line.replica].paused_until
            }
            Event::Check { replica, .. } | Event::GiveUp { replica, .. } => {
                self.replicas[*replica].paused_until
            }
            Event::Incident(_) | Event::Settled { .. } => 0,
        };
        if still > self.now {
            return self.at(still, event);
        }
        match event {
            Event::Command {
                line,
                server,
                run,
                command,
                ..
            } => self.arrive(line, server, run, command),
            Event::Reply { line, reply } => self.advance(line, Some(reply)),
            Event::Over(line) => self.advance(line, None),
            Event::Copied {
                from,
                to,
                connection,
                data,
                offset,
            } => {
                if self.servers[to].up && self.servers[to].follows == Some((from, connection)) {
                    self.servers[to].receive(&data, offset);
                    let at = self.now + self.random.between(20, 2 * MILLI);
                    self.at(at, Event::Acknowledged { from, to, offset });
                }
            }
            Event::Acknowledged { from, to, offset } => {
                for (line, reply) in self.servers[from].acknowledge(to, offset) {
                    self.reply(line, reply);
                }
            }
            Event::Check {
                replica,
                token,
                since,
            } => self.check(replica, token, since),
            Event::GiveUp {
                replica,
                life,
                request,
            } => self.give_up(replica, life, request),
            Event::Incident(incident) => self.happen(incident),
            Event::Settled { server, mark } => self.judge_settled(server, &mark),
        }
    }
}
