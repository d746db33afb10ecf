//! Clock: the only module that reads the time of the operating system.
//!
//! Two kinds of time have different types. A [`Timestamp`] is a date that replicas agree on: Redis' time, as estimated from
//! the last read of the revocation feed. An [`Uptime`] measures the time that has passed on this machine, including the time
//! that the machine sleeps.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::ParseError;

/// Date in milliseconds since the Unix epoch, by Redis' clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Creates a date from milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Creates a date from seconds since the Unix epoch; saturates far beyond any real date.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, as a JWT writes dates (RFC 7519 §2, `NumericDate`).
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Time since `earlier`; zero if `earlier` is later than `self`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Date `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

/// Writes the date as RFC 3339 in UTC with whole seconds: `2026-01-31T12:00:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime refuses years beyond 9999, which no real date of this service reaches.
        let date =
            SystemTime::UNIX_EPOCH + Duration::from_secs(self.as_secs().min(253_402_300_799));
        humantime::format_rfc3339_seconds(date).fmt(f)
    }
}

/// Parses RFC 3339 in UTC, as `Display` writes it.
impl FromStr for Timestamp {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let date = humantime::parse_rfc3339(text).map_err(|_| ParseError)?;
        let since = date.duration_since(SystemTime::UNIX_EPOCH);
        Ok(Self::from_secs(since.map_err(|_| ParseError)?.as_secs()))
    }
}

/// Time since the machine started, in nanoseconds, including time asleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Uptime(u64);

impl Uptime {
    /// Creates an uptime from nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the machine started.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if `earlier` is later than `self`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Uptime `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Uptime `duration` earlier; the start of the machine at the earliest.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// Source of both kinds of time. Clones share the correction.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// Machine's uptime, and the milliseconds by which Redis' date is ahead of it. The machine's own date is used only until
    /// Redis' date is known: a date that an operator sets, or that jumps after a sleep, must not let revocations expire.
    Machine { ahead: AtomicI64 },
    /// Clock that only a test moves.
    Manual { millis: AtomicU64 },
}

impl Clock {
    /// Creates the machine's clock. It shows the machine's date until it is corrected.
    #[must_use]
    pub fn machine() -> Self {
        let ahead = machine_millis()
            .saturating_sub(millis(boot_time()))
            .cast_signed();
        Self(Arc::new(Source::Machine {
            ahead: AtomicI64::new(ahead),
        }))
    }

    /// Creates a clock for tests of pure code. It shows `now` until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(now: Timestamp) -> Self {
        Self(Arc::new(Source::Manual {
            millis: AtomicU64::new(now.as_millis()),
        }))
    }

    /// Moves a manual clock forward; does nothing to the machine's clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { millis } = &*self.0 {
            millis.fetch_add(
                u64::try_from(by.as_millis()).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        }
    }

    /// Current date by Redis' clock, as estimated.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::Machine { ahead } => {
                Timestamp(millis(boot_time()).saturating_add_signed(ahead.load(Ordering::Relaxed)))
            }
            Source::Manual { millis } => Timestamp(millis.load(Ordering::Relaxed)),
        }
    }

    /// Time since the machine started. See [`Uptime`].
    #[must_use]
    pub fn uptime(&self) -> Uptime {
        match &*self.0 {
            Source::Machine { .. } => boot_time(),
            Source::Manual { millis } => {
                Uptime(millis.load(Ordering::Relaxed).saturating_mul(1_000_000))
            }
        }
    }

    /// Sets the date from a reading of Redis' clock, taken as half-way between `sent` and now. Returns the difference between
    /// the machine's own date and Redis' date. The error of one estimate is at most half the round trip.
    #[must_use]
    pub fn correct(&self, redis: Timestamp, sent: Uptime) -> Duration {
        let Source::Machine { ahead } = &*self.0 else {
            return Duration::ZERO;
        };
        let now = self.uptime();
        let redis = redis.plus(now.since(sent) / 2);
        ahead.store(
            redis
                .0
                .cast_signed()
                .saturating_sub(millis(now).cast_signed()),
            Ordering::Relaxed,
        );
        Duration::from_millis(redis.0.abs_diff(machine_millis()))
    }
}

fn millis(uptime: Uptime) -> u64 {
    uptime.0 / 1_000_000
}

/// Machine's own date in milliseconds since the Unix epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the date is read"
)]
fn machine_millis() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// Time since the start of the machine. On Linux, `CLOCK_MONOTONIC` stops while the machine sleeps, and a view of the feed
/// would look younger than it is; other systems have only the monotonic clock (on macOS it includes sleep).
fn boot_time() -> Uptime {
    #[cfg(target_os = "linux")]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let id = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(id);
    Uptime(
        time.tv_sec
            .cast_unsigned()
            .saturating_mul(1_000_000_000)
            .saturating_add(time.tv_nsec.cast_unsigned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_rfc_3339() {
        assert_eq!(
            Timestamp::from_secs(1_767_225_600).to_string(),
            "2026-01-01T00:00:00Z"
        );
    }

    #[test]
    fn an_absurd_date_is_written_without_a_panic() {
        assert_eq!(
            Timestamp::from_millis(u64::MAX).to_string(),
            "9999-12-31T23:59:59Z"
        );
    }

    #[test]
    fn a_corrected_clock_shows_redis_time() {
        let clock = Clock::machine();
        let sent = clock.uptime();
        let redis = Timestamp::from_millis(clock.now().as_millis() + 90_000);
        let difference = clock.correct(redis, sent);
        assert!(
            difference >= Duration::from_secs(89) && difference <= Duration::from_secs(91),
            "{difference:?}"
        );
        assert!(clock.now() >= redis);
    }

    #[test]
    fn a_corrected_clock_goes_on_with_uptime() {
        let clock = Clock::machine();
        let redis = Timestamp::from_secs(1_000_000_000);
        let _ = clock.correct(redis, clock.uptime());
        let begun = clock.uptime();
        while clock.uptime().since(begun) < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let passed = clock.now().as_millis() - redis.as_millis();
        assert!((15..5_000).contains(&passed), "{passed} ms");
    }

    /// Rule 2 of the protocol: ages must grow while the machine sleeps, as they do by the kernel's own uptime.
    #[cfg(target_os = "linux")]
    #[test]
    fn rule_2_uptime_is_counted_from_the_start_of_the_machine_with_all_its_sleep() {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let kernel: f64 = text.split(' ').next().unwrap().parse().unwrap();
        let kernel = Duration::from_secs_f64(kernel);
        let ours = Duration::from_nanos(Clock::machine().uptime().as_nanos());
        assert!(
            ours.abs_diff(kernel) < Duration::from_secs(5),
            "{ours:?} {kernel:?}"
        );
    }

    #[test]
    fn uptime_never_runs_backwards() {
        let clock = Clock::machine();
        let earlier = clock.uptime();
        assert!(clock.uptime() >= earlier);
        assert_eq!(earlier.since(clock.uptime()), Duration::ZERO);
    }
}
