//! What is logged, and where.

use std::fmt;

use serde::{Deserialize, Deserializer, de::Visitor};

use super::FilePath;
use crate::{
    config::{
        units::Directives,
        value::{FromText, Written},
    },
    observe::{AccessLog, Format},
};

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Log {
    pub(in crate::config) level: Written<Directives>,
    pub(in crate::config) format: Written<Format>,
    pub(in crate::config) access: Access,
    pub(in crate::config) server_timing: bool,
}

impl Default for Log {
    fn default() -> Self {
        Log {
            level: Written(Directives("info".to_owned())),
            format: Written(Format::Json),
            access: Access(AccessLog::Stdout),
            server_timing: false,
        }
    }
}

/// `true`, `false`, or the path of a file.
pub(in crate::config) struct Access(pub(in crate::config) AccessLog);

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AccessVisitor)
    }
}

struct AccessVisitor;

impl Visitor<'_> for AccessVisitor {
    type Value = Access;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true`, `false` or the path of a file")
    }

    fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<Access, E> {
        Ok(Access(if on { AccessLog::Stdout } else { AccessLog::Off }))
    }

    fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<Access, E> {
        FilePath::from_text(path).map(|path| Access(AccessLog::File(path.0.into()))).map_err(E::custom)
    }
}
