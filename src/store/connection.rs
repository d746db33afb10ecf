//! How the store reaches Redis: a pool for verbs, connections of their own for those who must not wait, a deadline for
//! everything.
//!
//! A connection on which something failed or took too long is dropped, never pooled again: what is still on its way could
//! otherwise answer somebody else, and a server that has become read-only would be asked again and again. Every connection
//! is asked for its role before it is used.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use deadpool_redis::{Connection, Hook, HookError, Manager, Pool, PoolError, Runtime};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisError, RedisResult, Script};

use super::{Keyspace, Unfit};

/// The longest that one operation on Redis may take.
pub const DEADLINE: Duration = Duration::from_millis(250);

/// Connections kept for verbs; hashing passwords bounds how many are ever useful.
const POOL_SIZE: usize = 32;

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

    pub(super) fn unexpected(what: &'static str) -> Self {
        Self(Cause::Refused(format!("unexpected answer: {what}")))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Deadline => write!(f, "no answer within {} ms", DEADLINE.as_millis()),
            Cause::Pool(error) => error.fmt(f),
            Cause::Redis(error) => error.fmt(f),
            Cause::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        Self(Cause::Redis(error))
    }
}

/// One Redis, and the keys in it. Clones share its connections.
#[derive(Clone)]
pub struct Redis {
    client: Client,
    pool: Pool,
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

impl Redis {
    /// Prepares connections to the server at `url`; none is made yet.
    ///
    /// # Errors
    /// A sentence, without the URL, where it is not of a known form.
    pub fn new(url: &str, keys: Keyspace) -> Result<Self, StoreError> {
        let bad_url = |_| {
            StoreError::refused(
                "REDIS_URL: must be like redis://user:password@host:6379/0 or unix:///path",
            )
        };
        let client = Client::open(url).map_err(bad_url)?;
        let manager = Manager::new_with_config(url, connection_config()).map_err(bad_url)?;
        let pool = Pool::builder(manager)
            .max_size(POOL_SIZE)
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(|connection, _| {
                Box::pin(async { demand_primary(connection).await.map_err(HookError::Backend) })
            }))
            .pre_recycle(Hook::async_fn(|connection, _| {
                Box::pin(async { demand_primary(connection).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(|_| StoreError::refused("the pool of connections cannot be made"))?;
        Ok(Self { client, pool, keys })
    }

    /// The keys.
    #[must_use]
    pub(super) fn keys(&self) -> &Keyspace {
        &self.keys
    }

    /// A connection outside the pool, for one who must not wait behind others and asks for the server's role himself.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, StoreError> {
        let config = connection_config();
        within(
            self.client
                .get_multiplexed_async_connection_with_config(&config),
        )
        .await
    }

    /// Runs one operation on a pooled connection.
    pub(super) async fn run<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        F: AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    {
        // Two deadlines: on a slow network the checks of a pooled connection take as long as the operation itself.
        let pooled = self.pool.get();
        let pooled = tokio::time::timeout(DEADLINE, pooled)
            .await
            .map_err(|_| StoreError(Cause::Deadline))?;
        let mut lease = Lease(Some(
            pooled.map_err(|error| StoreError(Cause::Pool(error)))?,
        ));
        let connection = lease.0.as_mut().ok_or(StoreError(Cause::Deadline))?;
        let answer = within(operation(connection)).await?;
        drop(lease.0.take());
        Ok(answer)
    }

    /// Runs a script on a pooled connection.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<T, StoreError> {
        self.run(async |connection| invoke(connection, script, keys, args).await)
            .await
    }
}

/// A pooled connection while it is used. It goes back to the pool only where it has answered well; dropped with anything
/// else, also by a deadline, it is closed.
struct Lease(Option<Connection>);

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Connection::take(connection));
        }
    }
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

/// Holds one operation to the deadline.
pub(super) async fn within<T>(
    operation: impl Future<Output = RedisResult<T>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(DEADLINE, operation).await {
        Ok(outcome) => outcome.map_err(StoreError::from),
        Err(_) => Err(StoreError(Cause::Deadline)),
    }
}

/// Our deadlines hold for everything; the client's own would only race with them.
fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(DEADLINE))
        .set_response_timeout(None)
}

/// Fails unless the server takes writes. A demoted primary answers reads as if nothing had happened.
async fn demand_primary(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let role: redis::Value = redis::cmd("ROLE").query_async(connection).await?;
    let is_primary = match &role {
        redis::Value::Array(parts) => match parts.first() {
            Some(redis::Value::BulkString(name)) => name == b"master",
            _ => false,
        },
        _ => false,
    };
    if is_primary {
        Ok(())
    } else {
        Err((redis::ErrorKind::Client, "the server is not a primary").into())
    }
}
