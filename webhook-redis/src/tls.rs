//! TLS to the server, without a change of the process's default crypto provider.

use std::sync::Arc;

use fred::types::config::{TlsConfig, TlsConnector};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_platform_verifier::Verifier;

/// TLS 1.2 and 1.3 by `ring`, verified by the operating system's roots.
pub(crate) fn config() -> Result<TlsConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(Arc::clone(&provider))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous() // Means "custom": the verifier is the platform's.
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(TlsConnector::from(config).into())
}
