//! Common parts of the Rust peers: accounts and a denylist in Redis, tokens by jsonwebtoken, passwords by bcrypt on the
//! threads for blocking work, all as their documentation shows it.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use serde::{Deserialize, Serialize};

const HOUR: u64 = 3600;

/// Credentials that a client sends to register and to log in.
#[derive(Deserialize)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

/// Claims of a token.
#[derive(Serialize, Deserialize)]
pub struct Claims {
    pub username: String,
    pub jti: String,
    pub exp: u64,
}

/// Answer of a dashboard.
#[derive(Serialize)]
pub struct Welcome {
    pub message: String,
    pub data: Data,
}

#[derive(Serialize)]
pub struct Data {
    pub username: String,
}

impl Welcome {
    #[must_use]
    pub fn to(username: String) -> Self {
        Self {
            message: format!("Welcome {username}"),
            data: Data { username },
        }
    }
}

/// State that all workers share.
#[derive(Clone)]
pub struct Site {
    redis: ConnectionManager,
    cost: u32,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Site {
    /// Opens the state from the environment.
    ///
    /// # Panics
    /// If a variable or Redis is missing.
    pub async fn open() -> Self {
        let client = redis::Client::open(variable("REDIS_URL")).expect("REDIS_URL");
        let secret = variable("JWT_SECRET");
        Self {
            redis: client.get_connection_manager().await.expect("Redis"),
            cost: variable("BCRYPT_COST").parse().expect("BCRYPT_COST"),
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            validation: Validation::new(Algorithm::HS256),
        }
    }

    /// Registers a user; returns false if the name was taken.
    pub async fn register(&self, user: Credentials) -> redis::RedisResult<bool> {
        let cost = self.cost;
        let hash = blocking(move || bcrypt::hash(user.password, cost).expect("a hash")).await;
        let key = format!("rust:{}", user.username);
        self.redis.clone().set_nx(key, hash).await
    }

    /// Returns a token if name and password are right.
    pub async fn log_in(&self, user: Credentials) -> redis::RedisResult<Option<String>> {
        let key = format!("rust:{}", user.username);
        let Some(hash): Option<String> = self.redis.clone().get(key).await? else {
            return Ok(None);
        };
        let password = user.password;
        let right = blocking(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
        let claims = Claims {
            username: user.username,
            jti: uuid::Uuid::new_v4().to_string(),
            exp: now() + HOUR,
        };
        let token = || encode(&Header::default(), &claims, &self.encoding).expect("a token");
        Ok(right.then(token))
    }

    /// Returns the claims of a valid token that is not on the denylist.
    pub async fn authenticate(&self, header: Option<&str>) -> redis::RedisResult<Option<Claims>> {
        let token = header.and_then(|header| header.strip_prefix("Bearer "));
        let claims =
            token.and_then(|token| decode::<Claims>(token, &self.decoding, &self.validation).ok());
        let Some(claims) = claims.map(|token| token.claims) else {
            return Ok(None);
        };
        let denied: bool = self.redis.clone().exists(denied(&claims)).await?;
        Ok((!denied).then_some(claims))
    }

    /// Denies a token until it expires.
    pub async fn log_out(&self, claims: &Claims) -> redis::RedisResult<()> {
        let left = claims.exp.saturating_sub(now()).max(1);
        self.redis.clone().set_ex(denied(claims), 1, left).await
    }
}

/// Returns the address to listen on.
///
/// # Panics
/// If `PORT` is missing.
#[must_use]
pub fn address() -> String {
    format!("127.0.0.1:{}", variable("PORT"))
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn denied(claims: &Claims) -> String {
    format!("denylist:{}", claims.jti)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a date")
        .as_secs()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("a result")
}
