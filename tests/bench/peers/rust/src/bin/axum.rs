//! Peer for comparison: axum, which asks a denylist in Redis about each request.

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use portcullis_bench_peers::{Claims, Credentials, Site, Welcome, address};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

struct Authenticated(Claims);

impl FromRequestParts<Site> for Authenticated {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, StatusCode> {
        let header = parts.headers.get(header::AUTHORIZATION);
        let header = header.and_then(|header| header.to_str().ok());
        let claims = site.authenticate(header).await.map_err(failed)?;
        claims.map(Self).ok_or(StatusCode::UNAUTHORIZED)
    }
}

#[tokio::main]
async fn main() {
    let routes = Router::new()
        .route("/register", post(register))
        .route("/login", post(log_in))
        .route("/dashboard", get(dashboard))
        .route("/logout", post(log_out))
        .with_state(Site::open().await);
    let listener = tokio::net::TcpListener::bind(address())
        .await
        .expect("the port");
    axum::serve(listener, routes).await.expect("a server");
}

async fn register(
    State(site): State<Site>,
    Json(user): Json<Credentials>,
) -> Result<StatusCode, StatusCode> {
    let free = site.register(user).await.map_err(failed)?;
    Ok(if free {
        StatusCode::CREATED
    } else {
        StatusCode::CONFLICT
    })
}

async fn log_in(
    State(site): State<Site>,
    Json(user): Json<Credentials>,
) -> Result<Json<Value>, StatusCode> {
    let token = site.log_in(user).await.map_err(failed)?;
    let token = token.ok_or(StatusCode::UNAUTHORIZED)?;
    Ok(Json(json!({ "token": token })))
}

async fn dashboard(Authenticated(claims): Authenticated) -> Json<Welcome> {
    Json(Welcome::to(claims.username))
}

async fn log_out(
    State(site): State<Site>,
    Authenticated(claims): Authenticated,
) -> Result<StatusCode, StatusCode> {
    site.log_out(&claims).await.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT)
}

fn failed(_: redis::RedisError) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}
