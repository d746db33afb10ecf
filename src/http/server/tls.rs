//! TLS on the public address: TLS 1.2 and 1.3, with a certificate that is read again when its file changes.
//!
//! There is no fallback to plaintext: a client that speaks it fails the handshake. If a new certificate cannot be read, or does
//! not belong to its key, the previous one stays in use and the log names the new one. Open connections keep their certificate.

use std::{io, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::auth::file_watch::poll_each_second;
use crate::config::TlsFiles;

/// TLS acceptor with a replaceable certificate.
pub struct Tls {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: Arc<CurrentCertificate>,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// Certificate in use.
#[derive(Debug)]
struct CurrentCertificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Content of the certificate file and of the key file.
type Content = (Vec<u8>, Vec<u8>);

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// A sentence that names the setting whose file is invalid.
    pub fn open(files: TlsFiles) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pair = pair(&read(&files)?, &provider)?;
        let current = Arc::new(CurrentCertificate(ArcSwap::from_pointee(pair)));
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| format!("TLS: {error}"))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            files,
            provider,
            current,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Completes the handshake; returns `None` if it fails or misses the deadline.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        deadline: Instant,
    ) -> Option<TlsStream<TcpStream>> {
        let handshake = timeout_at(deadline, self.acceptor.accept(stream));
        handshake.await.ok()?.ok()
    }

    /// Checks the files each second until `stop` is cancelled.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let check = move |watcher: &mut CertificateWatcher| watcher.check(&self);
        poll_each_second(CertificateWatcher::default(), check, stop).await;
    }
}

/// Contents of the files at earlier checks.
#[derive(Default)]
struct CertificateWatcher {
    /// At the last check.
    last: Option<Result<Content, String>>,
    /// When they were last accepted or rejected.
    checked: Option<Result<Content, String>>,
}

impl CertificateWatcher {
    /// Loads files that were equal at two checks: two files are not replaced in one moment.
    fn check(&mut self, tls: &Tls) {
        let content = Some(read(&tls.files));
        let is_stable = content == self.last;
        self.last = content;
        if !is_stable || self.last == self.checked {
            return;
        }
        self.checked.clone_from(&self.last);
        let Some(content) = &self.last else { return };
        let found = content.as_ref().map_err(Clone::clone);
        match found.and_then(|content| pair(content, &tls.provider)) {
            Ok(new) if new.cert == tls.current.0.load().cert => {}
            Ok(new) => {
                tls.current.0.store(Arc::new(new));
                info!(event = "tls", "the certificate has changed");
            }
            Err(why) => {
                warn!(event = "tls", %why, "the new certificate is invalid; the previous one stays in use");
            }
        }
    }
}

fn read(files: &TlsFiles) -> Result<Content, String> {
    let read = |setting: &str, file: &Path| {
        std::fs::read(file)
            .map_err(|error: io::Error| format!("{setting}: {}: {error}", file.display()))
    };
    Ok((
        read("TLS_CERT", &files.certificate)?,
        read("TLS_KEY", &files.key)?,
    ))
}

fn pair((certificate, key): &Content, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or("TLS_CERT: no certificate in PEM")?;
    // A parser's error about a key may repeat part of the key.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "TLS_KEY: no private key in PEM")?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "TLS_KEY: not the key of the certificate in TLS_CERT".to_owned()
        }
        _ => "TLS_KEY: the type of the private key is not supported".to_owned(),
    })
}
