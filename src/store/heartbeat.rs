//! Heartbeat: a write that the replicas of Redis must acknowledge, which shows that the primary has not been replaced.
//! `auth::revocation` derives leases from it.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use redis::aio::MultiplexedConnection;

use super::connection::{Pipeline, Redis, StoreError, parse_reply, within};
use super::feed::HistoryId;

/// Timeout of a heartbeat. It differs from that of operations because a heartbeat waits for replicas, and no request
/// waits for it.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(350);

/// Lifetime of the key, which is never read.
const KEY_TTL: Duration = Duration::from_mins(1);

static HEARTBEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_heartbeat.lua")));

/// Dedicated connection to the primary of the feed: waiting for replicas delays all commands behind it. After any
/// error, drop it and connect again.
pub struct Heartbeats {
    connection: MultiplexedConnection,
    redis: Redis,
}

impl Redis {
    /// Opens a connection for heartbeats.
    ///
    /// # Errors
    /// If no server can be reached in time.
    pub async fn open_heartbeats(&self) -> Result<Heartbeats, StoreError> {
        let primary = self.primary(&self.keys().heartbeat()).await?;
        let connection = primary
            .connect()
            .await
            .inspect_err(|_| self.invalidate_topology())?;
        Ok(Heartbeats {
            connection,
            redis: self.clone(),
        })
    }
}

impl Heartbeats {
    /// Writes a heartbeat and waits for the replicas. Returns the history that they confirm.
    ///
    /// # Errors
    /// If too few replicas acknowledge it in time, or the store cannot answer.
    pub async fn heartbeat(&mut self) -> Result<HistoryId, StoreError> {
        let keys = [self.redis.keys().heartbeat()];
        let args = [KEY_TTL.as_millis().to_string()];
        let pipeline = Pipeline::script(&HEARTBEAT, &keys, &args);
        let pipeline = pipeline.wait_for_replicas(self.redis.acknowledgements());
        let made = within(HEARTBEAT_TIMEOUT, pipeline.execute(&mut self.connection)).await;
        let answers = made.inspect_err(|_| self.redis.invalidate_topology())?;
        let (role, run_id, replication_id): (String, String, String) = parse_reply(answers)?;
        if role != "master" {
            self.redis.invalidate_topology();
            return Err(StoreError::refused("the server is not a primary"));
        }
        Ok(HistoryId::new(run_id, replication_id))
    }
}
