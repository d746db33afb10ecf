//! How it is spoken: all routes, then all middleware, in order; one file per resource.
//!
//! A handler takes parsed types, makes one call into `auth`, and translates the outcome. Whether a request may reach it is
//! said by the types it takes.

mod accounts;
mod answer;
mod audit;
mod authenticated;
mod body;
mod browsers;
pub mod context;
mod cookies;
mod dashboard;
mod discovery;
pub mod docs;
mod introspection;
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
use self::body::WholeBodies;
pub use self::browsers::BrowserRules;
use self::browsers::Browsers;
use self::dashboard::DashboardApi;
use self::discovery::{DiscoveryApi, Metadata};
use self::docs::{Docs, PAGES};
use self::introspection::IntrospectionApi;
use self::keys::KeysApi;
use self::observe::Observed;
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
use crate::auth::keyring::Keys;
use crate::auth::passwords::Passwords;
use crate::auth::sessions::Sessions;
use crate::domain::Clock;
use crate::telemetry::{LogLimiter, Metrics};

/// Groups of operations in the document, which orders them by `docs::PATHS`.
#[derive(Tags)]
enum Tag {
    /// Register, log in, use the token, refresh it, log out: press Execute from top to bottom.
    Quickstart,
    /// One's own account.
    Account,
    /// One's own sessions.
    Sessions,
    /// For services that verify tokens, by themselves or here.
    Services,
    /// Accounts of other users, for administrators.
    Administration,
}

/// What the routes call.
#[derive(Debug, Clone)]
pub struct Services {
    /// Accounts.
    pub accounts: Arc<Accounts>,
    /// Administration of the accounts of others.
    pub administration: Arc<Administration>,
    /// Passwords.
    pub passwords: Arc<Passwords>,
    /// Sessions.
    pub sessions: Arc<Sessions>,
    /// Services with credentials.
    pub clients: Arc<Clients>,
    /// Who issues the tokens.
    pub issuer: String,
    /// Signing keys.
    pub keys: Arc<Keys>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Clock,
}

/// What extractors ask about who is asking.
#[derive(Debug, Clone)]
struct Asked {
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

/// Everything that clients reach.
#[must_use]
pub fn public(
    services: Services,
    trusted_proxies: Vec<IpNet>,
    rules: BrowserRules,
    with_docs: bool,
) -> impl Endpoint<Output = Response> {
    let rules = Arc::new(rules);
    let service = service(&services);
    let docs = Docs::of(&service);
    let pages: &[&str] = if with_docs { &PAGES } else { &[] };
    let known = Arc::new(Routes::new(docs.document(), pages));

    let operations = service.into_endpoint();
    let routes = if with_docs {
        docs.before(operations).boxed()
    } else {
        operations
    };

    // From the inside out: the sessions that the bearer extractor asks; whole bodies; what browsers want; and around it, what turns
    // everything into an answer and measures it.
    let routes = AnyMethod(routes.with(AddData::new(Asked {
        sessions: services.sessions,
        clients: services.clients,
    })));
    Observed {
        inner: Browsers {
            inner: WholeBodies(routes),
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

/// The OpenAPI document, which depends on no setting.
#[must_use]
pub fn document(services: &Services) -> String {
    Docs::of(&service(services)).text()
}

fn service(services: &Services) -> OpenApiService<Api, ()> {
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
        metadata: Metadata::new(&services.issuer, services.clients.are_there()),
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
            "Token authentication. Register, log in, get a JSON Web Token, and take it back: once a logout has answered, no replica accepts the token.\n\n\
             To try it in Swagger UI: open `/register`, `/login` and `/dashboard` in turn and press Execute in each. The page keeps the token of a login and sends it with every request.",
        )
        // Relative to this document, so that the path prefix of a proxy is kept.
        .server(".")
}

/// The answer to a request that the server refuses before any route sees it.
#[must_use]
pub fn refusal(status: StatusCode) -> Response {
    let code = match status {
        StatusCode::REQUEST_TIMEOUT => ProblemCode::RequestTimeout,
        StatusCode::URI_TOO_LONG => ProblemCode::UriTooLong,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ProblemCode::HeadersTooLarge,
        _ => ProblemCode::MalformedRequest,
    };
    ApiError::new(code).closing().into_response()
}
