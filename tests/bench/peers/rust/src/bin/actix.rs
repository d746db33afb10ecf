//! Peer for comparison: actix-web, which asks a denylist in Redis about each request.

use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::error::{ErrorServiceUnavailable, ErrorUnauthorized};
use actix_web::http::header;
use actix_web::web::{Data, Json};
use actix_web::{App, Error, FromRequest, HttpRequest, HttpResponse, HttpServer, get, post};
use portcullis_bench_peers::{Claims, Credentials, Site, Welcome, address};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

struct Authenticated(Claims);

impl FromRequest for Authenticated {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let header = request.headers().get(header::AUTHORIZATION);
            let header = header.and_then(|header| header.to_str().ok());
            let site = request.app_data::<Data<Site>>().expect("the site");
            let claims = site
                .authenticate(header)
                .await
                .map_err(ErrorServiceUnavailable)?;
            claims
                .map(Self)
                .ok_or_else(|| ErrorUnauthorized("unauthorized"))
        })
    }
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let site = Data::new(Site::open().await);
    HttpServer::new(move || {
        App::new()
            .app_data(site.clone())
            .service(register)
            .service(log_in)
            .service(dashboard)
            .service(log_out)
    })
    .bind(address())?
    .run()
    .await
}

#[post("/register")]
async fn register(site: Data<Site>, user: Json<Credentials>) -> Result<HttpResponse, Error> {
    let free = site
        .register(user.into_inner())
        .await
        .map_err(ErrorServiceUnavailable)?;
    Ok(if free {
        HttpResponse::Created()
    } else {
        HttpResponse::Conflict()
    }
    .finish())
}

#[post("/login")]
async fn log_in(site: Data<Site>, user: Json<Credentials>) -> Result<HttpResponse, Error> {
    let token = site
        .log_in(user.into_inner())
        .await
        .map_err(ErrorServiceUnavailable)?;
    let token = token.ok_or_else(|| ErrorUnauthorized("unauthorized"))?;
    Ok(HttpResponse::Ok().json(json!({ "token": token })))
}

#[get("/dashboard")]
async fn dashboard(Authenticated(claims): Authenticated) -> Json<Welcome> {
    Json(Welcome::to(claims.username))
}

#[post("/logout")]
async fn log_out(
    site: Data<Site>,
    Authenticated(claims): Authenticated,
) -> Result<HttpResponse, Error> {
    site.log_out(&claims)
        .await
        .map_err(ErrorServiceUnavailable)?;
    Ok(HttpResponse::NoContent().finish())
}
