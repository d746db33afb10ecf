//! The world: what happens when, and how messages travel.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use portcullis::store::HistoryId;

use super::clock::{Drift, MILLI, SECOND, Time};
use super::flaw::Flaw;
use super::judge::Judge;
use super::random::Random;
use super::redis::{Command, Data, Here, Reply};
use super::replica::{Doing, Replica};
use super::schedule::{Incident, Schedule};
use super::server::Server;

/// The longest that an operation may take.
const DEADLINE: Duration = Duration::from_millis(250);

/// One operation of one life of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub replica: usize,
    pub life: u64,
    pub number: u64,
}

#[derive(Debug)]
pub enum Event {
    /// A command reaches a server, on a connection to the process `run`. One that is `held` has not left its replica yet.
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
    /// A deadline or a rest is over.
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
    /// A request reaches a replica; `since` is when it first did.
    Check {
        replica: usize,
        token: usize,
        since: Time,
    },
    /// A request has waited for as long as it may.
    GiveUp {
        replica: usize,
        life: u64,
        request: u64,
    },
    Incident(Incident),
    /// A server's history has settled: what it lacks by now is either put back or excused.
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
    /// The primary by what whoever watches over them says.
    pub primary: usize,
    /// How many copies must acknowledge.
    pub copies: usize,
    pub judge: Judge,
    pub trace: Option<Vec<String>>,
    queue: BTreeMap<(Time, u64), Event>,
    numbers: u64,
}

impl World {
    /// Carries a schedule out, and tells what the judge saw.
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
            trace.push(format!("{:11.4} ms  {}", self.now as f64 / 1000.0, what()));
        }
    }

    fn handle(&mut self, event: Event) {
        // What reaches somebody who stands still is there when he goes on.
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
                    self.reply(line, from, reply);
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

    /// Sends a command over a connection to the process `run` of a server. Its answer, or none, comes to `doing`.
    pub fn send(
        &mut self,
        replica: usize,
        server: usize,
        run: u64,
        command: Command,
        doing: Doing,
    ) -> Line {
        let line = self.open(replica, doing);
        let held = self.random.chance(10);
        if let Some(delay) = self.delay(replica, server) {
            self.at(
                self.now + delay,
                Event::Command {
                    line,
                    server,
                    run,
                    command,
                    held,
                },
            );
        }
        self.over_after(line, DEADLINE);
        line
    }

    /// Begins to do something that only time ends.
    pub fn rest(&mut self, replica: usize, duration: Duration, doing: Doing) -> Line {
        let line = self.open(replica, doing);
        self.over_after(line, duration);
        line
    }

    fn open(&mut self, replica: usize, doing: Doing) -> Line {
        let number = self.number();
        let who = &mut self.replicas[replica];
        who.lines.insert(number, doing);
        Line {
            replica,
            life: who.life,
            number,
        }
    }

    fn over_after(&mut self, line: Line, duration: Duration) {
        let takes = self.replicas[line.replica].clock.takes(duration);
        let late = self.random.pick(&[0, 0, 100, MILLI]);
        self.at(self.now + takes + late, Event::Over(line));
    }

    /// How long a message takes; `None` where it is lost.
    fn delay(&mut self, replica: usize, server: usize) -> Option<Time> {
        let who = &self.replicas[replica];
        if who
            .cut_off_until
            .get(server)
            .is_some_and(|until| *until > self.now)
        {
            return None;
        }
        let longest = if who.slow_until > self.now {
            200 * MILLI
        } else {
            5 * MILLI
        };
        Some(match self.random.below(3) {
            0 => self.random.between(20, 200),
            1 => self.random.between(20, MILLI),
            _ => self.random.between(20, longest),
        })
    }

    fn arrive(&mut self, line: Line, number: usize, run: u64, command: Command) {
        let server = &mut self.servers[number];
        if !server.up {
            return self.reply(line, number, Reply::Failed);
        }
        let known = matches!(command, Command::Connect) || server.run() == run;
        if !known || !server.primary {
            return self.reply(line, number, Reply::Failed);
        }
        let here = Here {
            history: &server.history(),
            date: server.clock.date(self.now),
            windows_of_any_history: self.flaw == Some(Flaw::WindowsOfAnyHistory),
        };
        let (writes, copies) = (command.writes(), command.copies());
        let settled = server.data.settled().cloned();
        if writes {
            server.remember();
        }
        if let Some(trace) = self
            .trace
            .as_mut()
            .filter(|_| writes && !matches!(command, Command::Beat { .. }))
        {
            let at = self.now as f64 / 1000.0;
            trace.push(format!(
                "{at:11.4} ms    Redis {number}: {command:?} of {}",
                line.replica
            ));
        }
        let reply = server.data.execute(command, &here);
        if server.data.settled() != settled.as_ref()
            && let Some(mark) = server.data.settled().cloned()
        {
            let at = server
                .clock
                .reaches(mark.1.plus(portcullis::store::SETTLING), self.now);
            self.judge.marked(number, self.now);
            self.at(
                at,
                Event::Settled {
                    server: number,
                    mark,
                },
            );
        }
        if writes {
            self.copy_out(number);
        }
        if copies > 0 {
            self.servers[number].wait(line, copies, reply);
        } else {
            self.reply(line, number, reply);
        }
    }

    /// Sends what a primary holds on to its copies.
    pub fn copy_out(&mut self, from: usize) {
        let data = Rc::new(self.servers[from].data.clone());
        self.servers[from].offset += 1;
        let offset = self.servers[from].offset;
        for index in 0..self.servers[from].copies.len() {
            let longest = self.random.pick(&[MILLI, MILLI, 30 * MILLI]);
            let delay = self.random.between(20, longest);
            let (to, connection, last) = &mut self.servers[from].copies[index];
            *last = (self.now + delay).max(*last + 1);
            let (to, connection, at) = (*to, *connection, *last);
            self.at(
                at,
                Event::Copied {
                    from,
                    to,
                    connection,
                    data: Rc::clone(&data),
                    offset,
                },
            );
        }
    }

    /// Makes a server a copy of another.
    pub fn attach(&mut self, copy: usize, of: usize) {
        let connection = self.number();
        for server in &mut self.servers {
            server.copies.retain(|(to, _, _)| *to != copy);
        }
        let (data, offset) = (self.servers[of].data.clone(), self.servers[of].offset);
        self.servers[copy].copy(of, connection, data, offset);
        self.servers[of].copies.push((copy, connection, self.now));
    }

    fn reply(&mut self, line: Line, server: usize, reply: Reply) {
        if let Some(delay) = self.delay(line.replica, server) {
            self.at(self.now + delay, Event::Reply { line, reply });
        }
    }

    /// Where a replica that connects now is led: mostly to the primary, now and then to one that has been replaced.
    pub fn resolve(&mut self) -> usize {
        if self.random.chance(85) {
            return self.primary;
        }
        let calls_itself_primary: Vec<_> = (0..self.servers.len())
            .filter(|server| self.servers[*server].primary)
            .collect();
        self.random.pick(&calls_itself_primary)
    }
}
