//! Upper limit of the framework that Portcullis is built with: bare poem, which answers a dashboard to every client.

use poem::listener::TcpListener;
use poem::web::Json;
use poem::{Route, Server, get, handler};
use portcullis_bench_peers::{Welcome, address};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let routes = Route::new().at("/dashboard", get(dashboard));
    Server::new(TcpListener::bind(address())).run(routes).await
}

#[handler]
fn dashboard() -> Json<Welcome> {
    Json(Welcome::to("bench".to_owned()))
}
