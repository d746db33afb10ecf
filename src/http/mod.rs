//! HTTP interface: routes, one file per resource, and middleware.
//!
//! A handler takes parsed types, makes one call into `auth`, and translates the outcome. The types of its parameters decide
//! which requests may reach it.

mod accounts;
mod audit;
mod authenticated;
mod body;
pub mod context;
mod cookie_auth;
mod cors;
mod dashboard;
mod discovery;
pub mod docs;
mod introspection;
mod json_payload;
mod keys;
pub mod management;
mod oauth;
mod observe;
mod password;
mod problem;
mod refresh;
mod routes;
pub mod server;
mod sessions;
mod users;
mod verify;

use std::sync::Arc;

use ipnet::IpNet;
use poem::http::StatusCode;
use poem::middleware::AddData;
use poem::{Endpoint, EndpointExt, IntoEndpoint, IntoResponse, Response};
use poem_openapi::{OpenApiService, Tags};

use self::accounts::AccountsApi;
use self::audit::Audit;
use self::body::BufferedBody;
pub use self::cors::BrowserRules;
use self::cors::CorsAndCookies;
use self::dashboard::DashboardApi;
use self::discovery::{DiscoveryApi, Metadata};
use self::docs::{Docs, PAGES};
use self::introspection::IntrospectionApi;
use self::keys::KeysApi;
use self::observe::RequestTelemetry;
use self::password::PasswordApi;
use self::problem::{ApiError, ProblemCode};
use self::refresh::RefreshApi;
use self::routes::Routes;
use self::sessions::SessionsApi;
use self::users::UsersApi;
use self::verify::{AnyMethod, VerifyApi};
use crate::auth::accounts::Accounts;
use crate::auth::administration::Administration;
use crate::auth::clients::Clients;
use crate::auth::keyring::KeyStore;
use crate::auth::passwords::Passwords;
use crate::auth::sessions::Sessions;
use crate::domain::Clock;
use crate::telemetry::{LogLimiter, Metrics};

/// Groups of operations in the document; `docs::PATHS` gives their order.
#[derive(Tags)]
enum Tag {
    /// Register, log in, use the token, refresh it, log out: press Execute from top to bottom.
    Quickstart,
    /// Your own account.
    Account,
    /// Your own sessions.
    Sessions,
    /// For services that verify tokens, locally or by a request.
    Services,
    /// Accounts of other users, for administrators.
    Administration,
}

/// Services that the routes call.
#[derive(Debug, Clone)]
pub struct Services {
    /// Accounts.
    pub accounts: Arc<Accounts>,
    /// Administration of other accounts.
    pub administration: Arc<Administration>,
    /// Passwords.
    pub passwords: Arc<Passwords>,
    /// Sessions.
    pub sessions: Arc<Sessions>,
    /// OAuth clients: services with credentials.
    pub clients: Arc<Clients>,
    /// Issuer of the tokens.
    pub issuer: String,
    /// Signing keys.
    pub keys: Arc<KeyStore>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Clock.
    pub clock: Clock,
}

/// State with which extractors authenticate requests.
#[derive(Debug, Clone)]
struct AuthState {
    sessions: Arc<Sessions>,
    clients: Arc<Clients>,
}

type Api = (
    AccountsApi,
    PasswordApi,
    SessionsApi,
    RefreshApi,
    UsersApi,
    DashboardApi,
    VerifyApi,
    KeysApi,
    IntrospectionApi,
    DiscoveryApi,
);

/// Endpoint of the public address.
#[must_use]
pub fn public(
    services: Services,
    trusted_proxies: Vec<IpNet>,
    rules: BrowserRules,
    with_docs: bool,
) -> impl Endpoint<Output = Response> {
    let rules = Arc::new(rules);
    let service = openapi_service(&services);
    let docs = Docs::new(&service);
    let pages: &[&str] = if with_docs { &PAGES } else { &[] };
    let known = Arc::new(Routes::new(docs.document(), pages));

    let operations = service.into_endpoint();
    let routes = if with_docs {
        docs.in_front_of(operations).boxed()
    } else {
        operations
    };

    // From the inside out: state of the extractors, body buffering, CORS and cookies, telemetry and error responses.
    let routes = AnyMethod(routes.with(AddData::new(AuthState {
        sessions: services.sessions,
        clients: services.clients,
    })));
    RequestTelemetry {
        inner: CorsAndCookies {
            inner: BufferedBody(routes),
            rules: Arc::clone(&rules),
        },
        rules,
        routes: known,
        trusted_proxies,
        metrics: services.metrics,
        lines: LogLimiter::new(services.clock.clone()),
        clock: services.clock,
    }
}

/// OpenAPI document; it depends on no setting.
#[must_use]
pub fn document(services: &Services) -> String {
    Docs::new(&openapi_service(services)).text()
}

fn openapi_service(services: &Services) -> OpenApiService<Api, ()> {
    let audit = Audit::new(Arc::clone(&services.metrics));
    let accounts = AccountsApi {
        accounts: Arc::clone(&services.accounts),
        passwords: Arc::clone(&services.passwords),
        audit: audit.clone(),
    };
    let sessions = SessionsApi {
        sessions: Arc::clone(&services.sessions),
        audit: audit.clone(),
    };
    let password = PasswordApi {
        sessions: Arc::clone(&services.sessions),
        audit: audit.clone(),
    };
    let refresh = RefreshApi {
        sessions: Arc::clone(&services.sessions),
        audit: audit.clone(),
    };
    let users = UsersApi {
        administration: Arc::clone(&services.administration),
        audit: audit.clone(),
    };
    let introspection = IntrospectionApi {
        sessions: Arc::clone(&services.sessions),
        audit,
    };
    let discovery = DiscoveryApi {
        metadata: Metadata::new(&services.issuer, !services.clients.is_empty()),
    };
    let keys = KeysApi {
        keys: Arc::clone(&services.keys),
    };
    let apis = (
        accounts,
        password,
        sessions,
        refresh,
        users,
        DashboardApi,
        VerifyApi,
        keys,
        introspection,
        discovery,
    );
    OpenApiService::new(apis, "Portcullis", env!("CARGO_PKG_VERSION"))
        .description(
            "Token authentication. Register, log in, get a JSON Web Token, and revoke it: once a logout has answered, no replica accepts the token.\n\n\
             To try it in Swagger UI: open `/register`, `/login` and `/dashboard` in turn and press Execute in each. The page keeps the token of a login and sends it with every request.",
        )
        // Relative to this document, so that the path prefix of a proxy is kept.
        .server(".")
}

/// Response to a request that the server rejects before it reaches a route.
#[must_use]
pub fn reject(status: StatusCode) -> Response {
    let code = match status {
        StatusCode::REQUEST_TIMEOUT => ProblemCode::RequestTimeout,
        StatusCode::URI_TOO_LONG => ProblemCode::UriTooLong,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ProblemCode::HeadersTooLarge,
        _ => ProblemCode::MalformedRequest,
    };
    ApiError::new(code).closing_connection().into_response()
}
