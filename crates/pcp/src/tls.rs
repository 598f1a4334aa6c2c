//! TLS as tls.conf says (PCPIntro(1), "SECURE PMCD CONNECTIONS"), by rustls.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};

use crate::connection::config;

/// What a tls.conf says. Paths are PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's key.
    pub key: Option<PathBuf>,
    /// The server's certificate, and those that lead from it to an authority.
    pub certificate: Option<PathBuf>,
    /// Authorities that the other end's certificate may be of.
    pub authorities: Option<PathBuf>,
    /// A folder of such files.
    pub authorities_folder: Option<PathBuf>,
    /// A client's key.
    pub client_key: Option<PathBuf>,
    /// A client's certificate.
    pub client_certificate: Option<PathBuf>,
    /// Whether a server looks at the certificates that clients have.
    pub verify_clients: bool,
    /// Names of the suites of TLS 1.3 that may be used; all when empty.
    pub suites: Vec<String>,
}

/// Why there can't be TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that can't be read, or in which there is not what should be.
    #[error("{0}: {1}")]
    File(PathBuf, pem::Error),
    /// A setting that is needed.
    #[error("tls.conf: {0} is not set")]
    Missing(&'static str),
    /// What is in the files does not do.
    #[error("{0}")]
    Refused(String),
}

impl TlsSettings {
    /// Those of this host: `$PCP_TLSCONF_PATH`, or `/etc/pcp/tls.conf`. Without such a file nothing is set.
    #[must_use]
    pub fn load() -> TlsSettings {
        let path = config("PCP_TLSCONF_PATH").unwrap_or_else(|| "/etc/pcp/tls.conf".to_owned());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        TlsSettings::parse(&text)
    }

    /// Those of a text: lines `name = value`, comments behind `#`. Names that mean nothing here are passed over.
    #[must_use]
    pub fn parse(text: &str) -> TlsSettings {
        let mut settings = TlsSettings::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim();
            let path = || Some(PathBuf::from(value)).filter(|_| !value.is_empty());
            match name.trim() {
                "tls-key-file" => settings.key = path(),
                "tls-cert-file" => settings.certificate = path(),
                "tls-ca-cert-file" => settings.authorities = path(),
                "tls-ca-cert-dir" => settings.authorities_folder = path(),
                "tls-client-key-file" => settings.client_key = path(),
                "tls-client-cert-file" => settings.client_certificate = path(),
                "tls-verify-clients" => settings.verify_clients = value == "true",
                "tls-ciphersuites" => {
                    settings.suites = value.split(':').map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        settings
    }

    /// Whether a server has what it needs.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        self.key.is_some() && self.certificate.is_some()
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = ring::default_provider();
        if !self.suites.is_empty() {
            provider.cipher_suites.retain(|suite| {
                // OpenSSL's names of suites of TLS 1.3 are those of the standard.
                let name = format!("{:?}", suite.suite());
                let standard = name
                    .strip_prefix("TLS13_")
                    .map(|rest| format!("TLS_{rest}"));
                standard.is_none_or(|name| self.suites.contains(&name))
            });
        }
        Arc::new(provider)
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.authorities {
            roots.add_parsable_certificates(certificates(file)?);
        }
        if let Some(folder) = &self.authorities_folder {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                // Folders of certificates have links and notes in them, too.
                if let Ok(found) = certificates(&entry.path()) {
                    roots.add_parsable_certificates(found);
                }
            }
        }
        Ok(roots)
    }

    /// What a server needs. With `demand`, clients without a certificate are refused.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn server(&self, demand: bool) -> Result<Arc<ServerConfig>, TlsError> {
        let key = self.key.as_ref().ok_or(TlsError::Missing("tls-key-file"))?;
        let certificate = self.certificate.as_ref();
        let certificate = certificate.ok_or(TlsError::Missing("tls-cert-file"))?;
        let refused = |error: &dyn std::fmt::Display| TlsError::Refused(error.to_string());
        let provider = self.provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| refused(&e))?;
        let builder = if demand || self.verify_clients {
            let roots = Arc::new(self.roots()?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = if demand {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|e| refused(&e))?)
        } else {
            builder.with_no_client_auth()
        };
        let config = builder.with_single_cert(certificates(certificate)?, private_key(key)?);
        Ok(Arc::new(config.map_err(|e| refused(&e))?))
    }

    /// What a client needs. Where no authority is set any certificate does, as for PCP's clients; `$PCP_ALLOW_SERVER_SELF_CERT`
    /// and `$PCP_ALLOW_BAD_CERT_DOMAIN` make it less strict where one is.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let refused = |error: &dyn std::fmt::Display| TlsError::Refused(error.to_string());
        let provider = self.provider();
        let roots = self.roots()?;
        let inner = if roots.is_empty() {
            None
        } else {
            let roots = Arc::new(roots);
            let built =
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            Some(built.map_err(|e| refused(&e))?)
        };
        let verifier = ServerVerifier {
            inner,
            provider: Arc::clone(&provider),
            any_issuer: env::var_os("PCP_ALLOW_SERVER_SELF_CERT").is_some(),
            any_name: env::var_os("PCP_ALLOW_BAD_CERT_DOMAIN").is_some(),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| refused(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match (&self.client_certificate, &self.client_key) {
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|e| refused(&e))?,
            _ => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error| TlsError::File(path.to_owned(), error);
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(wrong)?
        .collect();
    let found = found.map_err(wrong)?;
    if found.is_empty() {
        return Err(wrong(pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::File(path.to_owned(), error))
}

/// Looks at a server's certificate as rustls does, and lets pass what the user said may be wrong with it.
#[derive(Debug)]
struct ServerVerifier {
    /// None without authorities.
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    any_issuer: bool,
    any_name: bool,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = match &self.inner {
            Some(inner) => {
                inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Ok(ServerCertVerified::assertion()),
        };
        match found {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            // A certificate that its owner signed is one of an authority, too.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::Other(_),
            )) if self.any_issuer => Ok(ServerCertVerified::assertion()),
            found => found,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_as_in_the_file_that_pcp_installs() {
        let text = "# keys\n#tls-key-file = /none\ntls-key-file = /etc/pcp/tls/pcp.key\n\
                    tls-cert-file=/etc/pcp/tls/pcp.crt # ours\n\
                    tls-verify-clients = true\ntls-ciphersuites = TLS_CHACHA20_POLY1305_SHA256\n\
                    ##tls-ca-cert-dir = /etc/ssl/certs\nrubbish\n";
        let settings = TlsSettings::parse(text);
        assert_eq!(settings.key, Some("/etc/pcp/tls/pcp.key".into()));
        assert_eq!(settings.certificate, Some("/etc/pcp/tls/pcp.crt".into()));
        assert_eq!(settings.authorities_folder, None);
        assert!(settings.verify_clients && settings.can_serve());
        let suites = settings
            .provider()
            .cipher_suites
            .iter()
            .filter(|s| s.tls13().is_some())
            .count();
        assert_eq!(suites, 1);
    }
}
