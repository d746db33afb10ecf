//! Discovery of primaries through Sentinels or the servers of a Cluster.
//!
//! All are asked at once, each with a timeout, so that a dead one delays no lookup. More than half of the replies are
//! awaited, and of these the one with the greatest configuration epoch counts: the other servers have not heard of the
//! latest failover yet.

use std::ops::RangeInclusive;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::{Client, RedisResult, Value};

use super::address::Host;
use super::node::connect;
use super::topology::all_slots;
use super::{DEADLINE, StoreError};

/// Primary and the slots that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    /// Slots that the primary serves.
    pub(super) slots: Vec<RangeInclusive<u16>>,
    /// Address of the primary.
    pub(super) primary: Host,
    /// Number of replicas, if the reply contains it.
    pub(super) replicas: Option<u32>,
}

/// Returns the primary of that name.
///
/// # Errors
/// If no Sentinel answers, or none knows the name.
pub(super) async fn ask_sentinels(sentinels: &[Client], name: &str) -> Result<Shard, StoreError> {
    let ask = async |sentinel: &Client| {
        let mut connection = connect(sentinel).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("MASTER").arg(name);
        let answer: RedisResult<Vec<(String, String)>> = ask.query_async(&mut connection).await;
        primary(&answer?).ok_or(StoreError::unexpected("SENTINEL MASTER"))
    };
    latest_of_quorum(sentinels.iter().map(ask)).await
}

fn primary(fields: &[(String, String)]) -> Option<(u64, Shard)> {
    let field = |name: &str| {
        let found = fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    };
    let shard = Shard {
        slots: vec![all_slots()],
        primary: Host::new(field("ip")?, field("port")?.parse().ok()?),
        replicas: field("num-slaves").and_then(|number| number.parse().ok()),
    };
    Some((field("config-epoch")?.parse().ok()?, shard))
}

/// Returns the primaries of all slots, in the order of the slots.
///
/// # Errors
/// If no server answers.
pub(super) async fn ask_cluster(servers: &[(Client, Host)]) -> Result<Vec<Shard>, StoreError> {
    let ask = async |(client, host): &(Client, Host)| {
        let mut connection = connect(client).await?;
        let mut questions = redis::pipe();
        questions.cmd("CLUSTER").arg("SLOTS");
        questions.cmd("CLUSTER").arg("INFO");
        let answer: RedisResult<(Vec<Vec<Value>>, String)> =
            questions.query_async(&mut connection).await;
        let (slots, info) = answer?;
        let epoch = info
            .lines()
            .find_map(|line| line.strip_prefix("cluster_current_epoch:"));
        let epoch = epoch.and_then(|epoch| epoch.trim().parse().ok());
        let shards = shards(slots, host).filter(|shards| !shards.is_empty());
        epoch
            .zip(shards)
            .ok_or(StoreError::unexpected("CLUSTER SLOTS"))
    };
    latest_of_quorum(servers.iter().map(ask)).await
}

fn shards(ranges: Vec<Vec<Value>>, asked: &Host) -> Option<Vec<Shard>> {
    let mut shards: Vec<Shard> = Vec::new();
    for mut range in ranges {
        if range.len() < 3 {
            return None;
        }
        let nodes = range.split_off(2);
        let (first, last): (u16, u16) = redis::from_redis_value(Value::Array(range)).ok()?;
        let replicas = u32::try_from(nodes.len() - 1).ok()?;
        let Value::Array(mut node) = nodes.into_iter().next()? else {
            return None;
        };
        node.truncate(2);
        let (name, port): (Option<String>, u16) =
            redis::from_redis_value(Value::Array(node)).ok()?;
        // A server that does not know its own name has the name by which it was reached.
        let name = name.filter(|name| !name.is_empty() && name != "?");
        let primary = Host::new(name.as_deref().unwrap_or(asked.name()), port);
        match shards.iter_mut().find(|shard| shard.primary == primary) {
            Some(shard) => shard.slots.push(first..=last),
            None => shards.push(Shard {
                slots: vec![first..=last],
                primary,
                replicas: Some(replicas),
            }),
        }
    }
    let first = |shard: &Shard| shard.slots.iter().map(|slots| *slots.start()).min();
    shards.sort_by_key(first);
    Some(shards)
}

/// Waits for more than half of the replies, and returns that of the greatest epoch.
async fn latest_of_quorum<T>(
    questions: impl Iterator<Item = impl Future<Output = Result<(u64, T), StoreError>>>,
) -> Result<T, StoreError> {
    let mut asked: FuturesUnordered<_> = questions
        .map(|question| async {
            let in_time = tokio::time::timeout(DEADLINE, question).await;
            in_time.unwrap_or_else(|_| Err(StoreError::timed_out()))
        })
        .collect();
    let enough = asked.len() / 2 + 1;
    let (mut newest, mut answers, mut failure) = (None, 0, None);
    while let Some(answer) = asked.next().await {
        match answer {
            Ok((epoch, it)) => {
                answers += 1;
                if newest
                    .as_ref()
                    .is_none_or(|(greatest, _)| epoch > *greatest)
                {
                    newest = Some((epoch, it));
                }
                if answers == enough {
                    break;
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    match newest {
        Some((_, it)) => Ok(it),
        None => Err(failure.unwrap_or_else(StoreError::timed_out)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_the_answers_the_one_of_the_greatest_epoch_counts() {
        let answers = [(3, "old"), (7, "new"), (7, "late"), (9, "too late")];
        let answers = answers.into_iter().map(async |it| Ok(it));
        assert_ne!(latest_of_quorum(answers).await.unwrap(), "old");
        let failing: [Result<(u64, &str), StoreError>; 2] =
            [Err(StoreError::timed_out()), Ok((1, "it"))];
        let failing = failing.into_iter().map(async |it| it);
        assert_eq!(latest_of_quorum(failing).await.unwrap(), "it");
    }

    #[test]
    fn the_slots_of_a_server_may_lie_apart_and_its_name_may_be_unknown() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let node = |name: &str, port| Value::Array(vec![text(name), Value::Int(port), text("id")]);
        let range = |first, last, nodes: Vec<Value>| {
            let mut range = vec![Value::Int(first), Value::Int(last)];
            range.extend(nodes);
            range
        };
        let asked = Host::new("10.0.0.9", 7000);
        let found = shards(
            vec![
                range(100, 200, vec![node("10.0.0.1", 7001)]),
                range(0, 99, vec![node("", 7002), node("10.0.0.3", 7003)]),
                range(300, 400, vec![node("10.0.0.1", 7001)]),
            ],
            &asked,
        );
        let found = found.unwrap();
        assert_eq!(found[0].primary, Host("10.0.0.9:7002".to_owned()));
        assert_eq!(
            (&*found[0].slots, found[0].replicas),
            (&[0..=99][..], Some(1))
        );
        assert_eq!(found[1].slots, [100..=200, 300..=400]);
    }
}
