//! Messages: between replicas and servers, and between a primary and its copies.

use std::rc::Rc;
use std::time::Duration;

use portcullis::store::settling_after_restart;

use super::clock::{MILLI, Time};
use super::flaw::Flaw;
use super::redis::{Command, Here, Reply};
use super::replica::Doing;
use super::world::{Event, Line, World};

/// Greatest duration of an operation.
const DEADLINE: Duration = Duration::from_millis(250);

impl World {
    /// Sends a command over a connection to the process `run` of a server. The operation `doing` receives the answer, or its
    /// timeout.
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
        if let Some(delay) = self.delay(replica) {
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

    /// Starts an operation that only the passing of time ends.
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

    /// Delay of a message; `None` if the message is lost.
    fn delay(&mut self, replica: usize) -> Option<Time> {
        let who = &self.replicas[replica];
        if who.cut_off_until > self.now {
            return None;
        }
        let longest = if who.slow_until > self.now {
            120 * MILLI
        } else {
            5 * MILLI
        };
        Some(match self.random.below(3) {
            0 => self.random.between(20, 200),
            1 => self.random.between(20, MILLI),
            _ => self.random.between(20, longest),
        })
    }

    pub fn arrive(&mut self, line: Line, number: usize, run: u64, command: Command) {
        let server = &mut self.servers[number];
        if !server.up {
            return self.reply(line, Reply::Failed);
        }
        let known = matches!(command, Command::Connect) || server.run() == run;
        if !known || !server.primary {
            return self.reply(line, Reply::Failed);
        }
        let here = Here {
            history: &server.history(),
            date: server.clock.date(self.now),
            just_started: server.uptime(self.now) <= 1,
            after_restart: settling_after_restart(self.copies > 0),
            windows_of_any_history: self.flaw == Some(Flaw::WindowsOfAnyHistory),
        };
        let (writes, copies) = (command.writes(), command.copies());
        let settled = server.data.settled().cloned();
        if writes {
            server.remember();
        }
        let told = writes && !matches!(command, Command::Beat { .. } | Command::Lock { .. });
        let shown = (told && self.trace.is_some()).then(|| format!("{command:?}"));
        let reply = server.data.execute(command, &here);
        if server.data.settled() != settled.as_ref()
            && let Some(mark) = server.data.settled().cloned()
        {
            let at = server.clock.reaches(mark.1, self.now);
            self.judge.marked(number, self.now, at - self.now);
            self.at(
                at,
                Event::Settled {
                    server: number,
                    mark,
                },
            );
        }
        if let Some(command) = shown {
            self.note(|| format!("  Redis {number}, for replica {}: {command}", line.replica));
        }
        if writes {
            self.copy_out(number);
        }
        if copies > 0 {
            self.servers[number].wait(line, copies, reply);
        } else {
            self.reply(line, reply);
        }
    }

    /// Sends a primary's data to its copies.
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
        let at = self.now + self.random.between(20, 2 * MILLI);
        self.at(
            at,
            Event::Acknowledged {
                from: of,
                to: copy,
                offset,
            },
        );
    }

    pub fn reply(&mut self, line: Line, reply: Reply) {
        if let Some(delay) = self.delay(line.replica) {
            self.at(self.now + delay, Event::Reply { line, reply });
        }
    }

    /// Index of the server to which a replica connects now: usually the primary, sometimes a server that has been replaced as
    /// primary and does not know it.
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
