//! Who may use a route to a service that does not ask by itself.

use http::{HeaderName, Uri, header};
use serde::Deserialize;

use super::{FilePath, kept_headers::is_kept};
use crate::{
    config::value::{FromText, OneOrMany, Spanned, Written},
    passwords::PasswordHash,
};

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct BasicAuth {
    pub(in crate::config) users: OneOrMany<Written<User>>,
    pub(in crate::config) file: Option<Spanned<Written<FilePath>>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ForwardAuth {
    pub(in crate::config) address: Written<AuthAddress>,
    #[serde(default)]
    pub(in crate::config) copy_headers: OneOrMany<Written<CopiedName>>,
}

/// A name and the hash of a password.
pub(in crate::config) struct User {
    pub(in crate::config) name: String,
    pub(in crate::config) hash: PasswordHash,
}

/// The URL of a server that decides.
pub(in crate::config) struct AuthAddress(pub(in crate::config) Uri);

/// The name of a header that is taken from that server's answer.
pub(in crate::config) struct CopiedName(pub(in crate::config) HeaderName);

impl FromText for User {
    const EXPECTED: &'static str = "a user and a hash, as `htpasswd -nB alice` writes them";

    // No message contains the text itself: it may be a password.
    fn from_text(text: &str) -> Result<Self, String> {
        let (name, hash) =
            text.split_once(':').ok_or("a name and the hash of a password stand on both sides of `:`")?;
        if name.is_empty() {
            return Err("the name before `:` is missing".to_owned());
        }
        let problem = "the hash after `:` is neither bcrypt's nor argon2's; `htpasswd -nB alice` makes one";
        let hash = PasswordHash::parse(hash.trim_end()).ok_or(problem)?;
        Ok(User { name: name.to_owned(), hash })
    }
}

impl FromText for AuthAddress {
    const EXPECTED: &'static str = "a URL such as \"http://10.0.0.30:9091/api/authz/forward-auth\"";

    // No message contains the URL itself: it may hold a password.
    fn from_text(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "not a URL".to_owned())?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
                Err("a user name and password have no place in this URL".to_owned())
            }
            (Some("http" | "https"), Some(_)) => Ok(AuthAddress(uri)),
            _ => Err("a URL begins with `http://` or `https://` and a host".to_owned()),
        }
    }
}

impl FromText for CopiedName {
    const EXPECTED: &'static str = "the name of a header";

    fn from_text(text: &str) -> Result<Self, String> {
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is no name of a header"))?;
        if is_kept(&name) && name != header::AUTHORIZATION {
            return Err(format!("`{name}` is not to be changed: messages would break"));
        }
        Ok(CopiedName(name))
    }
}
