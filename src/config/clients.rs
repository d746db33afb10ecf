//! Services that may introspect and revoke tokens, with their credentials.

use std::path::PathBuf;

use clap::Args;

use super::errors::ErrorCollector;
use super::secrets::{Secret, secret};
use super::values::Parsed;

/// Options of this group, before they are checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Clients")]
pub(super) struct ClientSettings {
    /// CLIENTS: services that may use /introspect and /revoke, as id:secret separated by commas; each secret at least 32 bytes.
    /// A secret: set the variable CLIENTS, or name a file here. Without either, no client may
    #[arg(long, env = "CLIENTS_FILE", value_name = "FILE")]
    clients_file: Option<Parsed<PathBuf>>,
}

/// A service with credentials.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Client identifier (RFC 6749 §2.2).
    pub id: String,
    /// Secret that authenticates the client.
    pub secret: Secret,
}

impl ClientSettings {
    pub(super) fn check(self, errors: &mut ErrorCollector) -> Vec<ClientConfig> {
        let Some(given) = errors
            .secret(secret("CLIENTS", self.clients_file))
            .ok()
            .flatten()
        else {
            return Vec::new();
        };
        let mut clients: Vec<ClientConfig> = Vec::new();
        for client in given.expose().split([',', '\n']).map(str::trim) {
            if client.is_empty() {
                continue;
            }
            let fits = |id: &str| {
                (1..=64).contains(&id.len())
                    && id
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            };
            let Some((id, secret)) = client.split_once(':').filter(|(id, _)| fits(id)) else {
                errors.add(
                    "CLIENTS",
                    "must be id:secret separated by commas, each id of at most 64 of a-z A-Z 0-9 - _ .",
                );
                return Vec::new();
            };
            let (id, secret) = (id.to_owned(), Secret::new(secret.to_owned()));
            if clients.iter().any(|other| other.id == id) {
                errors.add("CLIENTS", "names a client twice");
            }
            if let Some(weakness) = secret.weakness() {
                errors.add(
                    "CLIENTS",
                    &format!("one of its secrets {weakness}; make one with: openssl rand -hex 32"),
                );
            }
            clients.push(ClientConfig { id, secret });
        }
        clients
    }
}
