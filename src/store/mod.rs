//! What is remembered in Redis, as verbs of the domain: one file per aggregate, one script per verb that must be atomic.
//!
//! Expected outcomes are enums or options. `Err` means that the store could not answer: the caller cannot know whether what
//! it asked for has happened. Every operation has a deadline; nothing here tries a write again by itself.

mod administration;
mod beat;
mod canary;
mod connection;
mod entries;
mod feed;
mod inspection;
mod keyspace;
mod password_change;
mod private;
mod promise;
mod refresh;
mod session_list;
mod sessions;
mod throttles;
mod users;

pub use administration::{Change, Seen};
pub use beat::Beats;
pub use connection::{DEADLINE, Redis, ShardSeen, StoreError};
pub use entries::{Entry, SessionEntry, UserEntry};
pub use feed::{Feed, HistoryId, Page, SETTLING, settling_after_restart};
pub use inspection::{Inspection, Persistence, Unfit, WILL_LOSE_TRANSACTIONS};
pub use keyspace::Keyspace;
pub use password_change::{ChangePassword, Written};
pub use private::{PrivateRedis, become_redis_server};
pub use promise::Promise;
pub use refresh::{Rotate, Rotated, Rotation, Succession, Successor};
pub use session_list::{MOST_SESSIONS, SessionRecord};
pub use sessions::{Decided, EndAll, Known, MARGIN, OpenSession, Opened, RevokeSession};
pub use throttles::{Reservation, Reserved, Throttled};
pub use users::{NewUser, Registered, User, UserCursor};
