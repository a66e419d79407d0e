//! The admin listener of a configuration, for commands that only ask the running jellypin.
//!
//! That goes on with an earlier version of a file that is wrong now, so everything else in the file
//! is left unread.

use std::path::Path;

use serde::Deserialize;

use super::{
    Environment, Error,
    error::Fault,
    file::Admin,
    secret::SecretSource,
    units::MaybeAddress,
    value::{Spanned, Written},
};
use crate::admin;

/// The parts that are read. Unknown keys are no matter here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Whole {
    admin: Part,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Part {
    listen: Option<Spanned<Written<MaybeAddress>>>,
    token: Option<SecretSource>,
}

/// Reads `[admin] listen`, and `token` too.
///
/// # Errors
/// The file or the token cannot be read, or `[admin]` itself is wrong.
pub fn load_admin(path: &Path, environment: &dyn Environment) -> Result<admin::Config, Error> {
    let text = read(path)?;
    let part = part(&text, path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let token = part.token.map(|token| token.fetch(folder, environment)).transpose();
    let token = token.map_err(|fault| Error::at(&text, path, fault))?;
    Ok(admin::Config { listen: listener(part.listen), hosts: Vec::new(), token, administrators: true })
}

/// Reads `[admin] listen` alone, for pages that need no token.
///
/// # Errors
/// The file cannot be read, or `[admin]` itself is wrong.
pub fn load_admin_listener(path: &Path) -> Result<admin::Config, Error> {
    let listen = listener(part(&read(path)?, path)?.listen);
    Ok(admin::Config { listen, hosts: Vec::new(), token: None, administrators: true })
}

fn read(path: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(|cause| Error::unreadable(path, &cause))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn listener(given: Option<Spanned<Written<MaybeAddress>>>) -> Option<std::net::SocketAddr> {
    given.unwrap_or_else(|| Admin::default().listen).into_inner().0.0
}

fn part(text: &str, path: &Path) -> Result<Part, Error> {
    let whole = toml::from_str::<Whole>(text);
    let read = whole.or_else(|error| toml::from_str(&section(text)).map_err(|_| error));
    read.map(|whole| whole.admin).map_err(|error| {
        let at = error.span().unwrap_or_default();
        Error::of_syntax(text, path, None, Fault::new(at, "[admin] cannot be read"))
    })
}

/// The text without what does not belong to `[admin]`, for a file that is no TOML. Lines stay where
/// they are, so that places stay true.
fn section(text: &str) -> String {
    let mut is_inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            is_inside = trimmed.split('#').next().is_some_and(|header| header.trim() == "[admin]");
        }
        if is_inside {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_admin_table_counts() {
        let of = |text: &str| part(text, Path::new("jellypin.toml")).map(|part| listener(part.listen));
        let default = "127.0.0.1:9096".parse().ok();
        let other = "127.0.0.1:9099".parse().ok();
        for (text, expected) in [
            ("", default),
            ("[pools.main.pods]\na = 7\n[hold]\nhold = 3\n", default),
            ("[admin]\nlisten = \"127.0.0.1:9099\"\nnew = 1\n[health]\nintervall = 3\n", other),
            ("[admin]\nlisten = \"127.0.0.1:9099\"\n[health]\nhold =\n", other),
            ("[health]\nhold = = 3\n[admin] # operators\nlisten = \"127.0.0.1:9099\"\n", other),
            ("admin.listen = \"127.0.0.1:9099\"\nhold = 3\n", other),
            ("[admin]\nlisten = \"off\"\ntoken = { file = \"/nowhere\" }\n", None),
        ] {
            assert_eq!(of(text).ok(), Some(expected), "{text}");
        }
        assert!(of("[admin]\nlisten = \"nowhere\"\n").is_err());
    }
}
