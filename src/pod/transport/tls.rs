//! TLS to a pod: whom jellypin trusts to be it, and what is wrong in words.

use std::{fmt, io, path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What TLS to a pod is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The name that the pod is asked for (SNI), and that its certificate has to be for: a host
    /// name or an address.
    pub server_name: String,
    pub trust: Trust,
}

/// Whom jellypin takes for the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A certificate of an authority that this machine trusts.
    System,
    /// A certificate of one of these authorities, which this file names.
    Authorities { path: PathBuf, certificates: Vec<CertificateDer<'static>> },
    /// One of these very certificates, whatever its names, its authority and its time.
    Pins(Vec<Fingerprint>),
}

/// The SHA-256 of a certificate. It is shown as `openssl x509 -fingerprint -sha256` does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// TLS to a pod, ready for handshakes. Handshakes of all workers share what resumes sessions.
pub struct Tls {
    config: TlsConfig,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Tls {
    /// # Errors
    /// A sentence that says what cannot be used.
    pub fn new(config: TlsConfig) -> Result<Tls, String> {
        let name = config.server_name.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|_| format!("{:?} is not a host name", config.server_name))?;
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(&config.trust, &provider)?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { config, name, connector: TlsConnector::from(Arc::new(client)) })
    }

    pub fn config(&self) -> &TlsConfig {
        &self.config
    }

    pub(super) async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        self.config == other.config
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

fn verifier(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    Ok(match trust {
        Trust::System => {
            let no_authorities = |error| format!("the authorities of this machine cannot be used: {error}");
            Arc::new(Verifier::new(provider.clone()).map_err(no_authorities)?)
        }
        Trust::Authorities { certificates, .. } => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                roots.add(certificate.clone()).map_err(|error| format!("a certificate cannot be used: {error}"))?;
            }
            WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
                .build()
                .map_err(|error| error.to_string())?
        }
        Trust::Pins(pins) => Arc::new(Pinned { pins: pins.clone(), provider: provider.clone() }),
    })
}

/// Takes certificates by their fingerprints alone.
#[derive(Debug)]
struct Pinned {
    pins: Vec<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
struct NotPinned(Fingerprint);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Fingerprint::of(leaf);
        if self.pins.contains(&shown) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::Other(OtherError(Arc::new(NotPinned(shown)))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Display for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its certificate is none of the pinned ones; its fingerprint is {:?}", self.0)
    }
}

impl std::error::Error for NotPinned {}

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        Fingerprint(Sha256::digest(certificate).into())
    }

    /// Reads 64 hex digits, with or without colons between pairs.
    pub fn parse(text: &str) -> Option<Fingerprint> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
        }
        Some(Fingerprint(bytes))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        f.write_str(&pairs.join(":"))
    }
}

/// Why a handshake failed, in an operator's words. `None` if the connection only ended.
pub(super) fn handshake_failure(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(of_certificate) => match of_certificate {
            // An authority of the same name, with another key, makes a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is of no trusted authority; name its authority in `ca`, or pin it".to_owned()
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let names = if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") };
                format!("its certificate is not for {}, but for {names}; see `server_name`", expected.to_str())
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet; do the clocks agree?".to_owned()
            }
            CertificateError::Other(other) => other.0.to_string(),
            other => format!("its certificate cannot be used: {other}"),
        },
        Error::InvalidMessage(_) => "it does not speak TLS at this port".to_owned(),
        Error::AlertReceived(alert) => format!("it refuses the TLS handshake: {alert:?}"),
        Error::PeerIncompatible(why) => format!("it speaks no TLS that is safe: {why:?}"),
        other => format!("TLS fails: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_shown() {
        let fingerprint = Fingerprint::of(&CertificateDer::from(vec![1, 2, 3]));
        let shown = format!("{fingerprint:?}");
        assert_eq!(shown.len(), 95);
        for text in [shown.clone(), shown.to_lowercase(), shown.replace(':', "")] {
            assert_eq!(Fingerprint::parse(&text), Some(fingerprint), "{text}");
        }
        for text in ["", "ab", &shown[..94], &format!("{shown}0"), &shown.replace(':', "g")] {
            assert_eq!(Fingerprint::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let said = |error: Error| handshake_failure(&io::Error::new(io::ErrorKind::InvalidData, error));
        let unknown = said(CertificateError::UnknownIssuer.into()).expect("words");
        assert!(unknown.contains("`ca`"), "{unknown}");
        let name = said(
            CertificateError::NotValidForNameContext {
                expected: ServerName::try_from("b.example").expect("a name"),
                presented: vec!["a.example".into()],
            }
            .into(),
        );
        assert_eq!(name.as_deref(), Some("its certificate is not for b.example, but for a.example; see `server_name`"));
        assert_eq!(handshake_failure(&io::ErrorKind::UnexpectedEof.into()), None, "the connection only ended");
    }
}
