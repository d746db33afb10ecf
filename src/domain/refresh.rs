//! What a refresh token says, and where a session was opened.

use std::net::IpAddr;

use super::{SessionId, UserId, Username};

/// What a refresh token says, once its MAC was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshClaims {
    /// The account.
    pub user: UserId,
    /// Its name, which says where the session's record lies.
    pub username: Username,
    /// The session.
    pub sid: SessionId,
    /// Its number among those of the session, from 1.
    pub number: u64,
}

/// Where a session is opened: what its owner will know it by.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The program, as it calls itself.
    pub user_agent: String,
    /// The client's address, as far as proxies can be believed.
    pub address: Option<IpAddr>,
}

/// Of what a client says of itself so many characters are kept.
const MOST_CHARACTERS: usize = 200;

impl Origin {
    /// Keeps the beginning of what a client calls itself, without control characters.
    #[must_use]
    pub fn new(user_agent: &str, address: Option<IpAddr>) -> Self {
        let plain = user_agent.chars().filter(|letter| !letter.is_control());
        Self {
            user_agent: plain.take(MOST_CHARACTERS).collect(),
            address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_calls_itself_is_cut_and_plain() {
        let origin = Origin::new(&format!("a\u{1b}[31m\n{}", "é".repeat(300)), None);
        assert_eq!(origin.user_agent.chars().count(), 200);
        assert!(origin.user_agent.starts_with("a[31mé"));
    }
}
