//! Metrics: the instruments of a replica, and the table of their names.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use super::export::{self, SHUTDOWN_TIMEOUT, resource};
use super::output;
use crate::auth::keyring::KeyStore;
use crate::auth::passwords::Passwords;
use crate::auth::revocation::Revocations;
use crate::config::Exports;
use crate::store::Redis;

/// Every metric by its name on `/metrics`, with its HELP text.
pub const NAMES: [(&str, &str); 23] = [
    (
        "http_server_request_duration_seconds",
        "duration of requests by route pattern, method and class of status",
    ),
    ("portcullis_registrations_total", "registrations by outcome"),
    ("portcullis_logins_total", "logins by outcome"),
    ("portcullis_logouts_total", "logouts by outcome"),
    ("portcullis_refreshes_total", "refreshes by outcome"),
    (
        "portcullis_password_changes_total",
        "password changes by outcome",
    ),
    ("portcullis_password_hashes_total", "bcrypt computations"),
    (
        "portcullis_password_queue_depth",
        "passwords that wait for a hashing thread",
    ),
    (
        "portcullis_password_wait_seconds_total",
        "total time that passwords waited for a hashing thread",
    ),
    (
        "portcullis_hash_lanes_busy",
        "hashes being computed; at most HASH_LANES for each thread",
    ),
    (
        "portcullis_password_hash_rejected_total",
        "passwords refused because they would have waited too long",
    ),
    (
        "portcullis_rate_limited_total",
        "attempts refused by a rate limit, by limit: account, network or registration",
    ),
    (
        "portcullis_feed_view_age_seconds",
        "age of this replica's view of the revocations; absent until it has one",
    ),
    ("portcullis_denylist_entries", "revocations held in memory"),
    (
        "portcullis_lease_held",
        "1 while replicas of Redis vouch for the primary, otherwise 0; absent if REDIS_ACK_REPLICAS is 0",
    ),
    (
        "portcullis_feed_propagation_seconds",
        "age of the newest revocation when this replica last read one; absent until it has read one",
    ),
    (
        "portcullis_revocation_entries_reappended_total",
        "revocations that this replica put back into a feed that had lost them",
    ),
    (
        "portcullis_redis_connections",
        "pooled connections to Redis by state: used or idle",
    ),
    (
        "portcullis_signing_key_created_timestamp_seconds",
        "creation time of the signing key since the Unix epoch, by the date in its name; absent if a secret signs",
    ),
    (
        "portcullis_otel_spans_dropped_total",
        "spans that could not be sent by OTLP",
    ),
    (
        "portcullis_log_lines_dropped_total",
        "log lines dropped because their output was blocked for too long, by output (standard_output or audit_log) and kind (audit or other)",
    ),
    (
        "portcullis_log_write_failures_total",
        "failed attempts to write log lines, by output; the lines are tried again",
    ),
    ("portcullis_build_info", "always 1; the version is a label"),
];

/// HELP text of an instrument. The exporter replaces dots and appends the unit and `_total` to the instrument's name.
fn help(instrument: &str) -> &'static str {
    let name = instrument.replace('.', "_");
    let exported = |(exported, _): &&(&str, &'static str)| {
        let suffix = exported.strip_prefix(name.as_str());
        suffix.is_some_and(|suffix| matches!(suffix, "" | "_total" | "_seconds"))
    };
    NAMES.iter().find(exported).map_or("", |(_, help)| help)
}

/// Bucket bounds of request durations, in seconds.
const DURATION_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Action that is counted and audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A registration.
    Register,
    /// A login.
    LogIn,
    /// A logout.
    LogOut,
    /// A refresh.
    Refresh,
    /// A change of the user's own password.
    ChangePassword,
    /// A user deleted their own account.
    DeleteAccount,
    /// An administrator created an account.
    CreateUser,
    /// An administrator imported an account from another program.
    ImportUser,
    /// An administrator disabled an account.
    DisableUser,
    /// An administrator enabled an account.
    EnableUser,
    /// An administrator set the roles of an account.
    SetRoles,
    /// An administrator deleted an account.
    DeleteUser,
    /// An administrator ended all sessions of an account.
    EndUserSessions,
    /// A client authenticated with its credentials.
    Client,
}

impl Act {
    /// Value of the audit member `act`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::LogIn => "login",
            Self::LogOut => "logout",
            Self::Refresh => "refresh",
            Self::ChangePassword => "change_password",
            Self::DeleteAccount => "delete_account",
            Self::CreateUser => "create_user",
            Self::ImportUser => "import_user",
            Self::DisableUser => "disable_user",
            Self::EnableUser => "enable_user",
            Self::SetRoles => "set_roles",
            Self::DeleteUser => "delete_user",
            Self::EndUserSessions => "end_user_sessions",
            Self::Client => "client",
        }
    }
}

/// The instruments of one replica.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    meter: Meter,
    requests: Histogram<f64>,
    registrations: Counter<u64>,
    logins: Counter<u64>,
    logouts: Counter<u64>,
    refreshes: Counter<u64>,
    password_changes: Counter<u64>,
    rate_limited: Counter<u64>,
    // Dropping the provider would stop the collection.
    provider: SdkMeterProvider,
}

impl Metrics {
    /// Creates the instruments, and their OTLP exporter if `exports` asks for it.
    ///
    /// # Errors
    /// A sentence, if an exporter cannot be created.
    pub fn new(exports: Exports) -> Result<Self, String> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .map_err(|error| format!("metrics: {error}"))?;
        let mut provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_resource(resource());
        if exports.metrics {
            provider = provider.with_reader(export::metrics()?);
        }
        let provider = provider.build();
        let meter = provider.meter("portcullis");
        let counter = |name: &'static str| {
            let counter = meter.u64_counter(name);
            counter.with_description(help(name)).build()
        };
        Ok(Self {
            registry,
            requests: meter
                .f64_histogram("http.server.request.duration")
                .with_description(help("http.server.request.duration"))
                .with_unit("s")
                .with_boundaries(DURATION_BUCKETS.to_vec())
                .build(),
            registrations: counter("portcullis.registrations"),
            logins: counter("portcullis.logins"),
            logouts: counter("portcullis.logouts"),
            refreshes: counter("portcullis.refreshes"),
            password_changes: counter("portcullis.password.changes"),
            rate_limited: counter("portcullis.rate.limited"),
            meter,
            provider,
        })
    }

    /// Records the duration of an answered request.
    pub fn record_request(
        &self,
        method: &'static str,
        route: &Arc<str>,
        status: u16,
        took: Duration,
    ) {
        let class = match status / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "1xx",
        };
        self.requests.record(
            took.as_secs_f64(),
            &[
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", Arc::clone(route)),
                KeyValue::new("http.response.status_class", class),
            ],
        );
    }

    /// Counts an action by its outcome.
    pub fn count_action(&self, act: Act, outcome: &'static str) {
        // Rare actions are in the audit log only, without a series.
        let counter = match act {
            Act::Register => &self.registrations,
            Act::LogIn => &self.logins,
            Act::LogOut => &self.logouts,
            Act::Refresh => &self.refreshes,
            Act::ChangePassword => &self.password_changes,
            _ => return,
        };
        counter.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    /// Counts an attempt that a rate limit refused.
    pub fn rate_limited(&self, limit: &'static str) {
        self.rate_limited.add(1, &[KeyValue::new("limit", limit)]);
    }

    /// Registers observable gauges and counters, which are read at each scrape.
    pub fn register_gauges(
        &self,
        revocations: &Arc<Revocations>,
        passwords: &Arc<Passwords>,
        redis: Redis,
        keys: Arc<KeyStore>,
    ) {
        // A gauge without a value has no series: a number that stands for none would spoil averages.
        let gauge = |name: &'static str, read: Box<dyn Fn() -> Option<f64> + Send + Sync>| {
            self.meter
                .f64_observable_gauge(name)
                .with_description(help(name))
                .with_callback(move |observer| {
                    if let Some(value) = read() {
                        observer.observe(value, &[]);
                    }
                })
                .build();
        };
        let counter = |name: &'static str, read: Box<dyn Fn() -> u64 + Send + Sync>| {
            self.meter
                .u64_observable_counter(name)
                .with_description(help(name))
                .with_callback(move |observer| observer.observe(read(), &[]))
                .build();
        };
        let view = Arc::clone(revocations);
        gauge(
            "portcullis.feed.view.age.seconds",
            Box::new(move || view.view_age().map(|age| age.as_secs_f64())),
        );
        let held = Arc::clone(revocations);
        #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
        gauge(
            "portcullis.denylist.entries",
            Box::new(move || Some(held.entries() as f64)),
        );
        let leased = Arc::clone(revocations);
        gauge(
            "portcullis.lease.held",
            Box::new(move || {
                let held = leased.lease_held()?;
                Some(f64::from(u8::from(held)))
            }),
        );
        let back = Arc::clone(revocations);
        counter(
            "portcullis.revocation.entries.reappended",
            Box::new(move || back.reappended()),
        );
        let late = Arc::clone(revocations);
        gauge(
            "portcullis.feed.propagation.seconds",
            Box::new(move || late.propagation().map(|age| age.as_secs_f64())),
        );
        self.register_password_gauges(passwords, &gauge, &counter);
        self.register_output_counters();
        gauge(
            "portcullis.signing.key.created.timestamp.seconds",
            Box::new(move || {
                let created = Duration::from_millis(keys.ring().created_at()?.as_millis());
                Some(created.as_secs_f64())
            }),
        );
        counter(
            "portcullis.otel.spans.dropped",
            Box::new(export::dropped_spans),
        );
        self.meter
            .u64_observable_gauge("portcullis.redis.connections")
            .with_description(help("portcullis.redis.connections"))
            .with_callback(move |observer| {
                let (used, idle) = redis.connections();
                for (state, count) in [("used", used), ("idle", idle)] {
                    observer.observe(count as u64, &[KeyValue::new("state", state)]);
                }
            })
            .build();
        let version = KeyValue::new("version", env!("CARGO_PKG_VERSION"));
        self.meter
            .u64_observable_gauge("portcullis.build.info")
            .with_description(help("portcullis.build.info"))
            .with_callback(move |observer| observer.observe(1, std::slice::from_ref(&version)))
            .build();
    }

    fn register_output_counters(&self) {
        self.meter
            .u64_observable_counter("portcullis.log.lines.dropped")
            .with_description(help("portcullis.log.lines.dropped"))
            .with_callback(|observer| {
                for (output, counts) in output::counts() {
                    let Some(counts) = counts else { continue };
                    for (kind, count) in [
                        ("audit", counts.dropped_audit),
                        ("other", counts.dropped_other),
                    ] {
                        let labels = [KeyValue::new("output", output), KeyValue::new("kind", kind)];
                        observer.observe(count, &labels);
                    }
                }
            })
            .build();
        self.meter
            .u64_observable_counter("portcullis.log.write.failures")
            .with_description(help("portcullis.log.write.failures"))
            .with_callback(|observer| {
                for (output, counts) in output::counts() {
                    let Some(counts) = counts else { continue };
                    observer.observe(counts.failed_writes, &[KeyValue::new("output", output)]);
                }
            })
            .build();
    }

    fn register_password_gauges(
        &self,
        passwords: &Arc<Passwords>,
        gauge: &dyn Fn(&'static str, Box<dyn Fn() -> Option<f64> + Send + Sync>),
        counter: &dyn Fn(&'static str, Box<dyn Fn() -> u64 + Send + Sync>),
    ) {
        let (hashes, shed, queue) = (
            Arc::clone(passwords),
            Arc::clone(passwords),
            Arc::clone(passwords),
        );
        let (waited, busy) = (Arc::clone(passwords), Arc::clone(passwords));
        self.meter
            .f64_observable_counter("portcullis.password.wait.seconds")
            .with_description(help("portcullis.password.wait.seconds"))
            .with_callback(move |observer| {
                observer.observe(waited.pool().counts().waited.as_secs_f64(), &[]);
            })
            .build();
        #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
        gauge(
            "portcullis.hash.lanes.busy",
            Box::new(move || Some(busy.pool().counts().busy as f64)),
        );
        counter(
            "portcullis.password.hashes",
            Box::new(move || hashes.pool().counts().hashes),
        );
        counter(
            "portcullis.password.hash.rejected",
            Box::new(move || shed.pool().counts().rejected),
        );
        #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
        gauge(
            "portcullis.password.queue.depth",
            Box::new(move || Some(queue.pool().counts().waiting as f64)),
        );
    }

    /// Flushes the OTLP exporter, if there is one.
    pub fn shutdown(&self) {
        // A failure is ignored: earlier exports have sent all but the last interval.
        self.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT).ok();
    }

    /// Renders all metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}
