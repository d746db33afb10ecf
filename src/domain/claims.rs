//! The claims of an access token.

use serde::{Deserialize, Serialize};

use super::{Role, SessionId, TokenId, UserId, Username};

/// What an access token says (RFC 9068 §2.2, and ours).
///
/// Every member is required and has exactly this type: a token in which one is missing, doubled or of another type does
/// not parse, and so is not a token of ours. Dates are whole seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Who issued it: one URL for all replicas.
    pub iss: String,
    /// Whom it speaks of.
    pub sub: UserId,
    /// Whom it is meant for.
    pub aud: String,
    /// The client it was issued to; RFC 9068 asks for one, and this service has only itself.
    pub client_id: String,
    /// When it expires.
    pub exp: u64,
    /// From when on it is valid.
    pub nbf: u64,
    /// When it was issued.
    pub iat: u64,
    /// The token's own identity.
    pub jti: TokenId,
    /// The session it belongs to; a logout revokes this.
    pub sid: SessionId,
    /// The user's version when it was issued; what must refuse all earlier tokens of a user raises it.
    pub ver: u64,
    /// The name of the account when it was issued.
    pub username: Username,
    /// The roles of the account when it was issued.
    pub roles: Vec<Role>,
}
