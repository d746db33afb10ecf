//! TLS on the public address: TLS 1.2 and 1.3, with a certificate that is read again when its file changes.
//!
//! Nothing falls back to plaintext: a client that speaks it fails the handshake. A new certificate that cannot be read, or that
//! does not belong to its key, leaves the one before in use and is named in the log; connections that are open keep theirs.

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

/// What the certificate's file and the key's hold.
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
        poll_each_second(Watch::default(), look, stop).await;
    }
}

/// What was seen of the files so far.
#[derive(Default)]
struct Watch {
    /// At the last look.
    last: Option<Result<Content, String>>,
    /// When they were last taken or turned down.
    judged: Option<Result<Content, String>>,
}

impl Watch {
    /// Judges what has stood still for two looks: two files are not replaced in one moment.
    fn look(&mut self, tls: &Tls) {
        let content = Some(read(&tls.files));
        let is_still = content == self.last;
        self.last = content;
        if !is_still || self.last == self.judged {
            return;
        }
        self.judged.clone_from(&self.last);
        let Some(content) = &self.last else { return };
        let found = content.as_ref().map_err(Clone::clone);
        match found.and_then(|content| pair(content, &tls.provider)) {
            Ok(new) if new.cert == tls.present.0.load().cert => {}
            Ok(new) => {
                tls.present.0.store(Arc::new(new));
                info!(event = "tls", "the certificate has changed");
            }
            Err(why) => {
                warn!(event = "tls", %why, "the new certificate is no good; the one before stays in use");
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
    // What a parser says of a key may repeat some of it.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "TLS_KEY: no private key in PEM")?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "TLS_KEY: not the key of the certificate in TLS_CERT".to_owned()
        }
        _ => "TLS_KEY: no private key of a kind that is known".to_owned(),
    })
}
