//! The TLS configuration of the server, from the certificate and the key in two files.

use anyhow::{Context, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Tls;

/// TLS 1.2 and 1.3 with the certificate and the key in `files`. The files are read once, so new ones need a restart.
pub fn server_config(files: &Tls) -> anyhow::Result<ServerConfig> {
    let (cert, key) = (&files.cert, &files.key);
    let unreadable = |path: &std::path::Path| format!("cannot read {}", path.display());
    let chain = CertificateDer::pem_file_iter(cert).with_context(|| unreadable(cert))?;
    let chain: Vec<CertificateDer> = chain
        .collect::<Result<_, _>>()
        .with_context(|| unreadable(cert))?;
    if chain.is_empty() {
        bail!("there is no certificate in {}", cert.display());
    }
    let private_key = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    let provider = rustls::crypto::ring::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private_key);
    config.with_context(|| {
        format!(
            "the certificate {} and the key {} do not match",
            cert.display(),
            key.display()
        )
    })
}
