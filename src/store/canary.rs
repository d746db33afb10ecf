//! Canary keys, which show that a restarted Redis has lost the writes of scripts.
//!
//! An append-only file holds the writes of a script as `MULTI … EXEC`. If the user `default` has no rights, Redis 7.0
//! to 8.2 skip every such transaction when they load the file, and then serve requests: changed passwords, disabled
//! users and ended sessions are as they were before (redis issues 14156 and 14541). Plain writes are all there.
//!
//! The canary therefore has parts of both kinds, numbered. A replica writes `intent` (plain), raises `scripted` (by a
//! script of two writes) and writes `plain`, in this order, each after the previous write was acknowledged, on one
//! connection. Whatever the order of several replicas, `scripted` is never behind `plain` on a server that keeps
//! acknowledged writes: not after a lost tail of the file, not after a failover. `intent` and `plain` carry the same
//! mark, which no other round has. The mark tells a lost script from a `FLUSHALL` between two of the writes.
//!
//! Every new connection compares the parts before it is used, and a restart ends every connection: no operation runs on
//! a server that has lost transactions.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult, Script, ServerErrorKind, Value};

use super::connection::{Pipeline, StoreError};
use crate::domain::SessionId;

static RAISE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/canary_raise.lua")));

/// Error of a server that has lost transactions, shown by `readyz`, `check` and the log.
pub(super) const LOST_TRANSACTIONS: &str = "Redis has lost what scripts wrote: its user `default` may not run the transactions \
     of the append-only file, so a restart skipped them. Stop Redis, set `user default off ~* &* +@all`, and start it before \
     the file is rewritten: then all of it is back. docs/operate/runbook.md, \"Redis forgets at a restart\", has the steps, and what to \
     do after a rewrite";

/// Keys of one server's canary, all in one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CanaryKeys {
    pub(super) intent: String,
    pub(super) scripted: String,
    pub(super) plain: String,
}

/// Canary of one server.
#[derive(Debug, Default)]
pub(super) struct Canary {
    /// `None` for a server of a Cluster whose slots are not known yet.
    keys: ArcSwapOption<CanaryKeys>,
    /// True if the last comparison found that the server has lost transactions.
    lost: AtomicBool,
    /// Value of `scripted` when this replica last read it.
    last_seen: AtomicU64,
}

/// Plain part: the number of a round, and a mark that tells the round from all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Part {
    number: u64,
    mark: u128,
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let (number, mark) = text.split_once(':')?;
        Some(Self {
            number: number.parse().ok()?,
            mark: u128::from_str_radix(mark, 16).ok()?,
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.number, self.mark)
    }
}

/// State of a canary; zeros if there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    intent: Part,
    scripted: u64,
    plain: Part,
}

impl State {
    fn shows_lost_transactions(self) -> bool {
        self.intent == self.plain && self.plain.number > self.scripted
    }

    fn next_number(self) -> u64 {
        self.intent.number.max(self.scripted).max(self.plain.number) + 1
    }
}

impl Canary {
    pub(super) fn new(keys: Option<CanaryKeys>) -> Self {
        Self {
            keys: ArcSwapOption::from_pointee(keys),
            ..Self::default()
        }
    }

    pub(super) fn set_keys(&self, keys: CanaryKeys) {
        self.keys.store(Some(keys.into()));
    }

    pub(super) fn keys(&self) -> Option<CanaryKeys> {
        self.keys.load().as_deref().cloned()
    }

    /// Returns true if the server is known to have lost transactions.
    pub(super) fn has_lost_transactions(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Adds the commands whose replies [`check`](Self::check) reads.
    ///
    /// `scripted` is read last: a replica that writes meanwhile has raised it before it writes `plain`.
    pub(super) fn ask(&self, pipeline: &mut redis::Pipeline) {
        if let Some(keys) = self.keys() {
            for key in [&keys.plain, &keys.intent, &keys.scripted] {
                pipeline.cmd("GET").arg(key);
            }
        }
    }

    /// Checks the replies of the server.
    ///
    /// # Errors
    /// If the server has lost transactions, or did not answer: a server that is loading its data would answer
    /// differently later.
    pub(super) fn check(&self, answers: Vec<RedisResult<Value>>) -> Result<(), StoreError> {
        self.state(answers).map(|_| ())
    }

    /// Returns `None` if the canary is not on this server, or no server has one yet.
    fn state(&self, answers: Vec<RedisResult<Value>>) -> Result<Option<State>, StoreError> {
        let mut texts = Vec::with_capacity(3);
        for answer in answers {
            match answer {
                Ok(value) => {
                    let text: Option<String> = redis::from_redis_value(value)
                        .map_err(|_| StoreError::unexpected("a part of the canary"))?;
                    texts.push(text);
                }
                // The slot has moved to another server, and the canary with it.
                Err(error) if is_redirection(error.kind()) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        let [plain, intent, scripted] = &texts[..] else {
            return Ok(None);
        };
        let part = |text: &Option<String>| {
            let part = text.as_deref().and_then(Part::parse);
            part.unwrap_or_default()
        };
        let scripted = scripted.as_deref().and_then(|text| text.parse().ok());
        let state = State {
            intent: part(intent),
            scripted: scripted.unwrap_or(0),
            plain: part(plain),
        };
        let lost = state.shows_lost_transactions();
        if self.lost.swap(lost, Ordering::Relaxed) != lost {
            if lost {
                tracing::error!(event = "redis_lost_transactions", "{LOST_TRANSACTIONS}");
            } else {
                tracing::info!(
                    event = "redis_transactions_restored",
                    "the canary of Redis shows no loss any more"
                );
            }
        }
        if lost {
            return Err(StoreError::lost_transactions());
        }
        Ok(Some(state))
    }

    /// Compares the parts, and writes the canary again unless another replica has done so since this one last read it.
    ///
    /// # Errors
    /// If the server has lost transactions or does not answer. The connection must not be used again then.
    pub(super) async fn renew(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), StoreError> {
        let Some(keys) = self.keys() else {
            return Ok(());
        };
        let mut questions = redis::pipe();
        self.ask(&mut questions);
        let answers = questions.ignore_errors().query_async(connection).await?;
        let Some(state) = self.state(answers)? else {
            return Ok(());
        };
        let seen = self.last_seen.swap(state.scripted, Ordering::Relaxed);
        if state.scripted != 0 && state.scripted != seen {
            return Ok(());
        }
        let round = Part {
            number: state.next_number(),
            mark: SessionId::random().to_bits(),
        };
        let set = async |connection: &mut MultiplexedConnection, key: &str| {
            let mut command = redis::cmd("SET");
            command.arg(key).arg(round.to_string());
            command.query_async::<()>(connection).await
        };
        set(connection, &keys.intent).await?;
        let scripted = std::slice::from_ref(&keys.scripted);
        Pipeline::script(&RAISE, scripted, &[round.number.to_string()])
            .execute(connection)
            .await?;
        set(connection, &keys.plain).await?;
        self.last_seen.store(round.number, Ordering::Relaxed);
        Ok(())
    }
}

fn is_redirection(kind: ErrorKind) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, Moved, TryAgain};
    matches!(
        kind,
        ErrorKind::Server(Moved | Ask | TryAgain | ClusterDown)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the writes of two replicas in every order, with a `FLUSHALL` before each step or never, and then loses all
    /// scripts.
    #[test]
    fn only_lost_scripts_look_like_lost_scripts() {
        let (mut orders, mut shown) = (0, 0);
        // Each bit chooses the replica that takes the next step.
        for order in (0_u32..64).filter(|order| order.count_ones() == 3) {
            for flushed_before in 0..=6 {
                orders += 1;
                let mut server = State::default();
                let (mut steps, mut rounds) = ([0; 2], [Part::default(); 2]);
                for step in 0..6 {
                    if step == flushed_before {
                        server = State::default();
                    }
                    let replica = usize::from(order & (1 << step) != 0);
                    match steps[replica] {
                        0 => {
                            rounds[replica] = Part {
                                number: server.next_number(),
                                mark: replica as u128 + 1,
                            };
                            server.intent = rounds[replica];
                        }
                        1 => server.scripted = server.scripted.max(rounds[replica].number),
                        _ => server.plain = rounds[replica],
                    }
                    steps[replica] += 1;
                    assert!(
                        !server.shows_lost_transactions(),
                        "{order:b} {flushed_before} {server:?}"
                    );
                }
                if flushed_before == 6 {
                    // A load without any transaction. If two rounds crossed, the loss may not show until the next
                    // round.
                    server.scripted = 0;
                    shown += u32::from(server.shows_lost_transactions());
                }
            }
        }
        assert_eq!(orders, 20 * 7);
        assert!(shown >= 10, "{shown} of 20 orders show what was lost");
    }
}
