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
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, Script, ServerErrorKind};
use tracing::Instrument;

use self::address::Access;
pub(super) use self::call::{Call, evaluation, read};
pub(super) use self::node::Node;
use self::primaries::{Primaries, slot_of};
use super::canary::LOST_TRANSACTIONS;
use super::{Keyspace, Unfit};
use crate::config::RedisAddress;

/// The longest that one operation on Redis may take.
pub const DEADLINE: Duration = Duration::from_millis(250);

/// How often an operation follows a Cluster that is moving its keys; for a second at most.
const MOVES: usize = 90;

/// How many commands are under way at once where each goes its own way.
const AT_ONCE: usize = 16;

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
    LostTransactions,
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

    /// A restart of Redis has left out what scripts wrote.
    pub(super) fn lost_transactions() -> Self {
        Self(Cause::LostTransactions)
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
            primaries: Arc::new(Primaries::new(access, topology, keys.clone())?),
            acknowledgements: address.acknowledgements,
            keys,
        })
    }

    /// How many replicas must have taken what is acknowledged.
    #[must_use]
    pub fn acknowledgements(&self) -> u32 {
        self.acknowledgements
    }

    /// All shards.
    ///
    /// # Errors
    /// Where nobody who knows answers.
    pub async fn shards(&self) -> Result<Vec<ShardSeen>, StoreError> {
        let shards = in_time(self.primaries.all()).await?.into_iter();
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
        in_time(self.primaries.of(slot_of(key))).await
    }

    /// The primaries of all shards, always in the same order as long as no slot is moved.
    pub(super) async fn all_primaries(&self) -> Result<Vec<Arc<Node>>, StoreError> {
        let shards = in_time(self.primaries.all()).await?;
        Ok(shards.into_iter().map(|(_, node)| node).collect())
    }

    /// Pooled connections to all primaries together: those in use, and those that wait to be used.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        self.primaries.connections()
    }

    /// Why the data of a server must not be used, if that was found: a restart lost what scripts had written.
    #[must_use]
    pub fn damage(&self) -> Option<&'static str> {
        let lost = self.primaries.has_lost_transactions();
        lost.then_some(LOST_TRANSACTIONS)
    }

    /// Compares the canary of each primary, and writes it anew where no other replica does.
    ///
    /// # Errors
    /// Where a server cannot be asked, or has lost transactions; the others were asked all the same.
    pub async fn renew_canaries(&self) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for node in self.all_primaries().await? {
            let renewed = async {
                let mut borrowed = node.borrow().await?;
                let connection = borrowed.connection()?;
                within(DEADLINE * 2, node.canary.renew(connection)).await?;
                borrowed.give_back();
                Ok(())
            };
            outcome = renewed.await.and(outcome);
        }
        outcome
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
        let call = Call::of([question.clone()], None);
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

    /// Runs commands, each on the primary of its key, after the script is loaded where it is not, and waits as
    /// [`script`](Self::script) does. Returns an answer for each, in their order.
    ///
    /// All together where there is one primary. In a Cluster each goes its own way: it may be sent elsewhere by itself.
    pub(super) async fn each(
        &self,
        commands: Vec<(&str, redis::Cmd)>,
        script: Option<&Script>,
    ) -> Result<Vec<redis::Value>, StoreError> {
        if self.primaries.are_many() {
            let mut answers = Vec::with_capacity(commands.len());
            for some in commands.chunks(AT_ONCE) {
                let each = some
                    .iter()
                    .map(|(key, command)| self.one(key, command, script));
                answers.extend(try_join_all(each).await?);
            }
            return Ok(answers);
        }
        let Some((key, _)) = commands.first() else {
            return Ok(Vec::new());
        };
        let key = *key;
        let call = Call::of(commands.into_iter().map(|(_, command)| command), script);
        self.run(key, &call.acknowledged_by(self.acknowledgements))
            .await
    }

    /// Runs a command on the primary of its key, as [`each`](Self::each) does.
    async fn one(
        &self,
        key: &str,
        command: &redis::Cmd,
        script: Option<&Script>,
    ) -> Result<redis::Value, StoreError> {
        let call = Call::of([command.clone()], script).acknowledged_by(self.acknowledgements);
        read(self.run(key, &call).await?)
    }

    /// Makes a call on the primary of `key`, on a pooled connection. It is made again where a Cluster says that the key is
    /// elsewhere: nothing has happened then, because in a Cluster a call is one command.
    async fn run(&self, key: &str, call: &Call) -> Result<Vec<redis::Value>, StoreError> {
        let span = call.span();
        let answers = self.run_on(key, call).instrument(span.clone()).await;
        if answers.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        answers
    }

    async fn run_on(&self, key: &str, call: &Call) -> Result<Vec<redis::Value>, StoreError> {
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

/// Finding out who is the primary: two deadlines, because whoever asked before may have to be waited for.
async fn in_time<T>(found: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(DEADLINE * 2, found).await
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
