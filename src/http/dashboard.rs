//! `GET /dashboard`: what a protected route looks like.

use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;

use super::Tag;
use super::answer::Answer;
use super::authenticated::Authenticated;
use super::problem::ApiError;
use crate::domain::{Role, Timestamp};

/// A page for one user.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
pub struct DashboardBody {
    /// A greeting
    message: String,
    /// What the token says
    data: DashboardData,
}

/// What the token says.
#[derive(Debug, Object, Serialize)]
pub(super) struct DashboardData {
    /// Identifies the account
    user_id: String,
    /// Identifies the session
    session_id: String,
    /// What the account may do beyond its own affairs
    roles: Vec<String>,
    /// When the token expires (RFC 3339)
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

/// A dashboard.
#[derive(ApiResponse)]
pub enum DashboardResponse {
    /// The token is good.
    #[oai(status = 200)]
    Welcome(Answer<DashboardBody>),
}

/// The route of this file.
pub(super) struct DashboardApi;

#[OpenApi]
impl DashboardApi {
    /// See the dashboard
    ///
    /// Answers from the token alone: the service asks nobody, and still refuses a token that was logged out on any replica.
    #[oai(path = "/dashboard", method = "get", tag = Tag::Quickstart, operation_id = "dashboard")]
    #[expect(
        clippy::unused_async,
        reason = "poem-openapi takes async handlers only"
    )]
    async fn dashboard(
        &self,
        Authenticated(claims): Authenticated,
    ) -> Result<DashboardResponse, ApiError> {
        Ok(DashboardResponse::Welcome(Answer(DashboardBody {
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
