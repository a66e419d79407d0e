//! How clients are kept with their pods.

use serde::Deserialize;

use crate::{
    affinity::cookie::{SameSite, Secure},
    config::{
        names::{CookieDomain, CookieName, CookiePath},
        secret::SecretSource,
        units::MaxAge,
        value::{Spanned, Table, Written},
    },
};

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Affinity {
    pub(in crate::config) keys: Vec<SecretSource>,
    pub(in crate::config) spread_users: Vec<String>,
    pub(in crate::config) cookie: Table<Cookie>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Cookie {
    pub(in crate::config) name: Spanned<Written<CookieName>>,
    pub(in crate::config) http_only: bool,
    pub(in crate::config) same_site: Spanned<Written<SameSite>>,
    pub(in crate::config) secure: Written<Secure>,
    pub(in crate::config) path: Written<CookiePath>,
    pub(in crate::config) domain: Option<Written<CookieDomain>>,
    pub(in crate::config) max_age: Option<Written<MaxAge>>,
    pub(in crate::config) partitioned: Spanned<bool>,
}

impl Default for Cookie {
    fn default() -> Self {
        Cookie {
            name: Spanned::new(0..0, Written(CookieName("jellyfin_server_id".to_owned()))),
            http_only: true,
            same_site: Spanned::new(0..0, Written(SameSite::Strict)),
            secure: Written(Secure::Auto),
            path: Written(CookiePath("/".to_owned())),
            domain: None,
            max_age: None,
            partitioned: Spanned::new(0..0, false),
        }
    }
}
