//! How connections to pods are made.

use http::HeaderValue;
use serde::Deserialize;

use super::FilePath;
use crate::{
    config::{
        names,
        pod_url::host_and_port,
        value::{FromText, OneOrMany, Spanned, Written},
    },
    pod::Fingerprint,
};

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct PodTls {
    pub(in crate::config) ca: Option<Spanned<Written<FilePath>>>,
    pub(in crate::config) pin: OneOrMany<Written<Pin>>,
    pub(in crate::config) server_name: Option<Written<ServerName>>,
}

/// The fingerprint of a certificate.
pub(in crate::config) struct Pin(pub(in crate::config) Fingerprint);

/// The name that a pod's certificate is for.
pub(in crate::config) struct ServerName(pub(in crate::config) String);

/// The `Host` that a pod is told.
pub(in crate::config) struct PodHost(pub(in crate::config) HeaderValue);

/// How the pods of a DNS name are spoken to.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::config) enum Scheme {
    #[default]
    Http,
    Https,
}

impl FromText for Pin {
    const EXPECTED: &'static str = "the SHA-256 of a certificate";

    fn from_text(text: &str) -> Result<Self, String> {
        let advice = "`openssl x509 -noout -fingerprint -sha256 -in cert.pem` shows one";
        Fingerprint::parse(text).map(Pin).ok_or_else(|| format!("not a fingerprint of 64 hex digits; {advice}"))
    }
}

impl FromText for ServerName {
    const EXPECTED: &'static str = "a host such as \"jellyfin.internal\"";

    fn from_text(text: &str) -> Result<Self, String> {
        names::host(text).map(ServerName)
    }
}

impl FromText for PodHost {
    const EXPECTED: &'static str = "a host such as \"jellyfin.internal\" or \"jellyfin.internal:8443\"";

    fn from_text(text: &str) -> Result<Self, String> {
        host_and_port(text, "80")?;
        HeaderValue::from_str(text).map(PodHost).map_err(|_| format!("{text:?} is not a host name"))
    }
}

impl FromText for Scheme {
    const EXPECTED: &'static str = "`http` or `https`";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "http" => Ok(Scheme::Http),
            "https" => Ok(Scheme::Https),
            _ => Err(format!("{text:?} is none of `http`, `https`")),
        }
    }
}
