//! What the words mean: names, secrets, identities, claims and time.
//!
//! Everything here is pure: no Redis, no HTTP, no async. A value of one of these types has been checked once, where it
//! entered, and is not checked again. Secrets have a `Debug` that shows nothing and are wiped when dropped.

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
pub use refresh::{Origin, RefreshClaims};
pub use username::{UserTag, Username};

/// Says that a text is not of the form that a type asks for. It never carries the text itself, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;
