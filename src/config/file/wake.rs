//! How a pod is woken that sleeps.

use std::net::SocketAddr;

use http::{Method, Uri};
use serde::Deserialize;

use crate::{
    config::{
        secret::SecretSource,
        value::{FromText, Written},
    },
    wake::Mac,
};

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Wake {
    pub(in crate::config) mac: Option<Written<Mac>>,
    pub(in crate::config) broadcast: Option<Written<SocketAddr>>,
    #[serde(default)]
    pub(in crate::config) command: Vec<String>,
    pub(in crate::config) url: Option<Written<HookUrl>>,
    pub(in crate::config) method: Option<Written<HookMethod>>,
    pub(in crate::config) authorization: Option<SecretSource>,
}

/// An absolute URL that jellypin calls itself.
pub(in crate::config) struct HookUrl(pub(in crate::config) Uri);

/// The method of that call.
pub(in crate::config) struct HookMethod(pub(in crate::config) Method);

impl FromText for Mac {
    const EXPECTED: &'static str = "a MAC address such as \"02:00:5e:10:00:07\"";

    fn from_text(text: &str) -> Result<Self, String> {
        Mac::parse(text)
            .ok_or_else(|| format!("{text:?} is not a MAC address; write one such as \"02:00:5e:10:00:07\""))
    }
}

impl FromText for HookUrl {
    const EXPECTED: &'static str = "a URL such as \"http://10.0.0.2:8123/api/webhook/nas\"";

    // No message contains the URL itself: it may hold a secret.
    fn from_text(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "not a URL".to_owned())?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
                Err("a user name and password stand in `authorization`".to_owned())
            }
            (Some("http" | "https"), Some(_)) => Ok(HookUrl(uri)),
            _ => Err("a URL begins with `http://` or `https://` and a host".to_owned()),
        }
    }
}

impl FromText for HookMethod {
    const EXPECTED: &'static str = "a method such as \"POST\"";

    fn from_text(text: &str) -> Result<Self, String> {
        Method::from_bytes(text.as_bytes()).map(HookMethod).map_err(|_| format!("{text:?} is not a method"))
    }
}
