//! Lowers how connections to pods are made.

use std::{path::Path, sync::Arc};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{
    config::{
        error::Fault,
        file::{FilePath, PodHost, PodTls},
        value::{Spanned, Table, Written},
    },
    pod::{Tls, TlsConfig, TransportConfig, Trust},
};

/// What a pool says for all of its pods. What a pod says of itself goes before.
pub(super) struct OfPool<'a> {
    tls: Option<Table<PodTls>>,
    host: Option<Written<PodHost>>,
    folder: &'a Path,
}

impl OfPool<'_> {
    /// `any_https`: whether any pod is spoken to over TLS.
    pub(super) fn new(
        (tls, host): (Option<Table<PodTls>>, Option<Written<PodHost>>),
        any_https: bool,
        folder: &Path,
    ) -> Result<OfPool<'_>, Fault> {
        match &tls {
            Some(table) if !any_https => {
                Err(Fault::new(table.at.clone(), "no pod of this pool has a URL that begins with `https://`"))
            }
            _ => Ok(OfPool { tls, host, folder }),
        }
    }

    /// The transport to a pod. `name` is its host if it is spoken to over TLS.
    pub(super) fn lower(
        &self,
        name: Option<&str>,
        (tls, host): (Option<&Table<PodTls>>, Option<&Written<PodHost>>),
        at: &std::ops::Range<usize>,
    ) -> Result<TransportConfig, Fault> {
        let host = host.or(self.host.as_ref()).map(|host| host.0.0.clone());
        let Some(name) = name else {
            return match tls {
                Some(table) => Err(Fault::new(table.at.clone(), "`tls` is for a URL that begins with `https://`")),
                None => Ok(TransportConfig { tls: None, host }),
            };
        };
        let tables: Vec<&PodTls> = tls.into_iter().chain(&self.tls).map(|table| &table.inner).collect();
        let trust = tables.iter().find_map(|table| trust(table, self.folder).transpose());
        let server_name = tables.iter().find_map(|table| table.server_name.as_ref());
        let config = TlsConfig {
            server_name: server_name.map_or_else(|| name.to_owned(), |name| name.0.0.clone()),
            trust: trust.transpose()?.unwrap_or(Trust::System),
        };
        let tls = Tls::new(config).map_err(|problem| Fault::new(at.clone(), problem))?;
        Ok(TransportConfig { tls: Some(Arc::new(tls)), host })
    }
}

/// Whom one table trusts, if it says that.
fn trust(table: &PodTls, folder: &Path) -> Result<Option<Trust>, Fault> {
    match (&table.ca, table.pin.0.as_slice()) {
        (None, []) => Ok(None),
        (None, pins) => Ok(Some(Trust::Pins(pins.iter().map(|pin| pin.get_ref().0.0).collect()))),
        (Some(ca), []) => authorities(ca, folder).map(Some),
        (Some(ca), _) => Err(Fault::new(ca.span(), "a pin stands in the place of an authority; leave one of them out")),
    }
}

fn authorities(ca: &Spanned<Written<FilePath>>, folder: &Path) -> Result<Trust, Fault> {
    let path = folder.join(&ca.get_ref().0.0);
    let failed = |why: String| Fault::new(ca.span(), format!("{}: {why}", path.display()));
    let pem = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(Trust::Authorities { path: path.clone(), certificates })
}
