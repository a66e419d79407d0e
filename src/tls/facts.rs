//! What a certificate says of itself.

use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate};

/// A certificate's names, and how long it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Lower case; `*.example.org` stands for one label before `.example.org`.
    pub names: Vec<String>,
    pub validity: Validity,
    pub leaf: CertificateDer<'static>,
    /// Each certificate of the chain was signed by the next.
    pub is_chained: bool,
    /// It is its own authority, which no client knows by itself.
    pub is_self_signed: bool,
}

/// From when to when a certificate is good, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: u64,
    pub not_after: u64,
}

/// Reads the chain of a PEM; its first certificate is what the facts are of.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn facts(pem: &[u8]) -> Result<Facts, String> {
    let chain =
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let Some(leaf) = chain.first() else { return Err("there is no certificate in it".to_owned()) };
    let mut parsed = Vec::new();
    for certificate in &chain {
        let (_, certificate) = parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
        parsed.push(certificate);
    }
    let own = &parsed[0];
    let seconds = |time: i64| u64::try_from(time).unwrap_or_default();
    Ok(Facts {
        names: names_of(own),
        validity: Validity {
            not_before: seconds(own.validity().not_before.timestamp()),
            not_after: seconds(own.validity().not_after.timestamp()),
        },
        is_chained: parsed.windows(2).all(|pair| pair[0].issuer().as_raw() == pair[1].subject().as_raw()),
        is_self_signed: own.issuer().as_raw() == own.subject().as_raw(),
        leaf: leaf.clone().into_owned(),
    })
}

impl Facts {
    /// Whether it is good for a host, in lower case.
    pub fn cover(&self, host: &str) -> bool {
        self.names.iter().any(|name| covers(name, host))
    }

    /// Whether it was issued after another one.
    pub fn is_newer_than(&self, other: &Facts) -> bool {
        self.leaf != other.leaf && self.validity.not_before >= other.validity.not_before
    }
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    names.filter_map(dns).collect()
}

/// Whether a certificate's name covers a host (RFC 9525): a star stands for exactly one label.
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => name == host,
    }
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
    fn a_certificate_tells_its_names_its_end_and_its_chain() {
        let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate").cert;
        let (one, other) = (made("Media.Example.org"), made("other.example.org"));
        let of = |pem: &str| facts(pem.as_bytes());
        let read = of(&one.pem()).expect("facts");
        assert_eq!(read.names, ["media.example.org"]);
        assert!(read.validity.not_before < read.validity.not_after && read.is_chained && read.is_self_signed);
        assert!(read.cover("media.example.org") && !read.cover("example.org"));
        // The same subject and issuer: names alone tell of a chain.
        assert_eq!(of(&(one.pem() + &other.pem())).expect("facts").names, ["media.example.org"]);
        assert!(of("junk").is_err_and(|why| why.contains("no certificate")));
    }
}
