//! The beat: a write that the replicas of Redis must acknowledge, by which a replica of ours knows that the primary has not
//! been replaced. What follows from it is `auth::revocation`'s business.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use redis::aio::MultiplexedConnection;

use super::connection::{Call, Redis, StoreError, read, within};
use super::feed::HistoryId;

/// The longest that a beat may take: its own deadline, because it waits for replicas and nobody waits for it.
const DEADLINE: Duration = Duration::from_millis(350);

/// How long the key lives; nobody reads it.
const LIFETIME: Duration = Duration::from_mins(1);

static BEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/feed_beat.lua")));

/// The beat's own connection to the primary of the feed: waiting for replicas delays everything behind it. Any error spoils
/// it: drop it and connect again.
pub struct Beats {
    connection: MultiplexedConnection,
    redis: Redis,
}

impl Redis {
    /// Opens a connection for beats.
    ///
    /// # Errors
    /// Where no server can be reached within the deadline.
    pub async fn open_beats(&self) -> Result<Beats, StoreError> {
        let primary = self.primary(&self.keys().beat()).await?;
        let connection = primary.connect().await.inspect_err(|_| self.doubt())?;
        Ok(Beats {
            connection,
            redis: self.clone(),
        })
    }
}

impl Beats {
    /// Writes a beat and waits for the replicas. Returns the history that they vouch for.
    ///
    /// # Errors
    /// Where too few replicas acknowledge it in time, or the store cannot answer.
    pub async fn beat(&mut self) -> Result<HistoryId, StoreError> {
        let keys = [self.redis.keys().beat()];
        let args = [LIFETIME.as_millis().to_string()];
        let call = Call::script(&BEAT, &keys, &args);
        let call = call.acknowledged_by(self.redis.acknowledgements());
        let made = within(DEADLINE, call.make(&mut self.connection)).await;
        let answers = made.inspect_err(|_| self.redis.doubt())?;
        let (role, run_id, replication_id): (String, String, String) = read(answers)?;
        if role != "master" {
            self.redis.doubt();
            return Err(StoreError::refused("the server is not a primary"));
        }
        Ok(HistoryId::new(run_id, replication_id))
    }
}
