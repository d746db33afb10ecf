//! Domain types: names, passwords, identities, claims and time.
//!
//! Everything here is pure: no Redis, no HTTP, no async. A value of one of these types is checked once, when it is parsed, and
//! not again. Secrets have a `Debug` that shows nothing and are wiped when dropped.

mod attempt;
mod claims;
mod clock;
mod identity;
mod password;
mod refresh;
mod username;

pub use attempt::{AttemptedName, Guess, Network, Rate};
pub use claims::AccessClaims;
pub use clock::{Clock, Timestamp, Uptime};
pub use identity::{Role, SessionId, TokenId, UserId};
pub use password::{Password, PasswordHash, PasswordRule, Scheme};
pub use refresh::{ClientInfo, RefreshClaims};
pub use username::{UserTag, Username};

/// A text does not have the form of the type. The error never carries the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError;
