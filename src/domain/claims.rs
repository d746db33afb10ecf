//! Claims of an access token.

use serde::{Deserialize, Serialize};

use super::{Role, SessionId, TokenId, UserId, Username};

/// Claims of an access token (RFC 9068 §2.2), with `sid`, `ver` and `username` of this service.
///
/// Every member is required and has exactly this type. A token in which one is missing, repeated or of another type does not
/// parse and is refused. Dates are whole seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Issuer: one URL for all replicas.
    pub iss: String,
    /// Subject: the user's id.
    pub sub: UserId,
    /// Audience.
    pub aud: String,
    /// Client that the token was issued to. RFC 9068 requires one; this service names itself.
    pub client_id: String,
    /// Expiry.
    pub exp: u64,
    /// Start of validity.
    pub nbf: u64,
    /// Time of issue.
    pub iat: u64,
    /// Id of the token.
    pub jti: TokenId,
    /// Session of the token; a logout revokes the session.
    pub sid: SessionId,
    /// User's version at the time of issue. Raising the version refuses all earlier tokens of the user.
    pub ver: u64,
    /// Username at the time of issue.
    pub username: Username,
    /// Roles at the time of issue.
    pub roles: Vec<Role>,
}
