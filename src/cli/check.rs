//! `portcullis check`: reports what would run, and what fails.

use std::process::ExitCode;

use super::{UNAVAILABLE, print};
use crate::auth::keyring::KeyStore;
use crate::auth::keyring::rotation::list;
use crate::config::{Config, HttpConfig, RedisServer, SigningKey, TokenConfig};
use crate::http::server::Tls;
use crate::store::{
    DEFAULT_USER_UNKNOWN, Keyspace, Persistence, Redis, ReplicationGuarantee, StoreError,
    WILL_LOSE_TRANSACTIONS,
};
use crate::telemetry::check_audit_log;

/// Checks keys, certificate and Redis, and prints one line for each.
pub(super) async fn run(config: &Config) -> ExitCode {
    let mut lines = vec![
        clients(&config.http),
        format!(
            "management    http://{} (/livez /readyz /metrics)",
            config.http.management_listen
        ),
        format!(
            "tokens        issuer {}, audience {}, lifetime {}",
            config.tokens.issuer,
            config.tokens.audience,
            humantime::format_duration(config.tokens.access_ttl)
        ),
        format!(
            "passwords     bcrypt cost {}, {}",
            config.passwords.cost,
            if config.passwords.pepper.is_some() {
                "with a pepper"
            } else {
                "no pepper"
            }
        ),
        format!(
            "revocation    window {}",
            humantime::format_duration(config.revocation.window)
        ),
    ];
    let audit_log = config.telemetry.audit_log.as_deref();
    let audit_log_is_good = audit_log.is_none_or(|path| {
        let checked = check_audit_log(path);
        lines.push(match &checked {
            Ok(()) => format!("audit log     {}", path.display()),
            Err(error) => format!("audit log     FAILED: {}: {error}", path.display()),
        });
        checked.is_ok()
    });
    let keys = keys(&config.tokens);
    let tls = certificate(&config.http);
    let files_are_good = keys.is_ok() && tls.is_ok();
    lines.extend(tls.unwrap_or_else(|why| Some(format!("tls           FAILED: {why}"))));
    lines.push(keys.unwrap_or_else(|why| format!("keys          FAILED: {why}")));
    let redis_is_good = match &config.redis.server {
        RedisServer::Private(folder) => {
            lines.push(format!("redis         private, in {}", folder.display()));
            true
        }
        RedisServer::At(address) => {
            let redis = Redis::new(address, Keyspace::new(config.redis.prefix.clone()));
            let described = match &redis {
                Ok(redis) => describe_redis(redis, &mut lines).await,
                Err(error) => {
                    lines.push(error.to_string());
                    Ok(false)
                }
            };
            described.unwrap_or_else(|error| {
                lines.push(format!("redis         FAILED: {error}"));
                false
            })
        }
    };
    let printed = print(&(lines.join("\n") + "\n"));
    if files_are_good && audit_log_is_good && redis_is_good {
        printed
    } else {
        ExitCode::from(UNAVAILABLE)
    }
}

fn clients(http: &HttpConfig) -> String {
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    format!("clients       {scheme}://{}", http.listen)
}

/// Loads the certificate and its key, if set, and checks that they belong together.
fn certificate(http: &HttpConfig) -> Result<Option<String>, String> {
    let Some(files) = http.tls.clone() else {
        return Ok(None);
    };
    let line = format!("tls           {}", files.certificate.display());
    Tls::open(files)?;
    Ok(Some(line))
}

/// Lists the signing keys, and checks that one of them signs.
fn keys(tokens: &TokenConfig) -> Result<String, String> {
    let Some(folder) = &tokens.key_folder else {
        return Ok("keys          a secret that all replicas share (HS256)".to_owned());
    };
    let secret = match &tokens.signing {
        Some(SigningKey::Secret(secret)) => Some(secret.clone()),
        _ => None,
    };
    KeyStore::open(secret, Some(folder.clone()))?;
    let listed = list(folder)?;
    let listed = listed
        .iter()
        .map(|key| format!("{} {} {}", key.name, key.algorithm, key.state.name()));
    let listed: Vec<_> = listed.collect();
    Ok(format!("keys          {}", listed.join(", ")))
}

/// Describes the Redis servers, and what the acknowledgements of their replicas guarantee.
async fn describe_redis(redis: &Redis, lines: &mut Vec<String>) -> Result<bool, StoreError> {
    let server = redis.inspect().await?;
    if let Some(unfit) = server.unsupported_reason() {
        lines.push(format!("redis         FAILED: {unfit}"));
        return Ok(false);
    }
    let persistence = match server.persistence {
        Persistence::EveryWrite => "keeps every acknowledged write",
        Persistence::EverySecond => {
            "WARNING: a power cut loses up to a second (set appendfsync always)"
        }
        Persistence::Unforced => {
            "WARNING: a power cut loses what was acknowledged (set appendfsync always)"
        }
        Persistence::Poor => "WARNING: a restart loses users and revocations (set appendonly yes)",
        Persistence::Unknown => "persistence unknown (CONFIG is not permitted)",
    };
    lines.push(format!(
        "redis         {} reachable, {persistence}",
        server.version
    ));
    let wanted = redis.acknowledgements();
    let mut good = !server.will_lose_transactions();
    if !good {
        lines.push(format!("redis         FAILED: {WILL_LOSE_TRANSACTIONS}"));
    }
    if server.default_user_is_unknown() {
        lines.push(format!("redis         WARNING: {DEFAULT_USER_UNKNOWN}"));
    }
    for shard in redis.shards().await? {
        let replicas = shard.replicas.unwrap_or(server.replicas);
        let promise = ReplicationGuarantee::new(wanted, replicas);
        let weight = match promise {
            ReplicationGuarantee::Unsatisfiable => "FAILED: ",
            _ if promise.is_sound() => "",
            _ => "WARNING: ",
        };
        good &= promise != ReplicationGuarantee::Unsatisfiable;
        lines.push(format!(
            "primary       {} with {replicas} replicas, {wanted} must acknowledge: {weight}{promise}",
            shard.primary
        ));
    }
    Ok(good)
}
