//! TLS on the public address: TLS 1.2 and 1.3, with a certificate that is read again when its file changes.
//!
//! Nothing falls back to plaintext: a client that speaks it fails the handshake. A new certificate that cannot be read, or that
//! does not belong to its key, leaves the one before in use and is named in the log; connections that are open keep theirs.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

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

use crate::auth::looking::look_each_second;

/// Where the certificate and its key are, in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, followed by those of the authorities between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What greets clients over TLS.
pub struct Tls {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    present: Arc<Present>,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// The certificate in use.
#[derive(Debug)]
struct Present(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Present {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// What the files hold.
type Content = (Vec<u8>, Vec<u8>);

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// A sentence that names the setting whose file is no good.
    pub fn open(files: TlsFiles) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pair = pair(&read(&files)?, &provider)?;
        let present = Arc::new(Present(ArcSwap::from_pointee(pair)));
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| format!("TLS: {error}"))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&present) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            files,
            provider,
            present,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Shakes hands; none with a client that has not done so by the deadline, or cannot.
    pub(super) async fn greet(
        &self,
        stream: TcpStream,
        deadline: Instant,
    ) -> Option<TlsStream<TcpStream>> {
        let hands = timeout_at(deadline, self.acceptor.accept(stream));
        hands.await.ok()?.ok()
    }

    /// Looks at the files each second until told to stop.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let look = move |watch: &mut Watch| watch.look(&self);
        look_each_second(Watch::default(), look, stop).await;
    }
}

/// What was seen of the files so far.
#[derive(Default)]
struct Watch {
    /// What they held when they were last found good or bad.
    seen: Option<Result<Content, String>>,
    /// What is wrong with them, seen once: two files are not replaced in one moment.
    doubt: Option<String>,
    complained: bool,
}

impl Watch {
    fn look(&mut self, tls: &Tls) {
        let content = read(&tls.files);
        if self.seen.as_ref() == Some(&content) && self.doubt.is_none() {
            return;
        }
        let good = content
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|content| pair(content, &tls.provider));
        let is_first = self.seen.is_none();
        match good {
            Ok(pair) => {
                if !is_first || self.complained {
                    info!(event = "tls", "the certificate has changed");
                }
                tls.present.0.store(Arc::new(pair));
                (self.doubt, self.complained) = (None, false);
            }
            Err(why) if self.doubt.as_ref() == Some(&why) => {
                if !self.complained {
                    warn!(event = "tls", %why, "the new certificate is no good; the one before stays in use");
                }
                (self.doubt, self.complained) = (None, true);
            }
            Err(why) => self.doubt = Some(why),
        }
        self.seen = Some(content);
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
    // What a parser says of a key may repeat some of it.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "TLS_KEY: no private key in PEM")?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "TLS_KEY: not the key of the certificate in TLS_CERT".to_owned()
        }
        _ => "TLS_KEY: no private key of a kind that is known".to_owned(),
    })
}
