//! A light replica: the product's own feed consumer and revocations, without a server around them.

use std::sync::Arc;
use std::time::Duration;

use portcullis::auth::revocation::view::Phase;
use portcullis::auth::revocation::{Revocations, TokenStatus};
use portcullis::config::{Config, RedisServer, RevocationConfig};
use portcullis::domain::{
    AccessClaims, Clock, SessionId, Timestamp, TokenId, UserId, UserTag, Username,
};
use portcullis::store::{Entry, Keyspace, Redis as Store, SessionEntry};
use tokio_util::sync::CancellationToken;

use super::config;

/// Consumer of the feed at `url`. It stops with the test.
pub struct Light {
    pub revocations: Arc<Revocations>,
    pub store: Store,
    stop: CancellationToken,
}

impl Light {
    /// Starts to consume the feed; its view may not be fresh yet.
    pub fn follow(url: &str) -> Self {
        let config = RevocationConfig {
            window: Duration::from_millis(50),
            stale_if_error: Duration::ZERO,
            readiness_grace: Duration::from_secs(10),
            alone: false,
        };
        let store = store(url);
        let (revocations, following) = Revocations::new(store.clone(), config, Clock::machine());
        let stop = CancellationToken::new();
        tokio::spawn(following.run(stop.clone()));
        Self {
            revocations: Arc::new(revocations),
            store,
            stop,
        }
    }

    /// Waits until its view is fresh.
    pub async fn fresh(&self) {
        for _ in 0..3000 {
            if self.revocations.phase() == Phase::Fresh {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never fresh: {:?}", self.revocations.phase());
    }

    /// Waits until it has read `entries` entries.
    pub async fn knows(&self, entries: usize) {
        for _ in 0..3000 {
            if self.revocations.entries() >= entries {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "it knows {} of {entries} entries",
            self.revocations.entries()
        );
    }

    /// Returns true if it refuses the session's tokens; `None` if its view is not fresh enough to decide.
    pub async fn refuses(&self, sid: SessionId) -> Option<bool> {
        let status = self
            .revocations
            .token_status(sid, UserId::new(), u64::MAX - 1)
            .await;
        status.ok().map(|status| status == TokenStatus::Revoked)
    }
}

impl Drop for Light {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Store of the product at `url`.
pub fn store(url: &str) -> Store {
    store_of(&config(url))
}

/// Store of the product with these settings.
pub fn store_of(config: &Config) -> Store {
    let RedisServer::At(address) = &config.redis.server else {
        panic!("a private Redis is nobody else's");
    };
    Store::new(address, Keyspace::new(config.redis.prefix.clone())).unwrap()
}

/// Creates an entry that revokes an unused session ID, for `lifetime` from now.
pub fn entry(lifetime: Duration) -> SessionEntry {
    let until = Clock::machine().now().plus(lifetime);
    SessionEntry {
        tag: UserTag::from_bits(7),
        sid: SessionId::random(),
        until,
    }
}

/// Appends entries for `count` sessions and returns their IDs.
pub async fn revoke_many(store: &Store, count: usize) -> Vec<SessionId> {
    let entries: Vec<_> = (0..count).map(|_| entry(Duration::from_mins(30))).collect();
    for batch in entries.chunks(1000) {
        let batch: Vec<_> = batch.iter().copied().map(Entry::Session).collect();
        store.append(&batch).await.unwrap();
    }
    entries.into_iter().map(|entry| entry.sid).collect()
}

/// Claims of a token that was issued to `username` for an hour.
pub fn claims(username: &str, user: UserId, sid: SessionId) -> AccessClaims {
    let now = Clock::machine().now();
    AccessClaims {
        iss: "http://localhost:8080".to_owned(),
        sub: user,
        aud: "portcullis".to_owned(),
        client_id: "portcullis".to_owned(),
        exp: now.plus(Duration::from_hours(1)).as_secs(),
        nbf: now.as_secs(),
        iat: now.as_secs(),
        jti: TokenId::random(),
        sid,
        ver: Timestamp::as_millis(now),
        username: username.parse::<Username>().unwrap(),
        roles: Vec::new(),
    }
}
