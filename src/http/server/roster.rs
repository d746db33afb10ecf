//! Who is connected: counts connections, tells which has been idle for the longest, and sees all of them out.
//!
//! It belongs to the accept loop alone. A request does not come by here: whether a connection is idle is read from its
//! [`Activity`] when room is needed, and not before.

use std::{collections::HashMap, collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    task::{Id, JoinError, JoinSet},
    time::{Instant, timeout_at},
};

use super::{Drained, activity::Activity};

/// One connection as the accept loop knows it.
#[derive(Debug)]
struct Member {
    activity: Arc<Activity>,
    /// Asks it to stop, once.
    stop: Option<oneshot::Sender<()>>,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Roster {
    capacity: usize,
    tasks: JoinSet<()>,
    members: HashMap<Id, Member>,
    /// Idle connections, the longest idle first, as of the last time all were looked at. It stays in order with every
    /// later one left out, since whoever becomes idle now has been idle for less long than everyone on it. So all are
    /// looked at only when it has run out, not for every newcomer.
    idle: VecDeque<(u64, Id)>,
}

impl Roster {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
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
        activity: Arc<Activity>,
        stop: oneshot::Sender<()>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.tasks.spawn(connection).id();
        let stop = Some(stop);
        self.members.insert(id, Member { activity, stop });
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
        self.members.remove(&id);
    }

    /// Asks the connection that has been idle for the longest to close; false if none is idle at `now`, in
    /// microseconds of the server's clock.
    pub(super) fn evict(&mut self, now: u64) -> bool {
        self.evict_known() || {
            self.look_around(now);
            self.evict_known()
        }
    }

    fn evict_known(&mut self) -> bool {
        while let Some((since, id)) = self.idle.pop_front() {
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

    fn look_around(&mut self, now: u64) {
        let mut idle: Vec<_> = self
            .members
            .iter()
            .filter_map(|(&id, member)| Some((member.activity.idle_since()?, id)))
            .filter(|&(since, _)| since <= now)
            .collect();
        idle.sort_unstable_by_key(|&(since, _)| since);
        self.idle = idle.into();
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
