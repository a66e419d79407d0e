//! Which requests go where, and what a route asks and changes.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use serde::Deserialize;

use super::{BasicAuth, ForwardAuth, kept_headers::is_kept};
use crate::config::{
    names::{RouteHost, RoutePath},
    value::{FromText, OneOrMany, Spanned, Table, Written},
};

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Route {
    pub(in crate::config) host: Option<Written<RouteHost>>,
    pub(in crate::config) path: Option<Written<RoutePath>>,
    pub(in crate::config) pool: Option<Spanned<String>>,
    pub(in crate::config) redirect: Option<Written<RedirectTo>>,
    #[serde(default)]
    pub(in crate::config) allow: OneOrMany<Written<IpNet>>,
    #[serde(default)]
    pub(in crate::config) request_headers: BTreeMap<Written<FieldName>, Written<FieldValue>>,
    #[serde(default)]
    pub(in crate::config) response_headers: BTreeMap<Written<FieldName>, Written<FieldValue>>,
    pub(in crate::config) basic_auth: Option<Table<BasicAuth>>,
    pub(in crate::config) forward_auth: Option<Table<ForwardAuth>>,
}

/// A URL, or a path, without a slash at its end.
pub(in crate::config) struct RedirectTo(pub(in crate::config) String);

/// The name of a header field that a route may change, in lower case.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::config) struct FieldName(pub(in crate::config) String);

/// The value that a field gets. `None` takes the field away.
pub(in crate::config) struct FieldValue(pub(in crate::config) Option<HeaderValue>);

impl FromText for RedirectTo {
    const EXPECTED: &'static str = "a URL or a path such as \"https://media.example.org\" or \"/jellyfin\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let to = text.trim_end_matches('/');
        let is_path = to.starts_with('/') && !to.starts_with("//");
        let host = to.strip_prefix("https://").or(to.strip_prefix("http://")).unwrap_or_default();
        let is_url = !host.is_empty() && !host.starts_with('/') && !host.contains('@');
        if (is_path || is_url) && to.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte)) {
            return Ok(RedirectTo(to.to_owned()));
        }
        Err("write a URL with a host, or a path below `/`; query and path of the request follow by themselves"
            .to_owned())
    }
}

impl FromText for FieldName {
    const EXPECTED: &'static str = "the name of a header";

    fn from_text(text: &str) -> Result<Self, String> {
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is no name of a header"))?;
        if is_kept(&name) {
            return Err(format!("`{name}` is not to be changed: messages or log-ins would break"));
        }
        Ok(FieldName(name.as_str().to_owned()))
    }
}

impl FromText for FieldValue {
    const EXPECTED: &'static str = "a text, or \"\" to take the header away";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(FieldValue(None));
        }
        match HeaderValue::from_str(text) {
            Ok(value) => Ok(FieldValue(Some(value))),
            Err(_) => Err("a header's value has letters, digits and signs of ASCII".to_owned()),
        }
    }
}
