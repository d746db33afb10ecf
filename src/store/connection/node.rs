//! Redis server and the connections to it.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::{Connection, Hook, HookError, Manager, Pool, Runtime};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};

use super::{Cause, DEADLINE, StoreError, within};
use crate::store::canary::Canary;

/// Maximum number of pooled connections to a server; the threads that hash passwords bound the useful number.
const MAX_POOL_SIZE: usize = 32;

/// Server that was a primary at the last lookup.
pub(in crate::store) struct Node {
    /// Host and port, for logs.
    pub(in crate::store) address: String,
    client: Client,
    pool: Pool,
    pub(in crate::store) canary: Arc<Canary>,
}

impl Node {
    /// Prepares connections, and opens none yet.
    pub(super) fn new(client: Client, canary: Canary) -> Result<Self, StoreError> {
        let cannot = |_| StoreError::refused("the pool of connections cannot be made");
        let info = client.get_connection_info().clone();
        let address = info.addr().to_string();
        let manager = Manager::new_with_config(info, connection_config()).map_err(cannot)?;
        let canary = Arc::new(canary);
        let compared = Arc::clone(&canary);
        let pool = Pool::builder(manager)
            .max_size(MAX_POOL_SIZE)
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(
                move |connection: &mut MultiplexedConnection, _| {
                    let canary = Arc::clone(&compared);
                    Box::pin(async move {
                        let ensured = ensure_usable(connection, &canary).await;
                        ensured.map_err(|error| HookError::Message(error.to_string().into()))
                    })
                },
            ))
            .pre_recycle(Hook::async_fn(|connection, _| {
                Box::pin(async { ensure_primary(connection).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(|_| StoreError::refused("the pool of connections cannot be made"))?;
        Ok(Self {
            address,
            client,
            pool,
            canary,
        })
    }

    /// Opens a connection outside the pool, for a caller that must not wait behind others and checks the role of the
    /// server itself.
    pub(in crate::store) async fn connect(&self) -> Result<MultiplexedConnection, StoreError> {
        let mut connection = connect(&self.client).await?;
        within(DEADLINE, ensure_usable(&mut connection, &self.canary)).await?;
        Ok(connection)
    }

    /// Returns the numbers of pooled connections in use, and idle.
    pub(super) fn connections(&self) -> (usize, usize) {
        let status = self.pool.status();
        let idle = status.available.min(status.size);
        (status.size - idle, idle)
    }

    /// Takes a connection from the pool, to a server that is a primary.
    pub(super) async fn acquire(&self) -> Result<PooledConnection, StoreError> {
        let pooled = tokio::time::timeout(DEADLINE, self.pool.get())
            .await
            .map_err(|_| StoreError(Cause::Timeout))?;
        let pooled = pooled.map_err(|error| {
            if self.canary.has_lost_transactions() {
                StoreError::lost_transactions()
            } else {
                StoreError(Cause::Pool(error))
            }
        })?;
        Ok(PooledConnection(Some(pooled)))
    }
}

/// Pooled connection in use. It returns to the pool only after [`release`](Self::release); dropped otherwise, also
/// by a timeout, it is closed.
pub(super) struct PooledConnection(Option<Connection>);

impl PooledConnection {
    /// Returns the connection, until it is released.
    pub(super) fn connection(&mut self) -> Result<&mut MultiplexedConnection, StoreError> {
        match &mut self.0 {
            Some(connection) => Ok(connection),
            None => Err(StoreError(Cause::Timeout)),
        }
    }

    /// Returns the connection to the pool after a good answer.
    pub(super) fn release(mut self) {
        drop(self.0.take());
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Connection::take(connection));
        }
    }
}

/// Opens a dedicated connection.
pub(super) async fn connect(client: &Client) -> Result<MultiplexedConnection, StoreError> {
    let config = connection_config();
    within(
        DEADLINE,
        client.get_multiplexed_async_connection_with_config(&config),
    )
    .await
}

/// Configuration without the client's own response timeout, which would only race with our deadlines.
fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(DEADLINE))
        .set_response_timeout(None::<Duration>)
}

/// Fails unless the server takes writes and has the writes of scripts, in one round trip. A restart ends every
/// connection, so this check comes before every use of a server that has lost data.
async fn ensure_usable(
    connection: &mut MultiplexedConnection,
    canary: &Canary,
) -> Result<(), StoreError> {
    let mut questions = redis::pipe();
    questions.cmd("ROLE");
    canary.ask(&mut questions);
    let mut answers: Vec<RedisResult<redis::Value>> =
        questions.ignore_errors().query_async(connection).await?;
    let rest = answers.split_off(1);
    let role = answers.pop().ok_or(StoreError::unexpected("ROLE"))?;
    check_role(&role?)?;
    canary.check(rest)
}

/// Fails unless the server takes writes. A demoted primary still answers reads as if nothing had happened.
async fn ensure_primary(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let role: redis::Value = redis::cmd("ROLE").query_async(connection).await?;
    check_role(&role)
}

fn check_role(role: &redis::Value) -> RedisResult<()> {
    let is_primary = match role {
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
