//! Cached topology: the primary of every key.
//!
//! A lookup is kept until a server turns out not to be the primary, or does not answer. Then one caller asks the
//! Sentinels or the Cluster again for all callers that wait, at most once in each [`MIN_LOOKUP_INTERVAL`]. Their answer
//! may be wrong for a moment, in a partition for longer: the lease, not this lookup, keeps a replaced primary from
//! being trusted.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::StoreError;
use super::address::{Connector, Host, ServerDiscovery};
use super::discovery::{self, Shard};
use super::node::Node;
use crate::domain::{Clock, Uptime};
use crate::store::canary::Canary;
use crate::store::keyspace::Keyspace;

/// Minimum interval between two lookups.
const MIN_LOOKUP_INTERVAL: Duration = Duration::from_millis(50);

/// Number of slots of a Cluster; every key is in one of them.
const SLOTS: u16 = 16_384;

/// Hash tag of the feed, which the canary of a single server shares.
const FEED_TAG: &str = "feed";

/// ServerDiscovery of the deployment, looked up when needed.
pub(super) struct Topology {
    connector: Connector,
    discovery: ServerDiscovery,
    keys: Keyspace,
    found: ArcSwapOption<Snapshot>,
    /// Time of the last lookup. The lock admits one lookup at a time.
    asking: Mutex<Option<Uptime>>,
    clock: Clock,
    /// Servers to which there are connections, by address.
    nodes: std::sync::Mutex<HashMap<Host, Arc<Node>>>,
}

/// Result of a lookup.
struct Snapshot {
    /// Shards in the order of their slots.
    shards: Vec<(Shard, Arc<Node>)>,
    stale: AtomicBool,
}

impl Snapshot {
    fn primary_of(&self, slot: u16) -> Option<&Arc<Node>> {
        let shard = self
            .shards
            .iter()
            .find(|(shard, _)| shard.slots.iter().any(|slots| slots.contains(&slot)));
        shard.map(|(_, node)| node)
    }

    fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }
}

impl Topology {
    pub(super) fn new(
        connector: Connector,
        discovery: ServerDiscovery,
        keys: Keyspace,
    ) -> Result<Self, StoreError> {
        let found = if discovery == ServerDiscovery::Standalone {
            let canary = Canary::new(Some(keys.canary(FEED_TAG)));
            let node = Arc::new(Node::new(connector.only()?, canary)?);
            let shard = Shard {
                slots: vec![all_slots()],
                primary: Host(node.address.clone()),
                replicas: None,
            };
            Some(Arc::new(Snapshot {
                shards: vec![(shard, node)],
                stale: false.into(),
            }))
        } else {
            None
        };
        Ok(Self {
            connector,
            discovery,
            keys,
            found: ArcSwapOption::new(found),
            asking: Mutex::new(None),
            clock: Clock::machine(),
            nodes: std::sync::Mutex::default(),
        })
    }

    /// Returns true if keys are spread over several shards.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.discovery, ServerDiscovery::Cluster { .. })
    }

    /// Returns true if Sentinels or a Cluster choose the primary.
    pub(super) fn has_failover(&self) -> bool {
        self.discovery != ServerDiscovery::Standalone
    }

    /// Returns the primary of a slot.
    pub(super) async fn primary_of(&self, slot: u16) -> Result<Arc<Node>, StoreError> {
        for _ in 0..2 {
            let found = self.current().await?;
            if let Some(node) = found.primary_of(slot) {
                return Ok(Arc::clone(node));
            }
            // A Cluster that is still being created: look it up again, now and before each later use.
            found.stale.store(true, Ordering::Relaxed);
        }
        Err(StoreError::refused(
            "no server of the Cluster serves this slot: redis-cli --cluster check HOST:PORT shows the slots without a server",
        ))
    }

    /// Returns true if a server is known to have lost the writes of scripts.
    pub(super) fn has_lost_transactions(&self) -> bool {
        let found = self.found.load();
        let shards = found.iter().flat_map(|found| &found.shards);
        shards
            .map(|(_, node)| node)
            .any(|node| node.canary.has_lost_transactions())
    }

    /// Returns all shards, in the order of their slots.
    pub(super) async fn all(&self) -> Result<Vec<(Shard, Arc<Node>)>, StoreError> {
        Ok(self.current().await?.shards.clone())
    }

    /// Returns the server to which another one has redirected.
    pub(super) fn node_at(&self, address: &str) -> Result<Arc<Node>, StoreError> {
        self.node(&Host(address.to_owned()))
    }

    /// Marks the lookup as stale after a server answered as no primary does: the next use looks it up again.
    pub(super) fn invalidate(&self) {
        if self.has_failover()
            && let Some(found) = &*self.found.load()
        {
            found.stale.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the current topology, looked up again if it is stale.
    async fn current(&self) -> Result<Arc<Snapshot>, StoreError> {
        let known = || self.found.load_full();
        if let Some(found) = known()
            && !found.is_stale()
        {
            return Ok(found);
        }
        let mut asked = self.asking.lock().await;
        let before = known();
        let since = |asked: Uptime| self.clock.uptime().since(asked);
        let lately = asked.is_some_and(|asked| since(asked) < MIN_LOOKUP_INTERVAL);
        if let Some(found) = before.clone()
            && (lately || !found.is_stale())
        {
            return Ok(found);
        }
        if let Some(asked) = *asked {
            tokio::time::sleep(MIN_LOOKUP_INTERVAL.saturating_sub(since(asked))).await;
        }
        let answer = self.ask(before.as_deref()).await;
        *asked = Some(self.clock.uptime());
        match answer {
            Ok(found) => {
                self.found.store(Some(Arc::clone(&found)));
                Ok(found)
            }
            // An old answer is better than none; the next use asks again.
            Err(error) => before.ok_or(error),
        }
    }

    async fn ask(&self, before: Option<&Snapshot>) -> Result<Arc<Snapshot>, StoreError> {
        let shards = match &self.discovery {
            // A single server is never stale.
            ServerDiscovery::Standalone => return Err(StoreError::timed_out()),
            ServerDiscovery::Sentinel { sentinels, name } => {
                let clients = sentinels.iter().map(|host| self.connector.sentinel(host));
                let clients: Result<Vec<_>, _> = clients.collect();
                vec![discovery::ask_sentinels(&clients?, name).await?]
            }
            ServerDiscovery::Cluster { seeds } => {
                let mut hosts = seeds.clone();
                let known = before.into_iter().flat_map(|found| &found.shards);
                hosts.extend(known.map(|(shard, _)| shard.primary.clone()));
                hosts.sort_unstable();
                hosts.dedup();
                let clients = hosts
                    .into_iter()
                    .map(|host| Ok((self.connector.server(&host)?, host)));
                let clients: Result<Vec<_>, StoreError> = clients.collect();
                discovery::ask_cluster(&clients?).await?
            }
        };
        let with_node = |shard: Shard| {
            let node = self.node(&shard.primary)?;
            self.place_canary(&node, &shard);
            Ok((shard, node))
        };
        let shards: Result<Vec<_>, StoreError> = shards.into_iter().map(with_node).collect();
        let shards = shards?;
        self.nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|host, _| shards.iter().any(|(shard, _)| shard.primary == *host));
        Ok(Arc::new(Snapshot {
            shards,
            stale: false.into(),
        }))
    }

    /// Returns the numbers of pooled connections in use and idle, of all servers.
    pub(super) fn connections(&self) -> (usize, usize) {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes
            .values()
            .map(|node| node.connections())
            .fold((0, 0), |(used, idle), (more, rest)| {
                (used + more, idle + rest)
            })
    }

    /// Places the canary of a server in one of its slots; all replicas choose the same slot.
    fn place_canary(&self, node: &Node, shard: &Shard) {
        let slots = |slot: u16| shard.slots.iter().any(|slots| slots.contains(&slot));
        let keys = if self.is_cluster() {
            let placed = node.canary.keys();
            if placed.is_some_and(|keys| slots(slot_of(&keys.plain))) {
                return;
            }
            let Some(first) = shard.slots.first().map(|slots| *slots.start()) else {
                return;
            };
            self.keys.canary(&tag_of(first))
        } else {
            self.keys.canary(FEED_TAG)
        };
        node.canary.set_keys(keys);
    }

    fn node(&self, host: &Host) -> Result<Arc<Node>, StoreError> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(host) {
            return Ok(Arc::clone(node));
        }
        let node = Arc::new(Node::new(self.connector.server(host)?, Canary::default())?);
        nodes.insert(host.clone(), Arc::clone(&node));
        Ok(node)
    }
}

/// Returns the range of all slots.
pub(super) fn all_slots() -> RangeInclusive<u16> {
    0..=SLOTS - 1
}

/// Returns the least number that, as a hash tag, hashes to `slot`.
fn tag_of(slot: u16) -> String {
    let mut numbers = (0_u32..).map(|number| number.to_string());
    let tag = numbers.find(|tag| slot_of(tag) == slot);
    tag.unwrap_or_default()
}

/// Returns the slot of a key: CRC-16 (XMODEM) of the text in its first braces, or of the whole key.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| {
        let (tag, _) = rest.split_once('}')?;
        (!tag.is_empty()).then_some(tag)
    });
    let crc = tag.unwrap_or(key).bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of `CLUSTER KEYSLOT` in Redis 7.0.
    #[test]
    fn keys_lie_in_the_slots_that_redis_computes() {
        assert_eq!(slot_of("123456789"), 12739);
        assert_eq!(slot_of("foo"), 12182);
        assert_eq!(slot_of("portcullis:user:{foo}:alice"), 12182);
        assert_eq!(slot_of("foo{}{bar}"), slot_of("foo{}{bar}"));
        assert_ne!(slot_of("foo{}{bar}"), slot_of("bar"));
    }

    #[test]
    fn each_slot_has_a_tag() {
        for slot in [0, 1, 5461, 10923, SLOTS - 1] {
            assert_eq!(slot_of(&format!("p:{{{}}}:x", tag_of(slot))), slot);
        }
    }
}
