//! How clients come to https.

use serde::Deserialize;

use super::FilePath;
use crate::{
    acme::ChallengeKind,
    config::{
        names::DnsName,
        units::{Directory, Hsts, Redirect, Time},
        value::{OneOrMany, Spanned, Table, Whole, Written},
    },
};

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Tls {
    pub(in crate::config) redirect: Spanned<Written<Redirect>>,
    pub(in crate::config) redirect_port: Option<Whole<1, 65_535>>,
    pub(in crate::config) hsts: Written<Hsts>,
    pub(in crate::config) acme: Option<Table<Acme>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Acme {
    pub(in crate::config) email: Option<String>,
    pub(in crate::config) domains: OneOrMany<Written<DnsName>>,
    #[serde(default)]
    pub(in crate::config) directory: Written<Directory>,
    pub(in crate::config) ca: Option<Written<FilePath>>,
    pub(in crate::config) renew_before: Option<Time>,
    #[serde(default)]
    pub(in crate::config) challenges: Vec<Written<ChallengeKind>>,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            redirect: Spanned::new(0..0, Written::default()),
            redirect_port: None,
            hsts: Written::default(),
            acme: None,
        }
    }
}
