//! Faults between replicas and Redis, one after another, in random order.
//!
//! Only faults under which the guarantees hold: Redis loses no data that it has acknowledged, except for the feed, which the
//! replicas remember as well and put back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{Dice, Proxy, Redis, Weather};

/// Fault between the replicas and Redis.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The connections of one replica are closed.
    Cut,
    /// No data passes between one replica and Redis.
    Silence,
    /// One replica cannot connect.
    Refuse,
    /// The network of one replica is slow.
    Delay,
    /// Redis is paused.
    Pause,
    /// Redis has lost its script cache.
    ForgetScripts,
    /// Redis is killed and started again.
    Restart,
    /// The feed is deleted.
    LoseFeed,
}

use Fault::{Cut, Delay, ForgetScripts, LoseFeed, Pause, Refuse, Restart, Silence};

/// Faults of one round: each happens as often as it is listed here, before the next round begins.
const ROUND: [Fault; 13] = [
    Cut,
    Cut,
    Cut,
    Silence,
    Silence,
    Refuse,
    Delay,
    Delay,
    Pause,
    Pause,
    ForgetScripts,
    Restart,
    LoseFeed,
];

/// Time for the replicas to put the feed back before the next fault. Entries that no replica could put back in time are not
/// guaranteed.
const MENDING: Duration = Duration::from_secs(4);

/// One proxy in front of Redis for each replica, and the Redis behind them.
pub struct Faults {
    pub redis: Redis,
    pub proxies: Vec<Proxy>,
}

impl Faults {
    /// Injects faults, at least one whole round, until `enough` is set; then all is well again. Returns the number of faults.
    pub async fn run(&mut self, mut dice: Dice, enough: &AtomicBool) -> usize {
        let mut number = 0;
        loop {
            let mut round = ROUND;
            dice.shuffle(&mut round);
            for fault in round {
                if number >= ROUND.len() && enough.load(Ordering::Relaxed) {
                    return number;
                }
                tokio::time::sleep(dice.millis(100, 700)).await;
                self.happen(fault, &mut dice).await;
                number += 1;
            }
        }
    }

    async fn happen(&mut self, fault: Fault, dice: &mut Dice) {
        let proxy = &self.proxies[dice.below(self.proxies.len())];
        match fault {
            Cut => proxy.cut(),
            Silence => {
                let weather = Weather {
                    black_hole: true,
                    ..Weather::default()
                };
                under(proxy, weather, dice.millis(50, 900)).await;
                // Data in transit is lost for good.
                proxy.cut();
            }
            Refuse => {
                let weather = Weather {
                    refuse: true,
                    ..Weather::default()
                };
                proxy.cut();
                under(proxy, weather, dice.millis(50, 900)).await;
            }
            Delay => {
                let weather = Weather {
                    delay: dice.millis(5, 120),
                    ..Weather::default()
                };
                under(proxy, weather, dice.millis(300, 1200)).await;
            }
            Pause => {
                self.redis.pause();
                tokio::time::sleep(dice.millis(20, 900)).await;
                self.redis.resume();
            }
            ForgetScripts => self.redis.command::<()>(&["SCRIPT", "FLUSH"]).await,
            Restart => {
                self.redis.kill();
                tokio::time::sleep(dice.millis(0, 500)).await;
                self.redis.start_again().await;
            }
            LoseFeed => {
                self.redis
                    .command::<()>(&["DEL", "portcullis:{feed}:revocations"])
                    .await;
                tokio::time::sleep(MENDING).await;
            }
        }
    }
}

/// Applies network faults for a while.
async fn under(proxy: &Proxy, weather: Weather, lasting: Duration) {
    proxy.set(weather);
    tokio::time::sleep(lasting).await;
    proxy.set(Weather::default());
}
