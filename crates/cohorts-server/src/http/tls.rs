//! What the service needs to speak TLS.

use anyhow::{Context, anyhow};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Tls;

/// TLS 1.2 and 1.3 by the files that are named. They are read once: new ones want a new start.
pub fn server(files: &Tls) -> anyhow::Result<ServerConfig> {
    let (cert, key) = (&files.cert, &files.key);
    let unreadable = |path: &std::path::Path| format!("cannot read {}", path.display());
    let chain = CertificateDer::pem_file_iter(cert).with_context(|| unreadable(cert))?;
    let chain: Vec<CertificateDer> = chain
        .collect::<Result<_, _>>()
        .with_context(|| unreadable(cert))?;
    let first = (!chain.is_empty()).then_some(());
    first.ok_or_else(|| anyhow!("there is no certificate in {}", cert.display()))?;
    let own = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    let provider = rustls::crypto::ring::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, own);
    config.with_context(|| format!("{} and {} are no pair", cert.display(), key.display()))
}
