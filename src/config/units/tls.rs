//! How clients come to https, and where certificates come from.

use std::time::Duration;

use super::{MaxAge, choice};
use crate::{acme::ChallengeKind, config::value::FromText};

/// Whether requests in clear are sent to https.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::config) enum Redirect {
    #[default]
    Off,
    On,
    ExceptDiscovery,
}

impl FromText for Redirect {
    const EXPECTED: &'static str = "`off`, `on` or `except-discovery`";

    fn from_text(text: &str) -> Result<Self, String> {
        let choices = [("off", Redirect::Off), ("on", Redirect::On), ("except-discovery", Redirect::ExceptDiscovery)];
        choice(text, &choices)
    }
}

/// How long browsers are to come over https alone; `None` for "off".
#[derive(Default)]
pub(in crate::config) struct Hsts(pub(in crate::config) Option<Duration>);

impl FromText for Hsts {
    const EXPECTED: &'static str = "a duration such as \"180days\", or \"off\"";
    const HAS_UNIT: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Hsts(None)),
            _ => MaxAge::from_text(text).map(|age| Hsts(Some(age.0))),
        }
    }
}

/// The URL of an authority's directory.
pub(in crate::config) struct Directory(pub(in crate::config) String);

impl Default for Directory {
    fn default() -> Self {
        Directory("https://acme-v02.api.letsencrypt.org/directory".to_owned())
    }
}

impl FromText for Directory {
    const EXPECTED: &'static str = "a URL such as \"https://acme-v02.api.letsencrypt.org/directory\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let is_url =
            text.parse::<http::Uri>().is_ok_and(|url| url.scheme_str() == Some("https") && url.host().is_some());
        match is_url {
            true => Ok(Directory(text.to_owned())),
            false => Err(format!("{text:?} is no directory; its URL begins with `https://`")),
        }
    }
}

impl FromText for ChallengeKind {
    const EXPECTED: &'static str = "`http-01` or `tls-alpn-01`";

    fn from_text(text: &str) -> Result<Self, String> {
        choice(text, &[("http-01", ChallengeKind::Http01), ("tls-alpn-01", ChallengeKind::TlsAlpn01)])
    }
}
