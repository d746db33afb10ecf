//! Revocation entries: the tokens that they refuse, and their text in the feed and in outboxes.
//!
//! There are two kinds. A session entry names the session by its id and by the tag of its user, which locates its
//! record. A user entry names the user by id, and refuses all tokens of a lower version at once, whatever the number of
//! sessions.

use std::fmt;
use std::str::FromStr;

use super::connection::StoreError;
use crate::domain::{ParseError, SessionId, Timestamp, UserId, UserTag, Username};

/// Revocation entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Refuses the tokens of a session.
    Session(SessionEntry),
    /// Refuses the tokens of a user below a version.
    User(UserEntry),
}

/// Refuses the tokens of one session, until the last of them has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEntry {
    /// Tag of the user, which locates the session's record.
    pub tag: UserTag,
    /// Id of the session.
    pub sid: SessionId,
    /// Time from which on the entry is no longer needed.
    pub until: Timestamp,
}

/// Refuses the tokens of one user that were issued under a lower version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    /// Name of the account, which locates its record.
    pub username: Username,
    /// Id of the account.
    pub id: UserId,
    /// Tokens of a lower version are refused.
    pub version: u64,
    /// Sessions opened under a lower version are void.
    pub min_session_version: u64,
    /// True if the account was deleted: all of its tokens are refused.
    pub deleted: bool,
    /// Time from which on the entry is no longer needed.
    pub until: Timestamp,
}

impl Entry {
    /// Returns the time from which on the entry is no longer needed.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        match self {
            Self::Session(entry) => entry.until,
            Self::User(entry) => entry.until,
        }
    }

    pub(super) fn parse_all(
        texts: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<Self>, StoreError> {
        let unexpected = |ParseError| StoreError::unexpected("an entry of the feed");
        let texts = texts.into_iter();
        texts
            .map(|text| text.as_ref().parse().map_err(unexpected))
            .collect()
    }
}

impl SessionEntry {
    /// Text of the entry without its date, which only Redis knows when it decides.
    pub(super) fn entry_prefix(tag: UserTag, sid: SessionId) -> String {
        format!("s:{tag}:{sid}:")
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(SessionEntry { tag, sid, until }) => {
                write!(f, "s:{tag}:{sid}:{}", until.as_millis())
            }
            Self::User(entry) => {
                let UserEntry {
                    username,
                    id,
                    version,
                    min_session_version,
                    deleted,
                    until,
                } = entry;
                let deleted = u8::from(*deleted);
                let until = until.as_millis();
                write!(
                    f,
                    "u:{username}:{id}:{version}:{min_session_version}:{deleted}:{until}"
                )
            }
        }
    }
}

impl FromStr for Entry {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| ParseError);
        let parts: Vec<_> = text.split(':').collect();
        match parts[..] {
            ["s", tag, sid, until] => Ok(Self::Session(SessionEntry {
                tag: tag.parse()?,
                sid: sid.parse()?,
                until: Timestamp::from_millis(number(until)?),
            })),
            [
                "u",
                username,
                id,
                version,
                min_session_version,
                deleted,
                until,
            ] => Ok(Self::User(UserEntry {
                username: username.parse()?,
                id: id.parse()?,
                version: number(version)?,
                min_session_version: number(min_session_version)?,
                deleted: match deleted {
                    "0" => false,
                    "1" => true,
                    _ => return Err(ParseError),
                },
                until: Timestamp::from_millis(number(until)?),
            })),
            _ => Err(ParseError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_being_written() {
        let until = Timestamp::from_millis(1_800_000_000_123);
        let session = SessionEntry {
            tag: UserTag::from_bits(0x2bd8_06c9),
            sid: SessionId::random(),
            until,
        };
        let user = UserEntry {
            username: "alice+shop@example.org".parse().unwrap(),
            id: UserId::new(),
            version: 1_800_000_000_001,
            min_session_version: 1_800_000_000_000,
            deleted: true,
            until,
        };
        for entry in [Entry::Session(session), Entry::User(user)] {
            assert_eq!(entry.to_string().parse(), Ok(entry));
        }
    }

    #[test]
    fn what_is_not_an_entry_is_refused() {
        for text in [
            "",
            "s",
            "s:2bd806c9:x:1",
            "s:2bd806c9:AAAAAAAAAAAAAAAAAAAAAA:1:2",
            "q:2bd806c9:AAAAAAAAAAAAAAAAAAAAAA:1",
            "u:alice:0197a5a2-6d2f-7c1e-9d3b-0a1b2c3d4e5f:1:1:2:1",
        ] {
            assert_eq!(text.parse::<Entry>(), Err(ParseError), "{text:?}");
        }
    }
}
