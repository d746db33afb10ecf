//! Connections to Redis: one server, servers behind Sentinels, or a Cluster. Operations share a pool, consumers that
//! must not wait have dedicated connections, and every operation has a deadline.
//!
//! A connection on which an operation failed or timed out is dropped, never pooled again: a late reply could otherwise
//! answer another request, and a server that has become read-only would be asked again and again. Every connection is
//! asked for its role before it is used, and after a failure the primary is looked up again.
//!
//! If acknowledgements of replicas are required, every script waits for them on the same connection before its outcome
//! counts. Scripts that have written nothing wait as well: an operation that is refused because of stored data should
//! be refused by the primary, not by a server that was replaced.

mod address;
mod discovery;
mod node;
mod pipeline;
mod topology;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::PoolError;
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, Script, ServerErrorKind};
use tracing::Instrument;

use self::address::Connector;
pub(super) use self::node::Node;
pub(super) use self::pipeline::{Pipeline, evalsha, parse_reply};
use self::topology::{Topology, slot_of};
use super::canary::LOST_TRANSACTIONS;
use super::{Keyspace, UnsupportedServer};
use crate::config::RedisAddress;

/// Timeout of one operation on Redis.
pub const DEADLINE: Duration = Duration::from_millis(250);

/// Maximum number of redirections that an operation follows while a Cluster moves its keys; they take a second at most.
const MAX_REDIRECTS: usize = 90;

/// Maximum number of concurrent commands when each is routed by its own key.
const MAX_CONCURRENT: usize = 16;

/// Delay before a retry that a Cluster asks for (`TRYAGAIN`).
const TRY_AGAIN_DELAY: Duration = Duration::from_millis(10);

/// Failure of the store: Redis cannot be reached, is too slow, refuses writes, or sends an unexpected reply.
///
/// The text is for logs, and is never shown to a client.
#[derive(Debug)]
pub struct StoreError(Cause);

#[derive(Debug)]
enum Cause {
    Timeout,
    Pool(PoolError),
    Redis(RedisError),
    Refused(String),
    Unacknowledged { by: u32, wanted: u32 },
    LostTransactions,
}

impl StoreError {
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self(Cause::Refused(why.into()))
    }

    /// Creates the error for a server that must not be used.
    #[must_use]
    pub fn unsupported(why: &UnsupportedServer) -> Self {
        Self::refused(why.to_string())
    }

    /// Creates the error for a primary without a lease, which may have been replaced.
    #[must_use]
    pub fn no_lease(wanted: u32) -> Self {
        Self::refused(format!(
            "the primary may have been replaced: no heartbeat was acknowledged by {wanted} replicas lately"
        ))
    }

    /// Creates the error for a server whose restart has lost the writes of scripts.
    pub(super) fn lost_transactions() -> Self {
        Self(Cause::LostTransactions)
    }

    pub(super) fn unexpected(what: &'static str) -> Self {
        Self(Cause::Refused(format!("unexpected answer: {what}")))
    }

    fn timed_out() -> Self {
        Self(Cause::Timeout)
    }

    /// Returns the redirection of a Cluster, if this error is one.
    fn redirection(&self) -> Option<Redirection> {
        let Cause::Redis(error) = &self.0 else {
            return None;
        };
        let node = || error.redirect_node().map(|(address, _)| address.to_owned());
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => node().map(Redirection::Moved),
            ErrorKind::Server(ServerErrorKind::Ask) => node().map(Redirection::Ask),
            ErrorKind::Server(ServerErrorKind::TryAgain) => Some(Redirection::TryAgain),
            _ => None,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Timeout => write!(f, "no answer within {} ms", DEADLINE.as_millis()),
            Cause::Pool(error) => error.fmt(f),
            Cause::Redis(error) => error.fmt(f),
            Cause::Refused(why) => f.write_str(why),
            Cause::Unacknowledged { by, wanted } => {
                write!(f, "acknowledged by {by} replicas, {wanted} are required")
            }
            Cause::LostTransactions => f.write_str(LOST_TRANSACTIONS),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        Self(Cause::Redis(error))
    }
}

/// Redirection by a server of a Cluster that does not serve a key, or not alone.
enum Redirection {
    /// Another server serves the slot.
    Moved(String),
    /// The slot is moving to another server, and this key has arrived there.
    Ask(String),
    /// Some keys have arrived and some have not.
    TryAgain,
}

/// Store in Redis. Clones share its connections.
#[derive(Clone)]
pub struct Redis {
    topology: Arc<Topology>,
    acknowledgements: u32,
    keys: Keyspace,
}

/// Shows no address, because it may hold a password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// Shard as Sentinels or a Cluster report it, or the only server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSeen {
    /// Address of the primary.
    pub primary: String,
    /// Number of replicas, if Sentinels or the Cluster report it.
    pub replicas: Option<u32>,
}

impl Redis {
    /// Prepares connections to the servers at `address`, and opens none yet.
    ///
    /// # Errors
    /// A sentence, without the address, if the address has no known form.
    pub fn new(address: &RedisAddress, keys: Keyspace) -> Result<Self, StoreError> {
        let (connector, discovery) = Connector::parse(address)?;
        Ok(Self {
            topology: Arc::new(Topology::new(connector, discovery, keys.clone())?),
            acknowledgements: address.acknowledgements,
            keys,
        })
    }

    /// Returns the number of replicas that must have a write before it is acknowledged.
    #[must_use]
    pub fn acknowledgements(&self) -> u32 {
        self.acknowledgements
    }

    /// Returns all shards.
    ///
    /// # Errors
    /// If neither a Sentinel nor a server of the Cluster answers.
    pub async fn shards(&self) -> Result<Vec<ShardSeen>, StoreError> {
        let shards = within_lookup_timeout(self.topology.all())
            .await?
            .into_iter();
        Ok(shards
            .map(|(shard, node)| ShardSeen {
                primary: node.address.clone(),
                replicas: shard.replicas,
            })
            .collect())
    }

    /// Returns the builder of key names.
    #[must_use]
    pub(super) fn keys(&self) -> &Keyspace {
        &self.keys
    }

    /// Returns the primary of a key.
    pub(super) async fn primary(&self, key: &str) -> Result<Arc<Node>, StoreError> {
        within_lookup_timeout(self.topology.primary_of(slot_of(key))).await
    }

    /// Returns the primaries of all shards, in a stable order as long as no slot is moved.
    pub(super) async fn all_primaries(&self) -> Result<Vec<Arc<Node>>, StoreError> {
        let shards = within_lookup_timeout(self.topology.all()).await?;
        Ok(shards.into_iter().map(|(_, node)| node).collect())
    }

    /// Returns the numbers of pooled connections to all primaries: in use, and idle.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        self.topology.connections()
    }

    /// Returns the reason not to use the data of a server, if there is one: a restart has lost the writes of scripts.
    #[must_use]
    pub fn damage(&self) -> Option<&'static str> {
        let lost = self.topology.has_lost_transactions();
        lost.then_some(LOST_TRANSACTIONS)
    }

    /// Compares the canary of each primary, and writes it again if no other replica does.
    ///
    /// # Errors
    /// If a server cannot be asked, or has lost transactions; the other servers were checked nevertheless.
    pub async fn renew_canaries(&self) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for node in self.all_primaries().await? {
            let renewed = async {
                let mut pooled = node.acquire().await?;
                let connection = pooled.connection()?;
                within(DEADLINE * 2, node.canary.renew(connection)).await?;
                pooled.release();
                Ok(())
            };
            outcome = renewed.await.and(outcome);
        }
        outcome
    }

    /// Marks the topology as stale after a server answered as no primary does: the next use looks it up again.
    pub(super) fn invalidate_topology(&self) {
        self.topology.invalidate();
    }

    /// Runs a read command on the primary of `key`.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        key: &str,
        question: &redis::Cmd,
    ) -> Result<T, StoreError> {
        let pipeline = Pipeline::new([question.clone()], None);
        parse_reply(self.run(key, &pipeline).await?)
    }

    /// Runs a script on the primary of its keys, and waits until the required number of replicas has its writes.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<T, StoreError> {
        let key = keys.first().map_or("", String::as_str);
        let pipeline =
            Pipeline::script(script, keys, args).wait_for_replicas(self.acknowledgements);
        parse_reply(self.run(key, &pipeline).await?)
    }

    /// Runs commands, each on the primary of its key, loads the script if a server lacks it, and waits as
    /// [`script`](Self::script) does. Returns the replies in the order of the commands.
    ///
    /// One pipeline if there is one primary. In a Cluster each command is sent by itself, because each may be
    /// redirected.
    pub(super) async fn run_by_slot(
        &self,
        commands: Vec<(&str, redis::Cmd)>,
        script: Option<&Script>,
    ) -> Result<Vec<redis::Value>, StoreError> {
        if self.topology.is_cluster() {
            let mut answers = Vec::with_capacity(commands.len());
            for some in commands.chunks(MAX_CONCURRENT) {
                let each = some
                    .iter()
                    .map(|(key, command)| self.run_one(key, command, script));
                answers.extend(try_join_all(each).await?);
            }
            return Ok(answers);
        }
        let Some((key, _)) = commands.first() else {
            return Ok(Vec::new());
        };
        let key = *key;
        let pipeline = Pipeline::new(commands.into_iter().map(|(_, command)| command), script);
        self.run(key, &pipeline.wait_for_replicas(self.acknowledgements))
            .await
    }

    /// Runs a command on the primary of its key, as [`run_by_slot`](Self::run_by_slot) does.
    async fn run_one(
        &self,
        key: &str,
        command: &redis::Cmd,
        script: Option<&Script>,
    ) -> Result<redis::Value, StoreError> {
        let pipeline =
            Pipeline::new([command.clone()], script).wait_for_replicas(self.acknowledgements);
        parse_reply(self.run(key, &pipeline).await?)
    }

    /// Runs a call on the primary of `key`, on a pooled connection. The call is repeated if a Cluster redirects it:
    /// nothing has happened then, because in a Cluster a call is one command.
    async fn run(&self, key: &str, pipeline: &Pipeline) -> Result<Vec<redis::Value>, StoreError> {
        let span = pipeline.span();
        let answers = self.run_on(key, pipeline).instrument(span.clone()).await;
        if answers.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        answers
    }

    async fn run_on(
        &self,
        key: &str,
        pipeline: &Pipeline,
    ) -> Result<Vec<redis::Value>, StoreError> {
        let mut node = self.primary(key).await?;
        let mut asking = false;
        for left in (0..MAX_REDIRECTS).rev() {
            let error = match attempt(&node, asking, pipeline).await {
                Ok(answers) => return Ok(answers),
                Err(error) => error,
            };
            let redirection = error.redirection();
            if redirection.is_none() || left == 0 {
                self.invalidate_topology();
                return Err(error);
            }
            match redirection {
                Some(Redirection::Moved(address)) => {
                    self.invalidate_topology();
                    (node, asking) = (self.topology.node_at(&address)?, false);
                }
                Some(Redirection::Ask(address)) => {
                    (node, asking) = (self.topology.node_at(&address)?, true);
                }
                Some(Redirection::TryAgain) | None => {
                    tokio::time::sleep(TRY_AGAIN_DELAY).await;
                    (node, asking) = (self.primary(key).await?, false);
                }
            }
        }
        Err(StoreError::timed_out())
    }
}

/// Runs a call once on one server.
async fn attempt(
    node: &Node,
    asking: bool,
    pipeline: &Pipeline,
) -> Result<Vec<redis::Value>, StoreError> {
    // Two timeouts: on a slow network the checks of a pooled connection take as long as the operation itself.
    let mut pooled = node.acquire().await?;
    let connection = pooled.connection()?;
    let answers = within(DEADLINE, async {
        if asking {
            let () = redis::cmd("ASKING").query_async(connection).await?;
        }
        pipeline.execute(connection).await
    })
    .await?;
    pooled.release();
    Ok(answers)
}

/// Loads scripts into the server, in one round trip.
pub(super) async fn load_scripts(
    connection: &mut MultiplexedConnection,
    scripts: &[&Script],
) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    for script in scripts {
        pipeline.load_script(script).ignore();
    }
    pipeline.query_async(connection).await
}

/// Bounds a lookup of the primary by two timeouts, because it may have to wait for another caller's lookup.
async fn within_lookup_timeout<T>(
    found: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    within(DEADLINE * 2, found).await
}

/// Bounds an operation by a deadline.
pub(super) async fn within<T, E: Into<StoreError>>(
    deadline: Duration,
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(deadline, operation).await {
        Ok(outcome) => outcome.map_err(E::into),
        Err(_) => Err(StoreError::timed_out()),
    }
}
