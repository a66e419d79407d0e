//! Reads certificates from files, and picks one by the name that the client asks for (SNI).

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

/// The certificates of the TLS listeners.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Clients that name no host, or an unknown one, get the first.
    pub certificates: Vec<Certificate>,
}

/// One certificate chain and its key, both PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// A certificate that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("{} and {} do not belong together: {why}", chain.display(), key.display())]
    Mismatch { chain: PathBuf, key: PathBuf, why: String },
}

/// The certificates in use. They can be reloaded while connections go on.
pub struct Certificates {
    shown: ArcSwap<Vec<Named>>,
}

/// Certificates that were read and are not shown yet.
pub struct Unshown(Vec<Named>);

struct Named {
    /// Lower case; `*.example.org` stands for one label before `.example.org`.
    names: Vec<String>,
    certified: Arc<CertifiedKey>,
}

impl Certificates {
    /// Reads all certificates.
    ///
    /// # Errors
    /// When a file is missing or holds no PEM of its kind, or key and certificate do not match.
    pub fn read(config: &Config) -> Result<Arc<Certificates>, Error> {
        Ok(Arc::new(Certificates { shown: ArcSwap::from_pointee(read_all(config)?) }))
    }

    /// Reads other ones. The present ones stay until [`Certificates::show`].
    ///
    /// # Errors
    /// As [`Certificates::read`].
    pub fn read_others(config: &Config) -> Result<Unshown, Error> {
        read_all(config).map(Unshown)
    }

    /// Shows these to every handshake from now on.
    pub fn show(&self, others: Unshown) {
        self.shown.store(Arc::new(others.0));
    }

    /// What the TLS listeners speak: TLS 1.2 and 1.3, ALPN `h2`, `http/1.1` and `http/1.0`.
    ///
    /// # Errors
    /// When the cryptography library refuses its own defaults.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.shown.load();
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        let fits =
            |named: &&Named| asked.as_deref().is_some_and(|host| named.names.iter().any(|name| covers(name, host)));
        shown.iter().find(fits).or(shown.first()).map(|named| named.certified.clone())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shown.load().iter().map(|named| &named.names)).finish()
    }
}

/// Whether a certificate's name covers a host (RFC 9525): a star stands for exactly one label.
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => name == host,
    }
}

fn read_all(config: &Config) -> Result<Vec<Named>, Error> {
    config.certificates.iter().map(read).collect()
}

fn read(certificate: &Certificate) -> Result<Named, Error> {
    let unreadable = |path: &Path, why: String| Error::Unreadable { path: path.to_owned(), why };
    let read = |path: &Path| std::fs::read(path).map_err(|error| unreadable(path, error.to_string()));
    let chain = CertificateDer::pem_slice_iter(&read(&certificate.chain)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(&certificate.chain, error.to_string()))?;
    let Some(leaf) = chain.first() else {
        return Err(unreadable(&certificate.chain, "there is no certificate in it".into()));
    };
    let names = names_of(leaf).map_err(|error| unreadable(&certificate.chain, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&certificate.key)?).map_err(|error| {
        let why = match error {
            pem::Error::NoItemsFound => "there is no key in it that can be read without a password".into(),
            other => other.to_string(),
        };
        unreadable(&certificate.key, why)
    })?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| Error::Mismatch {
        chain: certificate.chain.clone(),
        key: certificate.key.clone(),
        why: error.to_string(),
    })?;
    Ok(Named { names, certified: Arc::new(certified) })
}

fn names_of(leaf: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    let leaf = webpki::EndEntityCert::try_from(leaf)?;
    Ok(leaf.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_exactly_one_label() {
        assert!(covers("media.example.org", "media.example.org"));
        assert!(covers("*.example.org", "media.example.org"));
        assert!(!covers("*.example.org", "example.org"));
        assert!(!covers("*.example.org", "a.b.example.org"));
        assert!(!covers("*.example.org", ".example.org"));
    }

    #[test]
    fn a_broken_certificate_names_its_file_and_the_old_ones_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let made = rcgen::generate_simple_self_signed(["media.example.org".to_owned()]).expect("a certificate");
        std::fs::write(&chain, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        let config = Config { certificates: vec![Certificate { chain: chain.clone(), key: key.clone() }] };
        let certificates = Certificates::read(&config).expect("certificates");
        assert_eq!(certificates.shown.load()[0].names, ["media.example.org"]);

        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).expect("a certificate");
        std::fs::write(&key, other.signing_key.serialize_pem()).expect("written");
        let error = Certificates::read_others(&config).err().expect("a key of another certificate").to_string();
        assert!(error.contains("key.pem") && error.contains("do not belong together"), "{error}");
        std::fs::write(&key, made.cert.pem()).expect("written");
        let error = Certificates::read_others(&config).err().expect("no key").to_string();
        assert!(error.contains("key.pem: there is no key in it"), "{error}");
        std::fs::write(&chain, "junk").expect("written");
        let error = Certificates::read_others(&config).err().expect("no certificate").to_string();
        assert!(error.contains("chain.pem"), "{error}");
        assert_eq!(certificates.shown.load().len(), 1);
    }
}
