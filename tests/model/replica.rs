//! A replica of Portcullis: its memory, and the follower that fills it.
//!
//! Here is only what the product's follower does between the decisions; the decisions are the product's own: the [`Reader`],
//! the [`Announcement`], the [`Turn`], the rule of freshness and the [`Denylist`].

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis::auth::revocation::denylist::Denylist;
use portcullis::auth::revocation::reader::{Next, Reader};
use portcullis::auth::revocation::turn::Turn;
use portcullis::auth::revocation::window::Announcement;
use portcullis::domain::{Timestamp, Uptime};
use portcullis::store::{Entry, HistoryId, Page};

use super::clock::{Drift, Time};
use super::flaw::Flaw;
use super::lease::{BEAT, Lease};
use super::redis::{Command, Reply};
use super::requests::Waiting;
use super::world::{Line, World};

/// Between two reads when nobody asks.
const IDLE: Duration = Duration::from_secs(1);
/// Between two attempts while the lock or the settling is waited for.
const MOMENT: Duration = Duration::from_millis(20);

/// Entries of the model never expire.
pub const TODAY: Timestamp = Timestamp::from_secs(1_800_000_000);

/// What an operation is for.
#[derive(Debug)]
pub enum Doing {
    Connecting {
        server: usize,
    },
    Announcing {
        sent: Uptime,
        then_settle: Option<HistoryId>,
    },
    Reading {
        sent: Uptime,
    },
    Settling,
    Locking {
        left: Duration,
    },
    PuttingBack,
    /// Until the next read is due; `true` where somebody who asks ends it.
    Resting(bool),
    /// Until the next attempt to connect.
    BackingOff,
    Beating {
        sent: Uptime,
    },
    BetweenBeats,
    /// A logout's append.
    Appending {
        token: usize,
        attempt: u32,
    },
    /// A logout that waits until it holds everywhere.
    Holding {
        token: usize,
    },
}

/// A connection to one process of one server.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    pub server: usize,
    pub run: u64,
    pub since: Time,
}

pub struct Replica {
    pub clock: Drift,
    pub window: Duration,
    /// Which life it is in, and whether it lives.
    pub life: u64,
    pub up: bool,
    pub paused_until: Time,
    pub slow_until: Time,
    /// By server.
    pub cut_off_until: [Time; 3],
    /// Until when it was not quite well.
    pub trouble_until: Time,
    pub lines: BTreeMap<u64, Doing>,
    pub denylist: Denylist,
    /// When the read of the newest view was sent.
    pub view: Option<Uptime>,
    pub waiting: Vec<Waiting>,
    pub connection: Option<Connection>,
    /// The follower's and the beat's present operation.
    following: Option<u64>,
    beating: Option<u64>,
    reader: Reader,
    announcement: Announcement,
    turn: Turn,
    lease: Lease,
    in_feed: Denylist,
    jitter: bool,
    /// For the flaw of putting entries back too late.
    owed: Vec<Entry>,
    naive: Naive,
}

/// What a reader that does not count believes.
#[derive(Debug, Default)]
struct Naive {
    counted: u64,
    settled: Option<(HistoryId, Timestamp)>,
}

impl Replica {
    pub fn new(clock: Drift, window: Duration, flaw: Option<Flaw>) -> Self {
        Self {
            clock,
            window,
            life: 0,
            up: false,
            paused_until: 0,
            slow_until: 0,
            cut_off_until: [0; 3],
            trouble_until: 0,
            lines: BTreeMap::new(),
            denylist: Denylist::default(),
            view: None,
            waiting: Vec::new(),
            connection: None,
            following: None,
            beating: None,
            reader: Reader::new(flaw == Some(Flaw::NoSettling)),
            announcement: Announcement::default(),
            turn: Turn::default(),
            lease: Lease::default(),
            in_feed: Denylist::default(),
            jitter: true,
            owed: Vec::new(),
            naive: Naive::default(),
        }
    }

    /// Dies; its successor knows nothing.
    pub fn replace(&mut self, window: Duration, flaw: Option<Flaw>) {
        let life = self.life + 1;
        *self = Self {
            life,
            ..Self::new(self.clock, window, flaw)
        };
    }

    /// What a reader with a flaw makes of a page.
    fn misread(&mut self, page: &mut Page, flaw: Option<Flaw>) {
        let trusts = flaw == Some(Flaw::TrustsTheHistory);
        if (!trusts && flaw != Some(Flaw::FullPageIsTheEnd)) || page.added.is_none() {
            return;
        }
        if trusts {
            match &self.naive.settled {
                Some((history, since)) if *history == page.history => page.settled = Some(*since),
                _ => self.naive.settled = page.settled.map(|since| (page.history.clone(), since)),
            }
        } else {
            page.at_end = true;
        }
        self.naive.counted += page.entries.len() as u64;
        page.added = Some(self.naive.counted);
    }
}

impl World {
    /// Goes on with what an answer (`None`: time) has ended.
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
                    who.lease.acknowledged(history, dated);
                    let beating = self.rest(line.replica, BEAT, Doing::BetweenBeats);
                    self.replicas[line.replica].beating = Some(beating.number);
                }
                // It may be a primary no longer: ask again who is.
                _ => self.reconnect(line.replica),
            },
            Doing::BetweenBeats => self.beat(line.replica),
            _ => self.follow(line.replica, doing, reply),
        }
    }

    /// Connects to the feed, or anew.
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
                if self.copies > 0 {
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

    /// The head of the follower's loop.
    fn next(&mut self, replica: usize) {
        let late = self.has(Flaw::CountsBeforeAnnouncing);
        let who = &mut self.replicas[replica];
        let sent = who.clock.uptime(self.now);
        if who.announcement.is_due(sent) && !late {
            let announce = Command::Announce(who.window);
            return self.ask(
                replica,
                announce,
                Doing::Announcing {
                    sent,
                    then_settle: None,
                },
            );
        }
        if late || who.owed.is_empty() || who.view.is_none() {
            let last = who.reader.last().to_owned();
            return self.ask(replica, Command::Read { last }, Doing::Reading { sent });
        }
        let owed = std::mem::take(&mut who.owed);
        self.ask(replica, Command::PutBack(owed), Doing::PuttingBack);
    }

    fn take(&mut self, replica: usize, sent: Uptime, mut page: Page) {
        let (flaw, now) = (self.flaw, self.now);
        let who = &mut self.replicas[replica];
        for entry in &page.entries {
            who.denylist.insert(entry, TODAY);
            if who.reader.is_reading() {
                who.in_feed.insert(entry, TODAY);
            }
        }
        self.judge.learned(replica, &page.entries, now);
        who.misread(&mut page, flaw);
        let next = who.reader.take(&page);
        let holds =
            self.copies == 0 || flaw == Some(Flaw::NoLease) || who.lease.holds(&page.history, sent);
        match next {
            Next::Fresh if holds => {
                let arrived = who.clock.uptime(now);
                let dated = if flaw == Some(Flaw::AgeFromArrival) {
                    arrived
                } else {
                    sent
                };
                let late =
                    flaw == Some(Flaw::CountsBeforeAnnouncing) && who.announcement.is_due(arrived);
                let owes = !who.owed.is_empty();
                self.publish(replica, dated);
                let who = &self.replicas[replica];
                if late && self.random.chance(50) {
                    let announce = Command::Announce(who.window);
                    return self.ask(
                        replica,
                        announce,
                        Doing::Announcing {
                            sent: arrived,
                            then_settle: None,
                        },
                    );
                }
                if !who.waiting.is_empty() {
                    // They came while the read was under way: they want another.
                    return self.next(replica);
                }
                let window = who.window;
                let every = self.random.pick(&[IDLE, IDLE, window, window / 3]);
                let every = if every.is_zero() || owes { IDLE } else { every };
                self.pause(replica, every, true);
            }
            Next::Fresh | Next::Settling => {
                let millis = self.random.pick(&[20, 100, 200]);
                self.pause(replica, Duration::from_millis(millis), false);
            }
            Next::More => self.next(replica),
            Next::Restart => {
                who.in_feed = Denylist::default();
                if flaw != Some(Flaw::AnnouncesOncePerConnection) {
                    who.announcement.lost();
                }
                who.jitter = true;
                self.next(replica);
            }
            Next::Settle(history) => {
                who.in_feed = Denylist::default();
                let holds = holds || flaw == Some(Flaw::SettlesWithoutLease);
                let window = who.window;
                if !holds {
                    self.pause(replica, MOMENT, false);
                } else if flaw == Some(Flaw::CountsBeforeAnnouncing) {
                    self.ask(replica, Command::Settle(history), Doing::Settling);
                } else {
                    let doing = Doing::Announcing {
                        sent,
                        then_settle: Some(history),
                    };
                    self.ask(replica, Command::Announce(window), doing);
                }
            }
            Next::Compare => {
                let in_feed = std::mem::take(&mut who.in_feed);
                let lost = who
                    .denylist
                    .entries(TODAY)
                    .filter(|entry| !in_feed.covers(entry));
                if flaw == Some(Flaw::ReappendsWhenFresh) {
                    who.owed = lost.collect();
                } else {
                    who.reader.lacks(lost);
                }
                if flaw != Some(Flaw::AnnouncesOncePerConnection) {
                    who.announcement.lost();
                }
                self.next(replica);
            }
            Next::Reappend { left } => {
                if std::mem::take(&mut who.jitter) {
                    let millis = self.random.below(200);
                    self.pause(replica, Duration::from_millis(millis), false);
                } else {
                    self.ask(replica, Command::Lock { replica }, Doing::Locking { left });
                }
            }
        }
    }

    fn put_back(&mut self, replica: usize, locked: bool, left: Duration) {
        let waits = self.has(Flaw::WaitsForTheLock);
        let who = &mut self.replicas[replica];
        let now = who.clock.uptime(self.now);
        let lacking = who.reader.lacking().count();
        if !locked && (waits || !who.turn.cannot_wait(lacking, left, now)) {
            return self.pause(replica, MOMENT, false);
        }
        let mut batch: Vec<_> = who.reader.lacking().cloned().collect();
        // The reader's own order differs from run to run.
        batch.sort_unstable_by_key(Entry::to_string);
        self.ask(replica, Command::PutBack(batch), Doing::PuttingBack);
    }
}
