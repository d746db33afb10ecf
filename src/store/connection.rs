//! How the store reaches Redis: one server, servers that Sentinels watch, or a Cluster; a pool for verbs, connections of
//! their own for those who must not wait, a deadline for everything.
//!
//! A connection on which something failed or took too long is dropped, never pooled again: what is still on its way could
//! otherwise answer somebody else, and a server that has become read-only would be asked again and again. Every connection
//! is asked for its role before it is used, and after a failure it is found out anew who the primary is.
//!
//! Where acknowledgements of replicas are asked for, every script waits for them before its outcome counts, on the same
//! connection. Scripts that have written nothing wait as well: a verb that is refused because of what is stored should be
//! refused by the primary, not by one that was replaced.

mod address;
mod call;
mod discovery;
mod node;
mod primaries;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::PoolError;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, Script, ServerErrorKind};

use self::address::Access;
pub(super) use self::call::{Call, read};
pub(super) use self::node::Node;
use self::primaries::Primaries;
pub(super) use self::primaries::slot_of;
use super::{Keyspace, Unfit};
use crate::config::RedisAddress;

/// The longest that one operation on Redis may take.
pub const DEADLINE: Duration = Duration::from_millis(250);

/// How often an operation follows a Cluster that is moving its keys; for a second at most.
const MOVES: usize = 90;

/// How long it waits where a Cluster says that it should try again.
const AGAIN: Duration = Duration::from_millis(10);

/// The store could not answer: it cannot be reached, is too slow, refuses writes, or answers what it should not.
///
/// Its text is for logs. It is never shown to a client.
#[derive(Debug)]
pub struct StoreError(Cause);

#[derive(Debug)]
enum Cause {
    Deadline,
    Pool(PoolError),
    Redis(RedisError),
    Refused(String),
    Unacknowledged { by: u32, wanted: u32 },
}

impl StoreError {
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self(Cause::Refused(why.into()))
    }

    /// A server that must not be used.
    #[must_use]
    pub fn unfit(why: &Unfit) -> Self {
        Self::refused(why.to_string())
    }

    /// Nothing vouches for the primary: it may have been replaced.
    #[must_use]
    pub fn no_lease(wanted: u32) -> Self {
        Self::refused(format!(
            "the primary may have been replaced: no beat was acknowledged by {wanted} replicas lately"
        ))
    }

    pub(super) fn unexpected(what: &'static str) -> Self {
        Self(Cause::Refused(format!("unexpected answer: {what}")))
    }

    fn late() -> Self {
        Self(Cause::Deadline)
    }

    /// Where a Cluster wants this to be asked, if that is all that is wrong.
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
            Cause::Deadline => write!(f, "no answer within {} ms", DEADLINE.as_millis()),
            Cause::Pool(error) => error.fmt(f),
            Cause::Redis(error) => error.fmt(f),
            Cause::Refused(why) => f.write_str(why),
            Cause::Unacknowledged { by, wanted } => {
                write!(f, "acknowledged by {by} replicas, {wanted} are wanted")
            }
        }
    }
}

impl std::error::Error for StoreError {}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        Self(Cause::Redis(error))
    }
}

/// What a server of a Cluster answers that does not serve a key, or not alone.
enum Redirection {
    /// The slot is served there.
    Moved(String),
    /// The slot is on its way there, and this key has arrived.
    Ask(String),
    /// Some keys have arrived and some have not.
    TryAgain,
}

/// A Redis, and the keys in it. Clones share its connections.
#[derive(Clone)]
pub struct Redis {
    primaries: Arc<Primaries>,
    acknowledgements: u32,
    keys: Keyspace,
}

/// Shows no address: it may hold a password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// A shard as others tell of it: of all there are, or the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSeen {
    /// Where its primary is.
    pub primary: String,
    /// How many replicas it has, where those who choose the primary know it.
    pub replicas: Option<u32>,
}

impl Redis {
    /// Prepares connections to the servers at `address`; none is made yet.
    ///
    /// # Errors
    /// A sentence, without the address, where it is not of a known form.
    pub fn new(address: &RedisAddress, keys: Keyspace) -> Result<Self, StoreError> {
        let (access, topology) = Access::parse(address)?;
        Ok(Self {
            primaries: Arc::new(Primaries::new(access, topology)?),
            acknowledgements: address.acknowledgements,
            keys,
        })
    }

    /// How many replicas must have taken what is acknowledged.
    #[must_use]
    pub fn acknowledgements(&self) -> u32 {
        self.acknowledgements
    }

    /// Whether others choose the primary: Sentinels, or a Cluster.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.primaries.are_chosen()
    }

    /// All shards.
    ///
    /// # Errors
    /// Where nobody who knows answers.
    pub async fn shards(&self) -> Result<Vec<ShardSeen>, StoreError> {
        let shards = self.primaries.all().await?.into_iter();
        Ok(shards
            .map(|(shard, node)| ShardSeen {
                primary: node.address.clone(),
                replicas: shard.replicas,
            })
            .collect())
    }

    /// The keys.
    #[must_use]
    pub(super) fn keys(&self) -> &Keyspace {
        &self.keys
    }

    /// The primary of a key.
    pub(super) async fn primary(&self, key: &str) -> Result<Arc<Node>, StoreError> {
        let found = self.primaries.of(slot_of(key));
        tokio::time::timeout(DEADLINE * 2, found)
            .await
            .unwrap_or_else(|_| Err(StoreError::late()))
    }

    /// The primaries of all shards, always in the same order as long as no slot is moved.
    pub(super) async fn all_primaries(&self) -> Result<Vec<Arc<Node>>, StoreError> {
        let shards = tokio::time::timeout(DEADLINE * 2, self.primaries.all());
        let shards = shards.await.unwrap_or_else(|_| Err(StoreError::late()))?;
        Ok(shards.into_iter().map(|(_, node)| node).collect())
    }

    /// The numbers of these keys by the server that has them, as far as is known.
    pub(super) async fn by_primary(&self, keys: &[&str]) -> Result<Vec<Vec<usize>>, StoreError> {
        if !self.primaries.are_many() {
            return Ok(vec![(0..keys.len()).collect()]);
        }
        let mut groups: Vec<(Arc<Node>, Vec<usize>)> = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            let node = self.primary(key).await?;
            match groups.iter_mut().find(|(of, _)| Arc::ptr_eq(of, &node)) {
                Some((_, numbers)) => numbers.push(number),
                None => groups.push((node, vec![number])),
            }
        }
        Ok(groups.into_iter().map(|(_, numbers)| numbers).collect())
    }

    /// A server has answered as no primary does: it is found out anew who is.
    pub(super) fn doubt(&self) {
        self.primaries.doubt();
    }

    /// Asks the primary of `key` something.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        key: &str,
        question: &redis::Cmd,
    ) -> Result<T, StoreError> {
        let mut call = Call::default();
        call.commands.add_command(question.clone());
        read(self.run(key, &call).await?)
    }

    /// Runs a script on the primary of its keys, and waits until as many replicas as are wanted have what it wrote.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<T, StoreError> {
        let key = keys.first().map_or("", String::as_str);
        let call = Call::script(script, keys, args).acknowledged_by(self.acknowledgements);
        read(self.run(key, &call).await?)
    }

    /// Runs commands on the primary of `key`, after these scripts are loaded where they are not, and waits as
    /// [`script`](Self::script) does. Returns an answer for each.
    pub(super) async fn pipeline(
        &self,
        key: &str,
        commands: redis::Pipeline,
        scripts: &[&Script],
    ) -> Result<Vec<redis::Value>, StoreError> {
        let call = Call {
            commands,
            scripts: scripts.iter().map(|&script| script.clone()).collect(),
            wanted: 0,
        };
        self.run(key, &call.acknowledged_by(self.acknowledgements))
            .await
    }

    /// Makes a call on the primary of `key`, on a pooled connection. It is made again where a Cluster says that the key is
    /// elsewhere: nothing has happened then.
    async fn run(&self, key: &str, call: &Call) -> Result<Vec<redis::Value>, StoreError> {
        let mut node = self.primary(key).await?;
        let mut asking = false;
        for left in (0..MOVES).rev() {
            let error = match attempt(&node, asking, call).await {
                Ok(answers) => return Ok(answers),
                Err(error) => error,
            };
            let redirection = error.redirection();
            if redirection.is_none() || left == 0 {
                self.doubt();
                return Err(error);
            }
            match redirection {
                Some(Redirection::Moved(address)) => {
                    self.doubt();
                    (node, asking) = (self.primaries.named(&address)?, false);
                }
                Some(Redirection::Ask(address)) => {
                    (node, asking) = (self.primaries.named(&address)?, true);
                }
                Some(Redirection::TryAgain) | None => {
                    tokio::time::sleep(AGAIN).await;
                    (node, asking) = (self.primary(key).await?, false);
                }
            }
        }
        Err(StoreError::late())
    }
}

/// One attempt on one server.
async fn attempt(node: &Node, asking: bool, call: &Call) -> Result<Vec<redis::Value>, StoreError> {
    // Two deadlines: on a slow network the checks of a pooled connection take as long as the operation itself.
    let mut borrowed = node.borrow().await?;
    let connection = borrowed.connection()?;
    let answers = within(DEADLINE, async {
        if asking {
            let () = redis::cmd("ASKING").query_async(connection).await?;
        }
        call.make(connection).await
    })
    .await?;
    borrowed.give_back();
    Ok(answers)
}

/// Runs a script, loading it where the server does not have it.
pub(super) async fn invoke<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    script: &Script,
    keys: &[String],
    args: &[String],
) -> RedisResult<T> {
    let mut call = script.prepare_invoke();
    for key in keys {
        call.key(key);
    }
    for arg in args {
        call.arg(arg);
    }
    call.invoke_async(connection).await
}

/// Makes sure that the server has these scripts, in one round trip.
pub(super) async fn load(
    connection: &mut MultiplexedConnection,
    scripts: &[&Script],
) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    for script in scripts {
        pipeline.load_script(script).ignore();
    }
    pipeline.query_async(connection).await
}

/// Holds one operation to a deadline.
pub(super) async fn within<T, E: Into<StoreError>>(
    deadline: Duration,
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(deadline, operation).await {
        Ok(outcome) => outcome.map_err(E::into),
        Err(_) => Err(StoreError::late()),
    }
}
