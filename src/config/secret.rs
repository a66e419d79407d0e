//! Where the operator keeps a secret, and how the proxy reads it from there.

use std::{ffi::OsStr, fmt, io, ops::Range, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use toml::Spanned;

use super::{Environment, error::Fault};
use crate::{affinity::Secret, sessions::Token, store::redis_store::Url};

/// Shortest secret in bytes. An attacker can guess shorter ones.
const SHORTEST: usize = 16;

/// Where to find a secret. It has no `Debug`, since an inline source is the secret itself.
pub(super) struct SecretSource {
    at: Range<usize>,
    place: SecretPlace,
}

enum SecretPlace {
    Inline(String),
    File(String),
    Variable(String),
}

impl SecretSource {
    /// Reads a key without its trailing newline. Relative file paths start at `folder`.
    pub(super) fn fetch(self, folder: &Path, environment: &dyn Environment) -> Result<Secret, Fault> {
        match without_newline(&self.read(folder, environment)?) {
            [] => Err(self.fault("the secret is empty")),
            short if short.len() < SHORTEST => Err(self.fault(format!("the secret is shorter than {SHORTEST} bytes"))),
            secret => Ok(Secret::new(secret)),
        }
    }

    /// Reads a Redis URL, which may contain a password.
    pub(super) fn fetch_url(&self, folder: &Path, environment: &dyn Environment) -> Result<Url, Fault> {
        let bytes = self.read(folder, environment)?;
        let text = std::str::from_utf8(without_newline(&bytes)).map_err(|_| self.fault("not UTF-8"))?;
        Url::parse(text).map_err(|problem| self.fault(problem))
    }

    /// Reads a Jellyfin API key.
    pub(super) fn fetch_api_key(self, folder: &Path, environment: &dyn Environment) -> Result<Token, Fault> {
        let bytes = self.read(folder, environment)?;
        let text = std::str::from_utf8(without_newline(&bytes)).unwrap_or_default();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(self.fault("not an API key; Jellyfin's are made of 32 letters and digits"));
        }
        Ok(Token::new(text))
    }

    fn read(&self, folder: &Path, environment: &dyn Environment) -> Result<Vec<u8>, Fault> {
        match &self.place {
            SecretPlace::Inline(value) => Ok(value.clone().into_bytes()),
            SecretPlace::File(path) => read_file(&folder.join(path), environment).map_err(|cause| {
                let advice = if credential(Path::new(path)).is_some() { CREDENTIALS } else { "" };
                self.fault(format!("{path:?} cannot be read: {cause}{advice}"))
            }),
            SecretPlace::Variable(name) => environment
                .get(name)
                .map(String::into_bytes)
                .ok_or_else(|| self.fault(format!("the environment variable {name:?} is not set"))),
        }
    }

    pub(super) fn is_inline(&self) -> bool {
        matches!(self.place, SecretPlace::Inline(_))
    }

    /// Whether the file itself contains a URL with a password here.
    pub(super) fn is_inline_password(&self) -> bool {
        matches!(&self.place, SecretPlace::Inline(text) if Url::parse(text).is_ok_and(|url| url.has_password()))
    }

    pub(super) fn fault(&self, problem: impl Into<String>) -> Fault {
        Fault::new(self.at.clone(), problem)
    }
}

/// The folder where systemd lays a service's credentials while the service runs.
const LAID: &str = "/run/credentials";

/// How the same is checked before the service runs.
const CREDENTIALS: &str = "; systemd lays it there while the service runs, and for a check by: systemd-run --pipe --wait --collect -p LoadCredential=secrets:/etc/jellypin/secrets jellypin check";

/// Another unit's credential is read from this unit's, by the same name: a check has a unit of its own.
fn read_file(path: &Path, environment: &dyn Environment) -> io::Result<Vec<u8>> {
    std::fs::read(path).or_else(|cause| {
        let name = credential(path).filter(|_| cause.kind() == io::ErrorKind::NotFound);
        let own = environment.get("CREDENTIALS_DIRECTORY");
        match (own, name) {
            (Some(own), Some(name)) => std::fs::read(Path::new(&own).join(name)),
            _ => Err(cause),
        }
    })
}

/// The name of a credential, if it is one of a service's.
fn credential(path: &Path) -> Option<&OsStr> {
    let unit = path.parent()?;
    (unit.parent()? == Path::new(LAID)).then(|| path.file_name())?
}

fn without_newline(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let place = Spanned::<SecretPlace>::deserialize(deserializer)?;
        Ok(SecretSource { at: place.span(), place: place.into_inner() })
    }
}

impl<'de> Deserialize<'de> for SecretPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct SecretTable {
    file: Option<String>,
    env: Option<String>,
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretPlace;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret, `{ file = \"…\" }` or `{ env = \"…\" }`")
    }

    fn visit_str<E: serde::de::Error>(self, secret: &str) -> Result<SecretPlace, E> {
        Ok(SecretPlace::Inline(secret.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretPlace, A::Error> {
        match SecretTable::deserialize(MapAccessDeserializer::new(map))? {
            SecretTable { file: Some(path), env: None } => Ok(SecretPlace::File(path)),
            SecretTable { file: None, env: Some(name) } => Ok(SecretPlace::Variable(name)),
            _ => Err(serde::de::Error::custom("a secret is found by either `file` or `env`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Unit(Option<String>);

    impl Environment for Unit {
        fn get(&self, name: &str) -> Option<String> {
            (name == "CREDENTIALS_DIRECTORY").then(|| self.0.clone()).flatten()
        }
    }

    #[test]
    fn a_credential_is_found_by_its_name_in_another_unit() {
        let folder = std::env::temp_dir().join(format!("jellypin-credentials-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("secrets_api_key"), "key").expect("a file");
        let unit = Unit(Some(folder.to_string_lossy().into_owned()));
        let laid = Path::new("/run/credentials/no-such-unit.service/secrets_api_key");
        let read = |path: &Path, unit: &Unit| read_file(path, unit).ok();
        assert_eq!(read(laid, &unit).as_deref(), Some(&b"key"[..]));
        assert_eq!(read(laid, &Unit(None)), None);
        assert_eq!(read(Path::new("/run/other/no-such-unit.service/secrets_api_key"), &unit), None);
        std::fs::remove_dir_all(&folder).expect("a folder");

        let place = SecretPlace::File(laid.to_string_lossy().into_owned());
        let fault = SecretSource { at: 0..0, place }.read(Path::new("/"), &Unit(None)).expect_err("nothing is there");
        assert!(fault.problem.contains("systemd-run"), "{}", fault.problem);
    }
}
