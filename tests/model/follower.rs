//! The feed consumer of a replica: the steps that the product's consumer takes between its decisions. The decisions come from
//! the product's own code: the meaning of a page, the time to announce a window, the replica that may put entries back.

use std::time::Duration;

use portcullis::auth::revocation::feed_state::Action;
use portcullis::domain::Uptime;
use portcullis::store::{Entry, HistoryId, Page};

use super::flaw::Flaw;
use super::redis::{Command, Reply};
use super::replica::{Connection, Denied, Doing};
use super::world::{Line, World};
use portcullis::auth::revocation::lease::{HEARTBEAT_INTERVAL, Lease};

/// Interval between two reads without requests.
const IDLE: Duration = Duration::from_secs(1);
/// Interval between two attempts while a replica waits for the lock or the lease.
const MOMENT: Duration = Duration::from_millis(20);

impl World {
    /// Continues after an answer, or time (`None`), has ended an operation.
    pub fn advance(&mut self, line: Line, reply: Option<Reply>) {
        let who = &mut self.replicas[line.replica];
        if who.life != line.life || !who.up {
            return;
        }
        let Some(doing) = who.lines.remove(&line.number) else {
            return;
        };
        match doing {
            Doing::Appending { .. } | Doing::Holding { .. } => {
                self.log_out_on(line.replica, doing, reply);
            }
            Doing::Beating { sent } => match reply {
                Some(Reply::Beaten(history)) => {
                    let late = self.has(Flaw::LeaseFromArrival);
                    let who = &mut self.replicas[line.replica];
                    let dated = if late {
                        who.clock.uptime(self.now)
                    } else {
                        sent
                    };
                    if late {
                        // This mutation also does not notice that the lease was lost in between.
                        who.lease = Lease::default();
                    }
                    who.lease.acknowledged(history, dated);
                    let beating = self.rest(line.replica, HEARTBEAT_INTERVAL, Doing::BetweenBeats);
                    self.replicas[line.replica].beating = Some(beating.number);
                }
                // The server may be a primary no longer: ask again for the primary.
                _ => self.reconnect(line.replica),
            },
            Doing::BetweenBeats => self.beat(line.replica),
            _ => self.follow(line.replica, doing, reply),
        }
    }

    /// Connects to the feed, for the first time or again.
    pub fn connect(&mut self, replica: usize) {
        let server = self.resolve();
        let doing = Doing::Connecting { server };
        let line = self.send(replica, server, 0, Command::Connect, doing);
        self.replicas[replica].following = Some(line.number);
    }

    fn reconnect(&mut self, replica: usize) {
        let who = &mut self.replicas[replica];
        let lines = [who.following.take(), who.beating.take()];
        for line in lines.into_iter().flatten() {
            who.lines.remove(&line);
        }
        who.connection = None;
        let millis = self.random.between(5, 500);
        let line = self.rest(replica, Duration::from_millis(millis), Doing::BackingOff);
        self.replicas[replica].following = Some(line.number);
    }

    fn beat(&mut self, replica: usize) {
        let who = &self.replicas[replica];
        let Some(connection) = who.connection else {
            return;
        };
        let (sent, copies) = (who.clock.uptime(self.now), self.copies);
        let beat = Command::Beat { copies };
        let line = self.send(
            replica,
            connection.server,
            connection.run,
            beat,
            Doing::Beating { sent },
        );
        self.replicas[replica].beating = Some(line.number);
    }

    fn ask(&mut self, replica: usize, command: Command, doing: Doing) {
        let Some(Connection { server, run, .. }) = self.replicas[replica].connection else {
            return;
        };
        let line = self.send(replica, server, run, command, doing);
        self.replicas[replica].following = Some(line.number);
    }

    fn pause(&mut self, replica: usize, duration: Duration, demandable: bool) {
        let line = self.rest(replica, duration, Doing::Resting(demandable));
        self.replicas[replica].following = Some(line.number);
    }

    /// Ends the rest between two reads.
    pub fn demand(&mut self, replica: usize) {
        let who = &mut self.replicas[replica];
        if let Some(line) = who.following
            && matches!(who.lines.get(&line), Some(Doing::Resting(true)))
        {
            who.lines.remove(&line);
            self.next(replica);
        }
    }

    fn follow(&mut self, replica: usize, doing: Doing, reply: Option<Reply>) {
        match (doing, reply) {
            (Doing::BackingOff, _) => self.connect(replica),
            (Doing::Resting(_), _) => self.next(replica),
            (_, None | Some(Reply::Failed)) => self.reconnect(replica),
            (Doing::Connecting { server }, Some(_)) => {
                let (run, since) = (self.servers[server].run(), self.now);
                self.replicas[replica].connection = Some(Connection { server, run, since });
                self.replicas[replica].announcement.lost();
                if self.copies > 0 && !self.has(Flaw::NoLease) {
                    self.beat(replica);
                }
                self.next(replica);
            }
            (Doing::Announcing { sent, then_settle }, Some(_)) => {
                let late = self.has(Flaw::AnnouncementFromArrival);
                let who = &mut self.replicas[replica];
                let dated = if late {
                    who.clock.uptime(self.now)
                } else {
                    sent
                };
                who.announcement.made(dated);
                match then_settle {
                    Some(history) => self.ask(replica, Command::Settle(history), Doing::Settling),
                    None => self.next(replica),
                }
            }
            (Doing::Reading { sent }, Some(Reply::Page(page))) => self.take(replica, sent, *page),
            (Doing::Locking { left }, Some(Reply::Locked(taken))) => {
                self.put_back(replica, taken, left);
            }
            (Doing::Settling | Doing::PuttingBack, Some(_)) => self.next(replica),
            (doing, reply) => unreachable!("{doing:?} was answered {reply:?}"),
        }
    }

    /// Takes the next step of the consumer's loop.
    fn next(&mut self, replica: usize) {
        let late = self.has(Flaw::CountsBeforeAnnouncing);
        let who = &mut self.replicas[replica];
        let sent = who.clock.uptime(self.now);
        if who.announcement.is_due(sent) && !late {
            return self.announce(replica, None);
        }
        if late || who.owed.is_empty() || who.view.is_none() {
            let last = who.feed.last().to_owned();
            return self.ask(replica, Command::Read { last }, Doing::Reading { sent });
        }
        let owed = std::mem::take(&mut who.owed);
        self.ask(replica, Command::PutBack(owed), Doing::PuttingBack);
    }

    fn take(&mut self, replica: usize, sent: Uptime, mut page: Page) {
        let (flaw, now) = (self.flaw, self.now);
        let who = &mut self.replicas[replica];
        for entry in &page.entries {
            who.denied.insert(entry);
            if who.feed.is_reading() {
                who.in_feed.insert(entry);
            }
        }
        self.judge.learned(replica, &page.entries, now);
        who.misread(&mut page, flaw);
        let holds =
            self.copies == 0 || flaw == Some(Flaw::NoLease) || who.lease.holds(&page.history, sent);
        match who.feed.take(&page) {
            Action::Fresh if holds => self.fresh(replica, sent),
            Action::Fresh | Action::Settling => {
                let millis = self.random.pick(&[20, 100, 200]);
                self.pause(replica, Duration::from_millis(millis), false);
            }
            Action::More => self.next(replica),
            Action::Restart => {
                who.in_feed = Denied::default();
                who.jitter = true;
                self.announcement_lost(replica);
                self.next(replica);
            }
            Action::Settle(history) => {
                who.in_feed = Denied::default();
                if !holds && flaw != Some(Flaw::SettlesWithoutLease) {
                    self.pause(replica, MOMENT, false);
                } else if flaw == Some(Flaw::CountsBeforeAnnouncing) {
                    self.ask(replica, Command::Settle(history), Doing::Settling);
                } else {
                    self.announce(replica, Some(history));
                }
            }
            Action::Compare => {
                let lost = who.denied.beyond(&std::mem::take(&mut who.in_feed));
                if flaw == Some(Flaw::ReappendsWhenFresh) {
                    who.owed = lost;
                } else {
                    who.feed.record_missing(lost.into_iter());
                }
                self.announcement_lost(replica);
                self.next(replica);
            }
            Action::Reappend { .. } if std::mem::take(&mut who.jitter) => {
                let millis = self.random.below(200);
                self.pause(replica, Duration::from_millis(millis), false);
            }
            Action::Reappend { left } => {
                self.ask(replica, Command::Lock { replica }, Doing::Locking { left });
            }
        }
    }

    fn announcement_lost(&mut self, replica: usize) {
        if !self.has(Flaw::AnnouncesOncePerConnection) {
            self.replicas[replica].announcement.lost();
        }
    }

    fn announce(&mut self, replica: usize, then_settle: Option<HistoryId>) {
        let who = &self.replicas[replica];
        let (announce, sent) = (Command::Announce(who.window), who.clock.uptime(self.now));
        self.ask(replica, announce, Doing::Announcing { sent, then_settle });
    }

    /// Publishes a view, which counts now, and rests until the next read is due.
    fn fresh(&mut self, replica: usize, sent: Uptime) {
        let arrived = self.replicas[replica].clock.uptime(self.now);
        let from_arrival = self.has(Flaw::AgeFromArrival);
        self.publish(replica, if from_arrival { arrived } else { sent });
        let late = self.has(Flaw::CountsBeforeAnnouncing) && self.random.chance(50);
        let who = &self.replicas[replica];
        if late && who.announcement.is_due(arrived) {
            return self.announce(replica, None);
        }
        if !who.waiting.is_empty() {
            // These requests came while the read was under way, so they need another read.
            return self.next(replica);
        }
        let (window, owes) = (who.window, !who.owed.is_empty());
        let every = self.random.pick(&[IDLE, IDLE, window, window / 3]);
        let every = if every.is_zero() || owes { IDLE } else { every };
        self.pause(replica, every, true);
    }

    fn put_back(&mut self, replica: usize, locked: bool, left: Duration) {
        let waits = self.has(Flaw::WaitsForTheLock);
        let who = &mut self.replicas[replica];
        let now = who.clock.uptime(self.now);
        let missing = who.feed.missing().count();
        if !locked && (waits || !who.lock_bypass.should_bypass(missing, left, now)) {
            return self.pause(replica, MOMENT, false);
        }
        let mut batch: Vec<_> = who.feed.missing().cloned().collect();
        // The order of the reader's entries differs from run to run.
        batch.sort_unstable_by_key(Entry::to_string);
        self.ask(replica, Command::PutBack(batch), Doing::PuttingBack);
    }
}
