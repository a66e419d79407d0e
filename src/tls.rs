//! The certificates in use. One is picked by the name that the client asks for (SNI).

mod facts;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::{ArcSwap, ArcSwapOption};
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

pub use facts::{Facts, Validity, facts};

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
    /// One that an authority has issued by ACME.
    issued: ArcSwapOption<Named>,
    /// Certificates that answer an authority's question (RFC 8737), while an order is under way.
    proofs: ArcSwap<Vec<Named>>,
}

/// The protocol by which an authority asks for such an answer.
pub const ACME: &[u8] = b"acme-tls/1";

/// Certificates that were read and are not shown yet.
pub struct Unshown(Vec<Named>);

struct Named {
    facts: Facts,
    /// Where it was read. `None` for one that was issued by ACME.
    file: Option<PathBuf>,
    certified: Arc<CertifiedKey>,
}

impl Certificates {
    /// Reads all certificates.
    ///
    /// # Errors
    /// When a file is missing or holds no PEM of its kind, or key and certificate do not match.
    pub fn read(config: &Config) -> Result<Arc<Certificates>, Error> {
        Ok(Arc::new(Certificates {
            shown: ArcSwap::from_pointee(read_all(config)?),
            issued: ArcSwapOption::empty(),
            proofs: ArcSwap::default(),
        }))
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

    /// Shows a certificate that was issued by ACME: key and chain in one PEM.
    ///
    /// # Errors
    /// As [`Certificates::read`].
    pub fn show_issued(&self, pem: &[u8]) -> Result<(), Error> {
        self.issued.store(Some(Arc::new(by_acme(pem)?)));
        Ok(())
    }

    /// Shows these, each a PEM with its key, to an authority that asks for an answer.
    pub fn show_proofs(&self, pems: Vec<String>) {
        let proofs = pems.iter().filter_map(|pem| proof(pem.as_bytes()));
        self.proofs.store(Arc::new(proofs.collect()));
    }

    /// Shows the one that was issued by ACME no more.
    pub fn forget_issued(&self) {
        self.issued.store(None);
    }

    /// The certificate that was issued by ACME.
    pub fn issued(&self) -> Option<Facts> {
        self.issued.load().as_ref().map(|named| named.facts.clone())
    }

    /// All certificates that clients may be shown.
    pub fn all(&self) -> Vec<Facts> {
        self.all_with_files().into_iter().map(|(facts, _)| facts).collect()
    }

    /// The same, each with its file. One without a file was issued by ACME.
    pub fn all_with_files(&self) -> Vec<(Facts, Option<PathBuf>)> {
        let issued = self.issued.load();
        let all = self.shown.load();
        all.iter().chain(issued.as_deref()).map(|named| (named.facts.clone(), named.file.clone())).collect()
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
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec(), ACME.to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        let fits = |named: &&Named| asked.as_deref().is_some_and(|host| named.facts.cover(host));
        if hello.alpn().is_some_and(|mut offered| offered.next() == Some(ACME) && offered.next().is_none()) {
            return self.proofs.load().iter().find(fits).map(|named| named.certified.clone());
        }
        let (shown, issued) = (self.shown.load(), self.issued.load());
        let all = || shown.iter().chain(issued.as_deref());
        all().find(fits).or(all().next()).map(|named| named.certified.clone())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shown.load().iter().map(|named| &named.facts.names)).finish()
    }
}

fn read_all(config: &Config) -> Result<Vec<Named>, Error> {
    config.certificates.iter().map(read).collect()
}

fn read(certificate: &Certificate) -> Result<Named, Error> {
    let read = |path: &Path| fs::read(path).map_err(|error| unreadable(path, error.to_string()));
    let named = named((&read(&certificate.chain)?, &certificate.chain), (&read(&certificate.key)?, &certificate.key))?;
    Ok(Named { file: Some(certificate.chain.clone()), ..named })
}

/// A certificate by ACME, with its key in the same PEM.
fn by_acme(pem: &[u8]) -> Result<Named, Error> {
    let place = Path::new("certificate.pem");
    named((pem, place), (pem, place))
}

/// A certificate that answers an authority. What is in it is not for clients, so rustls cannot say
/// whether its key fits.
fn proof(pem: &[u8]) -> Option<Named> {
    let facts = facts(pem).ok()?;
    let key = ring::sign::any_supported_type(&PrivateKeyDer::from_pem_slice(pem).ok()?).ok()?;
    let certified = CertifiedKey::new(vec![facts.leaf.clone()], key);
    Some(Named { facts, file: None, certified: Arc::new(certified) })
}

fn unreadable(path: &Path, why: String) -> Error {
    Error::Unreadable { path: path.to_owned(), why }
}

fn named((chain, chain_path): (&[u8], &Path), (key, key_path): (&[u8], &Path)) -> Result<Named, Error> {
    let facts = facts(chain).map_err(|why| unreadable(chain_path, why))?;
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(chain_path, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
        let why = match error {
            pem::Error::NoItemsFound => "there is no key in it that can be read without a password".into(),
            other => other.to_string(),
        };
        unreadable(key_path, why)
    })?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| Error::Mismatch {
        chain: chain_path.to_owned(),
        key: key_path.to_owned(),
        why: error.to_string(),
    })?;
    Ok(Named { facts, file: None, certified: Arc::new(certified) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_certificate_names_its_file_and_the_old_ones_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let made = rcgen::generate_simple_self_signed(["media.example.org".to_owned()]).expect("a certificate");
        fs::write(&chain, made.cert.pem()).expect("written");
        fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        let config = Config { certificates: vec![Certificate { chain: chain.clone(), key: key.clone() }] };
        let certificates = Certificates::read(&config).expect("certificates");
        assert_eq!(certificates.shown.load()[0].facts.names, ["media.example.org"]);

        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).expect("a certificate");
        fs::write(&key, other.signing_key.serialize_pem()).expect("written");
        let error = Certificates::read_others(&config).err().expect("a key of another certificate").to_string();
        assert!(error.contains("key.pem") && error.contains("do not belong together"), "{error}");
        fs::write(&key, made.cert.pem()).expect("written");
        let error = Certificates::read_others(&config).err().expect("no key").to_string();
        assert!(error.contains("key.pem: there is no key in it"), "{error}");
        fs::write(&chain, "junk").expect("written");
        let error = Certificates::read_others(&config).err().expect("no certificate").to_string();
        assert!(error.contains("chain.pem"), "{error}");
        assert_eq!(certificates.shown.load().len(), 1);
    }
}
