//! Persistent state in Redis, as operations of the domain: one file for each aggregate, one script for each operation
//! that must be atomic.
//!
//! Expected outcomes are enums or options. `Err` means that the store could not answer: the caller cannot know whether
//! the operation took effect. Every operation has a deadline, and the store never retries a write by itself.

mod administration;

mod canary;
mod connection;
mod embedded_redis;
mod entries;
mod feed;
mod heartbeat;
mod keyspace;
mod password_change;
mod rate_limits;
mod refresh;
mod replication_guarantee;
mod server_info;
mod session_list;
mod sessions;
mod users;

pub use administration::{Change, Precondition};

pub use connection::{DEADLINE, Redis, ShardSeen, StoreError};
pub use embedded_redis::{EmbeddedRedis, become_redis_server};
pub use entries::{Entry, SessionEntry, UserEntry};
pub use feed::{Feed, HistoryId, Page, SETTLING, settling_after_restart};
pub use heartbeat::Heartbeats;
pub use keyspace::Keyspace;
pub use password_change::{ChangePassword, Written};
pub use rate_limits::{Bucket, Reservation, Reserved};
pub use refresh::{RotateRequest, RotateResponse, RotatedToken, RotationKind, RotationOutcome};
pub use replication_guarantee::ReplicationGuarantee;
pub use server_info::{
    DEFAULT_USER_UNKNOWN, Persistence, ServerInfo, UnsupportedServer, WILL_LOSE_TRANSACTIONS,
};
pub use session_list::{MAX_SESSIONS, SessionRecord};
pub use sessions::{
    EndAll, MARGIN, OpenSession, Opened, RevocationFloor, RevocationResult, RevokeSession,
};
pub use users::{NewUser, Registered, User, UserCursor};
