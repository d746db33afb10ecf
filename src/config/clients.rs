//! Services that may ask about tokens and revoke them, with credentials of their own.

use std::path::PathBuf;

use clap::Args;

use super::report::Report;
use super::secrets::{Secret, secret};
use super::values::Given;

/// As written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Clients")]
pub(super) struct ClientSettings {
    /// CLIENTS: services that may use /introspect and /revoke, as id:secret separated by commas; each secret at least 32 bytes.
    /// A secret: set the variable CLIENTS, or name a file here. Without either nobody may
    #[arg(long, env = "CLIENTS_FILE", value_name = "FILE")]
    clients_file: Option<Given<PathBuf>>,
}

/// A service with credentials.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// How it calls itself.
    pub id: String,
    /// What shows that it is it.
    pub secret: Secret,
}

impl ClientSettings {
    pub(super) fn check(self, report: &mut Report) -> Vec<ClientConfig> {
        let Some(given) = report
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
                report.mistake(
                    "CLIENTS",
                    "must be id:secret separated by commas, each id of at most 64 of a-z A-Z 0-9 - _ .",
                );
                return Vec::new();
            };
            let (id, secret) = (id.to_owned(), Secret::new(secret.to_owned()));
            if clients.iter().any(|other| other.id == id) {
                report.mistake("CLIENTS", "names a client twice");
            }
            if let Some(weakness) = secret.weakness() {
                report.mistake(
                    "CLIENTS",
                    &format!("one of its secrets {weakness}; make one with: openssl rand -hex 32"),
                );
            }
            clients.push(ClientConfig { id, secret });
        }
        clients
    }
}
