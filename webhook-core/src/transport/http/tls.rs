//! TLS for the HTTP client, without touching the process's default crypto provider.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

use crate::error::BoxError;

/// TLS 1.2 and 1.3 by `ring`, verified by the operating system's roots and those in `extra_roots` (PEM).
pub(super) fn config(extra_roots: &[u8]) -> Result<ClientConfig, BoxError> {
    let provider = Arc::new(ring::default_provider());
    let extra = certificates(extra_roots)?;
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous() // Means "custom": the verifier is the platform's.
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BoxError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() && !pem.is_empty() {
        return Err("the PEM holds no certificate".into());
    }
    Ok(found)
}
