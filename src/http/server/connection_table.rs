//! Table of open connections: counts them, evicts the one that has been idle for the longest, and drains them all.
//!
//! The accept loop alone owns it, and no request touches it. The idle state of a connection is read from its
//! [`Activity`] only when a connection must be evicted.

use std::{
    collections::{HashMap, VecDeque, hash_map},
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

/// Minimum interval between idle scans per network after a scan that found all of its connections busy, in microseconds.
/// Otherwise a network that connects without pause would keep the accept loop scanning.
const NETWORK_SCAN_INTERVAL: u64 = 20_000;

/// One connection as the accept loop sees it.
#[derive(Debug)]
struct Entry {
    activity: Arc<Activity>,
    /// Network of the client; `None` for a trusted proxy.
    network: Option<Network>,
    /// Requests a graceful stop; used once.
    stop: Option<oneshot::Sender<()>>,
}

/// Connections of one network.
#[derive(Debug, Default)]
struct NetworkConnections {
    open: usize,
    /// Idle connections of this network, ordered like [`ConnectionTable::idle`].
    idle: VecDeque<(u64, Id)>,
    /// Earliest time of the next idle scan, in microseconds of the server's clock.
    next_scan: u64,
}

/// All open connections.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    capacity: usize,
    max_per_network: usize,
    networks: HashMap<Network, NetworkConnections>,
    tasks: JoinSet<()>,
    entries: HashMap<Id, Entry>,
    /// Idle connections, the longest idle first, as of the last scan. The order stays right although later ones are
    /// missing: a connection that becomes idle now has been idle for less time than every connection in it. So a scan is
    /// needed only when it is empty, not for every new connection.
    idle: VecDeque<(u64, Id)>,
}

impl ConnectionTable {
    pub(super) fn new(capacity: usize, max_per_network: usize) -> Self {
        Self {
            capacity,
            max_per_network,
            networks: HashMap::new(),
            tasks: JoinSet::new(),
            entries: HashMap::new(),
            idle: VecDeque::new(),
        }
    }

    /// Number of open connections.
    pub(super) fn open(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.open() >= self.capacity
    }

    /// Spawns the task of a connection and adds it.
    pub(super) fn insert(
        &mut self,
        network: Option<Network>,
        activity: Arc<Activity>,
        stop: oneshot::Sender<()>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        if let Some(network) = network {
            self.networks.entry(network).or_default().open += 1;
        }
        let id = self.tasks.spawn(connection).id();
        let entry = Entry {
            activity,
            network,
            stop: Some(stop),
        };
        self.entries.insert(id, entry);
    }

    /// True if a network may have one connection more at `now`, in microseconds of the server's clock. At its maximum, the
    /// network's own longest idle connection is evicted.
    pub(super) fn make_room_for(&mut self, network: Network, now: u64) -> bool {
        let Some(connections) = self.networks.get_mut(&network) else {
            return true;
        };
        if connections.open < self.max_per_network {
            return true;
        }
        let mut idle = std::mem::take(&mut connections.idle);
        let mut has_evicted = self.evict_first(&mut idle);
        if !has_evicted && now >= self.network_connections(network).next_scan {
            idle = self.idle_entries(now, |entry| entry.network == Some(network));
            has_evicted = self.evict_first(&mut idle);
            if !has_evicted {
                self.network_connections(network).next_scan = now + NETWORK_SCAN_INTERVAL;
            }
        }
        self.network_connections(network).idle = idle;
        has_evicted
    }

    fn network_connections(&mut self, network: Network) -> &mut NetworkConnections {
        self.networks.entry(network).or_default()
    }

    /// Waits until a connection has ended and removes it; waits for ever if there is none.
    pub(super) async fn reap(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(joined) => self.remove(joined),
            None => std::future::pending().await,
        }
    }

    fn remove(&mut self, joined: Result<(Id, ()), JoinError>) {
        let id = match joined {
            Ok((id, ())) => id,
            Err(error) => {
                if error.is_panic() {
                    tracing::error!("a connection task panicked; the connection is closed");
                }
                error.id()
            }
        };
        let network = self.entries.remove(&id).and_then(|entry| entry.network);
        if let Some(network) = network
            && let hash_map::Entry::Occupied(mut connections) = self.networks.entry(network)
        {
            connections.get_mut().open -= 1;
            if connections.get().open == 0 {
                connections.remove();
            }
        }
    }

    /// Asks the longest idle connection to close. Returns false if none is idle at `now`, in microseconds of the server's
    /// clock.
    pub(super) fn evict(&mut self, now: u64) -> bool {
        let mut idle = std::mem::take(&mut self.idle);
        let mut has_evicted = self.evict_first(&mut idle);
        if !has_evicted {
            idle = self.idle_entries(now, |_| true);
            has_evicted = self.evict_first(&mut idle);
        }
        self.idle = idle;
        has_evicted
    }

    /// Evicts the first connection of a list that has stayed idle since the list was made.
    fn evict_first(&mut self, idle: &mut VecDeque<(u64, Id)>) -> bool {
        while let Some((since, id)) = idle.pop_front() {
            // It may have ended or been busy since it was listed.
            if let Some(entry) = self.entries.get_mut(&id)
                && entry.activity.evict(since)
            {
                entry.stop();
                return true;
            }
        }
        false
    }

    /// Lists matching connections that are idle, the longest first.
    fn idle_entries(&self, now: u64, matches: impl Fn(&Entry) -> bool) -> VecDeque<(u64, Id)> {
        let entries = self.entries.iter().filter(|(_, entry)| matches(entry));
        let mut idle: Vec<_> = entries
            .filter_map(|(&id, entry)| Some((entry.activity.idle_since()?, id)))
            .filter(|&(since, _)| since <= now)
            .collect();
        idle.sort_unstable_by_key(|&(since, _)| since);
        idle.into()
    }

    /// Asks all connections to finish, waits, and aborts the remaining ones after `timeout`.
    pub(super) async fn drain(mut self, timeout: Duration) -> Drained {
        let deadline = Instant::now() + timeout;
        while let Some(joined) = self.tasks.try_join_next_with_id() {
            self.remove(joined);
        }
        let open = self.open();
        let idle = |entry: &&mut Entry| entry.activity.idle_since().is_some();
        let idle = self.entries.values_mut().filter(idle).count();
        self.entries.values_mut().for_each(Entry::stop);

        while !self.tasks.is_empty() && timeout_at(deadline, self.reap()).await.is_ok() {}
        let aborted = self.tasks.len();
        self.tasks.shutdown().await;
        Drained {
            idle,
            finished: (open - idle).saturating_sub(aborted),
            aborted,
        }
    }
}

impl Entry {
    fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The task may have ended already.
            let _ = stop.send(());
        }
    }
}
