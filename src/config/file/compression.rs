//! Which answers are compressed.

use serde::Deserialize;

use super::MIB;
use crate::config::{
    units::{Size, Switch, kibibytes},
    value::{Whole, Written},
};

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Compression {
    pub(in crate::config) answers: Written<Switch>,
    pub(in crate::config) min_size: Written<Size<0, { 64 * MIB }>>,
    pub(in crate::config) at_once: Whole<1, 100_000>,
    pub(in crate::config) with_tokens: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Compression { answers: Written::default(), min_size: kibibytes(1), at_once: Whole(128), with_tokens: false }
    }
}
