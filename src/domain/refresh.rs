//! Claims of a refresh token, and the client that opened a session.

use std::net::IpAddr;

use super::{SessionId, UserId, Username};

/// Claims of a refresh token whose MAC is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshClaims {
    /// Account.
    pub user: UserId,
    /// Username; its hash tag locates the session's record in Redis.
    pub username: Username,
    /// Session.
    pub sid: SessionId,
    /// Sequence number of the token within the session, from 1.
    pub number: u64,
}

/// Client that opened a session, as shown in the user's list of sessions.
#[derive(Debug, Clone, Default)]
pub struct ClientInfo {
    /// `User-Agent` of the client.
    pub user_agent: String,
    /// Address of the client, as far as proxies are trusted.
    pub address: Option<IpAddr>,
}

/// Maximum number of characters that are kept of a `User-Agent`.
const MAX_USER_AGENT_CHARS: usize = 200;

impl ClientInfo {
    /// Truncates the `User-Agent` and removes control characters.
    #[must_use]
    pub fn new(user_agent: &str, address: Option<IpAddr>) -> Self {
        let plain = user_agent.chars().filter(|letter| !letter.is_control());
        Self {
            user_agent: plain.take(MAX_USER_AGENT_CHARS).collect(),
            address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_truncated_and_has_no_control_characters() {
        let client = ClientInfo::new(&format!("a\u{1b}[31m\n{}", "é".repeat(300)), None);
        assert_eq!(client.user_agent.chars().count(), 200);
        assert!(client.user_agent.starts_with("a[31mé"));
    }
}
