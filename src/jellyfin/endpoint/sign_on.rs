//! Single sign-on by the plug-in `9p4/jellyfin-plugin-sso` (`SSO-Auth/Api/SSOController.cs`):
//! OpenID below `/sso/OID`, SAML below `/sso/SAML`.
//!
//! A flow begins on one pod (`start`, `p`), which sends the browser to the provider. The browser
//! comes back from another site (`redirect`, `r`, `post`), so it sends no cookie with
//! `SameSite=Strict`. The page that it gets there posts to `Auth`.

use http::Method;

use super::{Endpoint, Rest, is};

/// The endpoint of a path below `/sso`.
pub(super) fn endpoint<'a>(method: &Method, rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> Endpoint {
    let is_mode = is(rest.at(0), "OID") || is(rest.at(0), "SAML");
    if is_mode && is(rest.at(1), "Auth") && method == Method::POST { Endpoint::LogIn } else { Endpoint::SignOn }
}
