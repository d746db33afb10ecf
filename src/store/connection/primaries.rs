//! Which server is the primary of which keys, at present.
//!
//! What was found out is kept until a server answers that it is not so, or does not answer at all. Then the Sentinels or
//! the Cluster are asked again, by one for all who wait, and not more often than [`PAUSE`]. Whoever they name may be wrong
//! for a moment, in a partition for longer: what keeps a replaced primary from being trusted is the lease, not this.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::StoreError;
use super::address::{Access, Host, Topology};
use super::discovery::{self, Shard};
use super::node::Node;
use crate::domain::{Clock, Uptime};
use crate::store::canary::Canary;
use crate::store::keyspace::Keyspace;

/// The shortest time between two questions to Sentinels or a Cluster.
const PAUSE: Duration = Duration::from_millis(50);

/// The slots of a Cluster: every key is in one of them.
const SLOTS: u16 = 16_384;

/// The hash tag of the feed, which the canary of a single server shares.
const FEED_TAG: &str = "feed";

/// Finds primaries.
pub(super) struct Primaries {
    access: Access,
    topology: Topology,
    keys: Keyspace,
    found: ArcSwapOption<Found>,
    /// When it was last asked, and who may ask.
    asking: Mutex<Option<Uptime>>,
    clock: Clock,
    /// The servers to which there are connections, by their address.
    nodes: std::sync::Mutex<HashMap<Host, Arc<Node>>>,
}

/// What was found out.
struct Found {
    /// In the order of their slots.
    shards: Vec<(Shard, Arc<Node>)>,
    doubted: AtomicBool,
}

impl Found {
    fn of(&self, slot: u16) -> Option<&Arc<Node>> {
        let shard = self
            .shards
            .iter()
            .find(|(shard, _)| shard.slots.iter().any(|slots| slots.contains(&slot)));
        shard.map(|(_, node)| node)
    }

    fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }
}

impl Primaries {
    pub(super) fn new(
        access: Access,
        topology: Topology,
        keys: Keyspace,
    ) -> Result<Self, StoreError> {
        let found = if topology == Topology::One {
            let canary = Canary::new(Some(keys.canary(FEED_TAG)));
            let node = Arc::new(Node::new(access.only()?, canary)?);
            let shard = Shard {
                slots: vec![all_slots()],
                primary: Host(node.address.clone()),
                replicas: None,
            };
            Some(Arc::new(Found {
                shards: vec![(shard, node)],
                doubted: false.into(),
            }))
        } else {
            None
        };
        Ok(Self {
            access,
            topology,
            keys,
            found: ArcSwapOption::new(found),
            asking: Mutex::new(None),
            clock: Clock::machine(),
            nodes: std::sync::Mutex::default(),
        })
    }

    /// Whether keys lie in more than one place.
    pub(super) fn are_many(&self) -> bool {
        matches!(self.topology, Topology::Cluster { .. })
    }

    /// Whether others choose the primary.
    pub(super) fn are_chosen(&self) -> bool {
        self.topology != Topology::One
    }

    /// The primary of a slot.
    pub(super) async fn of(&self, slot: u16) -> Result<Arc<Node>, StoreError> {
        for _ in 0..2 {
            let found = self.present().await?;
            if let Some(node) = found.of(slot) {
                return Ok(Arc::clone(node));
            }
            // A Cluster that is still being joined: its servers are asked again, now and before each later use.
            found.doubted.store(true, Ordering::Relaxed);
        }
        Err(StoreError::refused(
            "no server of the Cluster serves this slot: redis-cli --cluster check HOST:PORT tells which slots lack one",
        ))
    }

    /// If a server was found to have lost what scripts wrote.
    pub(super) fn has_lost_transactions(&self) -> bool {
        let found = self.found.load();
        let shards = found.iter().flat_map(|found| &found.shards);
        shards
            .map(|(_, node)| node)
            .any(|node| node.canary.has_lost_transactions())
    }

    /// All shards, in the order of their slots.
    pub(super) async fn all(&self) -> Result<Vec<(Shard, Arc<Node>)>, StoreError> {
        Ok(self.present().await?.shards.clone())
    }

    /// The server to which another one has sent us.
    pub(super) fn named(&self, address: &str) -> Result<Arc<Node>, StoreError> {
        self.node(&Host(address.to_owned()))
    }

    /// A server that was found does not answer as a primary does: before the next use others are asked again.
    pub(super) fn doubt(&self) {
        if self.are_chosen()
            && let Some(found) = &*self.found.load()
        {
            found.doubted.store(true, Ordering::Relaxed);
        }
    }

    /// What holds at present, asked anew where that is in doubt.
    async fn present(&self) -> Result<Arc<Found>, StoreError> {
        let known = || self.found.load_full();
        if let Some(found) = known()
            && !found.is_doubted()
        {
            return Ok(found);
        }
        let mut asked = self.asking.lock().await;
        let before = known();
        let since = |asked: Uptime| self.clock.uptime().since(asked);
        let lately = asked.is_some_and(|asked| since(asked) < PAUSE);
        if let Some(found) = before.clone()
            && (lately || !found.is_doubted())
        {
            return Ok(found);
        }
        if let Some(asked) = *asked {
            tokio::time::sleep(PAUSE.saturating_sub(since(asked))).await;
        }
        let answer = self.ask(before.as_deref()).await;
        *asked = Some(self.clock.uptime());
        match answer {
            Ok(found) => {
                self.found.store(Some(Arc::clone(&found)));
                Ok(found)
            }
            // Better than nothing; the next one asks again.
            Err(error) => before.ok_or(error),
        }
    }

    async fn ask(&self, before: Option<&Found>) -> Result<Arc<Found>, StoreError> {
        let shards = match &self.topology {
            // It is never in doubt.
            Topology::One => return Err(StoreError::late()),
            Topology::Sentinel { sentinels, name } => {
                let clients = sentinels.iter().map(|host| self.access.sentinel(host));
                let clients: Result<Vec<_>, _> = clients.collect();
                vec![discovery::ask_sentinels(&clients?, name).await?]
            }
            Topology::Cluster { seeds } => {
                let mut hosts = seeds.clone();
                let known = before.into_iter().flat_map(|found| &found.shards);
                hosts.extend(known.map(|(shard, _)| shard.primary.clone()));
                hosts.sort_unstable();
                hosts.dedup();
                let clients = hosts
                    .into_iter()
                    .map(|host| Ok((self.access.server(&host)?, host)));
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
        Ok(Arc::new(Found {
            shards,
            doubted: false.into(),
        }))
    }

    /// Pooled connections in use and idle, of all servers.
    pub(super) fn connections(&self) -> (usize, usize) {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes
            .values()
            .map(|node| node.connections())
            .fold((0, 0), |(used, idle), (more, rest)| {
                (used + more, idle + rest)
            })
    }

    /// Gives a server a canary in one of its slots; all replicas choose the same.
    fn place_canary(&self, node: &Node, shard: &Shard) {
        let slots = |slot: u16| shard.slots.iter().any(|slots| slots.contains(&slot));
        let keys = if self.are_many() {
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
        let node = Arc::new(Node::new(self.access.server(host)?, Canary::default())?);
        nodes.insert(host.clone(), Arc::clone(&node));
        Ok(node)
    }
}

/// All slots there are.
pub(super) fn all_slots() -> RangeInclusive<u16> {
    0..=SLOTS - 1
}

/// The least number whose slot, as a hash tag, is `slot`.
fn tag_of(slot: u16) -> String {
    let mut numbers = (0_u32..).map(|number| number.to_string());
    let tag = numbers.find(|tag| slot_of(tag) == slot);
    tag.unwrap_or_default()
}

/// The slot of a key: CRC-16 (XMODEM) of what stands in its first braces, or of all of it.
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

    /// As `CLUSTER KEYSLOT` of Redis 7.0 answers.
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
