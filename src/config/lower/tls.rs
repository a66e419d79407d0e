//! Lowers what brings clients to https, and how certificates are ordered.

use std::path::Path;

use http::HeaderValue;

use crate::{
    acme::{self, ChallengeKind},
    config::{
        error::Fault,
        file::{Acme, Listen, Tls},
        units::{Hsts, Redirect},
        value::{Table, Written},
    },
    route::https::ToHttps,
};

pub(super) fn to_https(tls: &Tls, listen: &Listen) -> Result<Option<ToHttps>, Fault> {
    let redirect = tls.redirect.get_ref().0;
    if redirect == Redirect::Off {
        return Ok(None);
    }
    // Behind a proxy that ends TLS there may be no address of its own.
    let own = listen.https.0.first().map(|address| address.get_ref().0.port());
    let port =
        tls.redirect_port.map(|port| port.0 as u16).or(own).or((!listen.trusted_proxies.0.is_empty()).then_some(443));
    match port {
        Some(port) => Ok(Some(ToHttps { port, spares_discovery: redirect == Redirect::ExceptDiscovery })),
        None => {
            Err(Fault::new(tls.redirect.span(), "nothing is served over https; give `https` of [listen] an address"))
        }
    }
}

/// The header that tells browsers to come over https.
pub(super) fn hsts(tls: &Tls) -> Option<HeaderValue> {
    let Written(Hsts(age)) = &tls.hsts;
    age.and_then(|age| HeaderValue::try_from(format!("max-age={}", age.as_secs())).ok())
}

/// `state` is the folder for what must survive a restart.
pub(super) fn acme(
    acme: Table<Acme>,
    (listen, folder): (&Listen, &Path),
    state: Option<&Path>,
    is_shared: bool,
) -> Result<acme::Config, Fault> {
    let Table { at, inner: acme } = acme;
    let fault = |problem: &str| Err(Fault::new(at.clone(), problem.to_owned()));
    if listen.https.0.is_empty() {
        return fault("a certificate serves `https` of [listen], which has no address");
    }
    if acme.domains.0.is_empty() {
        return fault("no names; give `domains` those by which clients call this proxy");
    }
    if state.is_none() && !is_shared {
        return fault(
            "a certificate that is not kept is ordered at each start, which authorities refuse soon; give [state] a `path`",
        );
    }
    let mut challenges: Vec<_> = acme.challenges.into_iter().map(|kind| kind.0).collect();
    if challenges.is_empty() {
        challenges.extend((!listen.http.0.is_empty()).then_some(ChallengeKind::Http01));
        challenges.push(ChallengeKind::TlsAlpn01);
    }
    Ok(acme::Config {
        email: acme.email,
        domains: acme.domains.0.into_iter().map(|name| name.into_inner().0.0).collect(),
        directory: acme.directory.0.0,
        ca: acme.ca.map(|file| folder.join(file.0.0)),
        renew_before: acme.renew_before.map(|time| time.0),
        challenges,
        folder: state.map(|state| state.join("acme")),
    })
}
