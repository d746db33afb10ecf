//! `GET /dashboard`: an example of a protected route.

use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;

use super::Tag;
use super::authenticated::Authenticated;
use super::json_payload::JsonPayload;
use super::problem::ApiError;
use crate::domain::{Role, Timestamp};

/// Dashboard of a user.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
pub struct DashboardBody {
    /// Greeting
    message: String,
    /// Claims of the token
    data: DashboardData,
}

/// Claims of the token.
#[derive(Debug, Object, Serialize)]
pub(super) struct DashboardData {
    /// ID of the account
    user_id: String,
    /// ID of the session
    session_id: String,
    /// Roles of the account, for access beyond its own data
    roles: Vec<String>,
    /// Time at which the token expires (RFC 3339)
    expires_at: String,
}

impl poem_openapi::types::Example for DashboardBody {
    fn example() -> Self {
        Self {
            message: "Welcome alice".to_owned(),
            data: DashboardData {
                user_id: "0197a5a2-6d2f-7c1e-9d3b-0a1b2c3d4e5f".to_owned(),
                session_id: "q83vEjRWeJASNFZ4kBI0Vg".to_owned(),
                roles: Vec::new(),
                expires_at: "2026-01-31T13:00:00Z".to_owned(),
            },
        }
    }
}

/// Responses to reading the dashboard.
#[derive(ApiResponse)]
pub enum DashboardResponse {
    /// The token is valid.
    #[oai(status = 200)]
    Ok(JsonPayload<DashboardBody>),
}

/// Route of this file.
pub(super) struct DashboardApi;

#[OpenApi]
impl DashboardApi {
    /// Get the dashboard
    ///
    /// Answers from the token alone, without a request to Redis, and still rejects a token that was logged out on any replica.
    #[oai(path = "/dashboard", method = "get", tag = Tag::Quickstart, operation_id = "getDashboard")]
    #[expect(
        clippy::unused_async,
        reason = "poem-openapi takes async handlers only"
    )]
    async fn get_dashboard(
        &self,
        Authenticated(claims): Authenticated,
    ) -> Result<DashboardResponse, ApiError> {
        Ok(DashboardResponse::Ok(JsonPayload(DashboardBody {
            message: format!("Welcome {}", claims.username),
            data: DashboardData {
                user_id: claims.sub.to_string(),
                session_id: claims.sid.to_string(),
                roles: claims.roles.iter().cloned().map(Role::into).collect(),
                expires_at: Timestamp::from_secs(claims.exp).to_string(),
            },
        })))
    }
}
