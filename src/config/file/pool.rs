//! A pool and its pods.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{PodHost, PodTls, Scheme, Wake};
use crate::config::{
    names::{BasePath, DnsName, InstanceId, LeaderKey, Name, RoutePath, WriterName},
    pod_url::PodUrl,
    secret::SecretSource,
    units::{Database, Time, seconds},
    value::{FromText, Spanned, Table, Whole, Written},
};

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Pool {
    pub(in crate::config) kind: Written<PoolKind>,
    pub(in crate::config) health_path: Option<Spanned<Written<RoutePath>>>,
    pub(in crate::config) base_path: Option<Spanned<Written<BasePath>>>,
    pub(in crate::config) dns: Option<Table<Dns>>,
    pub(in crate::config) leader_key: Option<Spanned<Written<LeaderKey>>>,
    pub(in crate::config) writer: Option<Spanned<Written<WriterName>>>,
    pub(in crate::config) database: Option<Spanned<Written<Database>>>,
    pub(in crate::config) tls: Option<Table<PodTls>>,
    pub(in crate::config) host: Option<Written<PodHost>>,
    pub(in crate::config) pods: BTreeMap<Written<Name>, Spanned<Pod>>,
}

/// What a pool's pods are.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::config) enum PoolKind {
    #[default]
    Jellyfin,
    Http,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Dns {
    pub(in crate::config) name: Written<DnsName>,
    pub(in crate::config) port: Whole<1, 65_535>,
    #[serde(default = "five_seconds")]
    pub(in crate::config) every: Time,
    #[serde(default)]
    pub(in crate::config) scheme: Written<Scheme>,
}

fn five_seconds() -> Time {
    seconds(5)
}

/// A pod, written as a URL alone or as a table.
pub(in crate::config) struct Pod {
    pub(in crate::config) url: PodUrl,
    pub(in crate::config) instance_id: Option<Spanned<Written<InstanceId>>>,
    pub(in crate::config) api_key: Option<SecretSource>,
    pub(in crate::config) standby: bool,
    pub(in crate::config) wake: Option<Table<Wake>>,
    pub(in crate::config) idle_after: Option<Spanned<Time>>,
    pub(in crate::config) tls: Option<Table<PodTls>>,
    pub(in crate::config) host: Option<Written<PodHost>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PodTable {
    url: Written<PodUrl>,
    instance_id: Option<Spanned<Written<InstanceId>>>,
    api_key: Option<SecretSource>,
    #[serde(default)]
    standby: bool,
    wake: Option<Table<Wake>>,
    idle_after: Option<Spanned<Time>>,
    tls: Option<Table<PodTls>>,
    host: Option<Written<PodHost>>,
}

impl Pool {
    /// Whether each pod has a database of its own.
    pub(in crate::config) fn is_separate(&self) -> bool {
        self.database.as_ref().is_some_and(|database| database.get_ref().0.is_separate)
    }
}

impl FromText for PoolKind {
    const EXPECTED: &'static str = "`jellyfin` or `http`";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "jellyfin" => Ok(PoolKind::Jellyfin),
            "http" => Ok(PoolKind::Http),
            _ => Err(format!("{text:?} is none of `jellyfin`, `http`")),
        }
    }
}

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PodVisitor)
    }
}

struct PodVisitor;

impl<'de> Visitor<'de> for PodVisitor {
    type Value = Pod;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or `{{ url = \"…\" }}`", PodUrl::EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, url: &str) -> Result<Pod, E> {
        let plain = |url| Pod {
            url,
            instance_id: None,
            api_key: None,
            standby: false,
            wake: None,
            idle_after: None,
            tls: None,
            host: None,
        };
        PodUrl::from_text(url).map(plain).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pod, A::Error> {
        let table = PodTable::deserialize(MapAccessDeserializer::new(map))?;
        let PodTable { url, instance_id, api_key, standby, wake, idle_after, tls, host } = table;
        Ok(Pod { url: url.0, instance_id, api_key, standby, wake, idle_after, tls, host })
    }
}
