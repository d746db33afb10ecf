//! Who is connected: counts connections, tells which has been idle for the longest, and sees all of them out.
//!
//! It belongs to the accept loop alone. A request does not come by here: whether a connection is idle is read from its
//! [`Activity`] when room is needed, and not before.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::{Id, JoinError, JoinSet},
    time::{Instant, timeout_at},
};

use super::{Drained, activity::Activity};
use crate::domain::Network;

/// How long nobody of a network is looked for again after all of its connections were found at work, in microseconds: a
/// network that knocks without end must not keep the accept loop at looking.
const LOOK_AGAIN: u64 = 20_000;

/// One connection as the accept loop knows it.
#[derive(Debug)]
struct Member {
    activity: Arc<Activity>,
    /// Where it comes from; none for a proxy that is trusted.
    network: Option<Network>,
    /// Asks it to stop, once.
    stop: Option<oneshot::Sender<()>>,
}

/// The connections of one network.
#[derive(Debug, Default)]
struct Crowd {
    open: usize,
    /// Its idle connections, as [`Roster::idle`] has those of all.
    idle: VecDeque<(u64, Id)>,
    /// Until when none of them is taken for idle, in microseconds of the server's clock.
    busy_until: u64,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Roster {
    capacity: usize,
    /// How many of them one network may have.
    share: usize,
    crowds: HashMap<Network, Crowd>,
    tasks: JoinSet<()>,
    members: HashMap<Id, Member>,
    /// Idle connections, the longest idle first, as of the last time all were looked at. It stays in order with every
    /// later one left out, since whoever becomes idle now has been idle for less long than everyone on it. So all are
    /// looked at only when it has run out, not for every newcomer.
    idle: VecDeque<(u64, Id)>,
}

impl Roster {
    pub(super) fn new(capacity: usize, share: usize) -> Self {
        Self {
            capacity,
            share,
            crowds: HashMap::new(),
            tasks: JoinSet::new(),
            members: HashMap::new(),
            idle: VecDeque::new(),
        }
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.open() >= self.capacity
    }

    /// Takes a connection in and starts to serve it.
    pub(super) fn admit(
        &mut self,
        network: Option<Network>,
        activity: Arc<Activity>,
        stop: oneshot::Sender<()>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        if let Some(network) = network {
            self.crowds.entry(network).or_default().open += 1;
        }
        let id = self.tasks.spawn(connection).id();
        let member = Member {
            activity,
            network,
            stop: Some(stop),
        };
        self.members.insert(id, member);
    }

    /// Whether a network may have one connection more at `now`, in microseconds of the server's clock; where it has its share,
    /// the one of its own that has been idle for the longest makes room.
    pub(super) fn has_room_for(&mut self, network: Network, now: u64) -> bool {
        let Some(crowd) = self.crowds.get_mut(&network) else {
            return true;
        };
        if crowd.open < self.share {
            return true;
        }
        let mut idle = std::mem::take(&mut crowd.idle);
        let mut has_evicted = self.evict_first(&mut idle);
        if !has_evicted && now >= self.crowd(network).busy_until {
            idle = self.idle_members(now, |member| member.network == Some(network));
            has_evicted = self.evict_first(&mut idle);
            if !has_evicted {
                self.crowd(network).busy_until = now + LOOK_AGAIN;
            }
        }
        self.crowd(network).idle = idle;
        has_evicted
    }

    fn crowd(&mut self, network: Network) -> &mut Crowd {
        self.crowds.entry(network).or_default()
    }

    /// Waits until a connection has ended; for ever if there is none.
    pub(super) async fn ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.forget(ended),
            None => std::future::pending().await,
        }
    }

    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                if error.is_panic() {
                    tracing::error!("the task of a connection panicked; its connection is closed");
                }
                error.id()
            }
        };
        let network = self.members.remove(&id).and_then(|member| member.network);
        if let Some(network) = network
            && let Entry::Occupied(mut crowd) = self.crowds.entry(network)
        {
            crowd.get_mut().open -= 1;
            if crowd.get().open == 0 {
                crowd.remove();
            }
        }
    }

    /// Asks the connection that has been idle for the longest to close; false if none is idle at `now`, in
    /// microseconds of the server's clock.
    pub(super) fn evict(&mut self, now: u64) -> bool {
        let mut idle = std::mem::take(&mut self.idle);
        let mut has_evicted = self.evict_first(&mut idle);
        if !has_evicted {
            idle = self.idle_members(now, |_| true);
            has_evicted = self.evict_first(&mut idle);
        }
        self.idle = idle;
        has_evicted
    }

    /// Evicts the first on a list who is still as idle as it says.
    fn evict_first(&mut self, idle: &mut VecDeque<(u64, Id)>) -> bool {
        while let Some((since, id)) = idle.pop_front() {
            // It may have ended or worked since it was put on the list.
            if let Some(member) = self.members.get_mut(&id)
                && member.activity.evict(since)
            {
                member.stop();
                return true;
            }
        }
        false
    }

    /// Who of them is idle, the longest first.
    fn idle_members(&self, now: u64, of: impl Fn(&Member) -> bool) -> VecDeque<(u64, Id)> {
        let members = self.members.iter().filter(|(_, member)| of(member));
        let mut idle: Vec<_> = members
            .filter_map(|(&id, member)| Some((member.activity.idle_since()?, id)))
            .filter(|&(since, _)| since <= now)
            .collect();
        idle.sort_unstable_by_key(|&(since, _)| since);
        idle.into()
    }

    /// Asks everybody to finish, waits, and cuts those that have not after `patience`.
    pub(super) async fn drain(mut self, patience: Duration) -> Drained {
        let deadline = Instant::now() + patience;
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended);
        }
        let open = self.open();
        let idle = |member: &&mut Member| member.activity.idle_since().is_some();
        let idle = self.members.values_mut().filter(idle).count();
        self.members.values_mut().for_each(Member::stop);

        while !self.tasks.is_empty() && timeout_at(deadline, self.ended()).await.is_ok() {}
        let cut = self.tasks.len();
        self.tasks.shutdown().await;
        Drained {
            idle,
            finished: (open - idle).saturating_sub(cut),
            cut,
        }
    }
}

impl Member {
    fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
    }
}
