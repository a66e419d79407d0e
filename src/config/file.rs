//! The configuration file's types, table by table, with the default of each key.
//!
//! The example file explains units, defaults and trade-offs. A test compares it with these types.

mod admin;
mod affinity;
mod auth;
mod compression;
mod kept_headers;
mod log;
mod pool;
mod route;
mod tls;
mod transport;
mod wake;
mod web_socket;

use std::{collections::BTreeMap, net::SocketAddr, thread::available_parallelism, time::Duration};

use ipnet::IpNet;
use serde::Deserialize;

use super::{
    names::{KeyPrefix, LeaderKey, LeaderPath, Name, RoutePath},
    public_url::PublicUrl,
    secret::SecretSource,
    units::{
        Deadline, LeaseLife, LegacyCarriers, MaybeAddress, PinLife, Size, Switch, Time, TombstoneLife, Window,
        kibibytes, millis, seconds,
    },
    value::{FromText, OneOrMany, Spanned, Table, Whole, Written},
};
use crate::{leader::Mode, proxy::drain_policy::When, server_id::ServerId};
pub(super) use admin::Admin;
pub(super) use affinity::{Affinity, Cookie};
pub(super) use auth::{BasicAuth, ForwardAuth, User};
pub(super) use compression::Compression;
#[cfg(test)]
pub(super) use log::Access;
pub(super) use log::Log;
#[cfg(test)]
pub(super) use pool::PodTable;
pub(super) use pool::{Dns, Pod, Pool, PoolKind};
pub(super) use route::{FieldName, FieldValue, Route};
pub(super) use tls::{Acme, Tls};
pub(super) use transport::{PodHost, PodTls, Scheme};
pub(super) use wake::Wake;
pub(super) use web_socket::WebSocket;

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Table<Listen>,
    pub(super) tls: Table<Tls>,
    pub(super) compression: Table<Compression>,
    pub(super) admin: Table<Admin>,
    pub(super) state: Table<State>,
    pub(super) redis: Option<Table<Redis>>,
    pub(super) jellyfin: Table<Jellyfin>,
    pub(super) pools: BTreeMap<Written<Name>, Table<Pool>>,
    pub(super) routes: Vec<Table<Route>>,
    pub(super) timeouts: Table<Timeouts>,
    pub(super) limits: Table<Limits>,
    pub(super) health: Table<Health>,
    pub(super) drain: Table<Drain>,
    pub(super) leader: Table<Leader>,
    pub(super) affinity: Table<Affinity>,
    pub(super) websocket: Table<WebSocket>,
    pub(super) autodiscovery: Table<Autodiscovery>,
    pub(super) log: Table<Log>,
    pub(super) reload: Table<Reload>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listen {
    pub(super) http: OneOrMany<Written<SocketAddr>>,
    pub(super) https: OneOrMany<Written<SocketAddr>>,
    pub(super) certificates: Vec<Table<Certificate>>,
    pub(super) trusted_proxies: OneOrMany<Written<IpNet>>,
    pub(super) proxy_protocol: OneOrMany<Written<IpNet>>,
    pub(super) public_url: Option<Written<PublicUrl>>,
    pub(super) workers: Whole<1, 1024>,
    pub(super) max_connections: Whole<1, 10_000_000>,
}

impl Default for Listen {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, |cores| cores.get().min(1024));
        Listen {
            http: OneOrMany::default(),
            https: OneOrMany::default(),
            certificates: Vec::new(),
            trusted_proxies: OneOrMany::default(),
            proxy_protocol: OneOrMany::default(),
            public_url: None,
            workers: Whole(cores as u32),
            max_connections: Whole(10_000),
        }
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) chain: Written<FilePath>,
    pub(super) key: Written<FilePath>,
}

/// A path on this machine, as written in the file.
pub(super) struct FilePath(pub(super) String);

impl FromText for FilePath {
    const EXPECTED: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("an empty path".to_owned()) } else { Ok(FilePath(text.to_owned())) }
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Autodiscovery {
    pub(super) listen: Written<MaybeAddress>,
}

impl Default for Autodiscovery {
    fn default() -> Self {
        Autodiscovery { listen: Written(MaybeAddress(None)) }
    }
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Reload {
    pub(super) watch: Written<Switch>,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct State {
    pub(super) path: Option<Written<FilePath>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Redis {
    pub(super) url: SecretSource,
    #[serde(default)]
    pub(super) sentinels: Vec<SecretSource>,
    pub(super) ca: Option<Spanned<Written<FilePath>>>,
    #[serde(default)]
    pub(super) deadline: Written<Deadline>,
    #[serde(default)]
    pub(super) prefix: Written<KeyPrefix>,
    #[serde(default)]
    pub(super) ttl: Written<PinLife>,
    #[serde(default = "redis_keys")]
    pub(super) max_keys: Whole<1000, 100_000_000>,
    #[serde(default = "redis_bytes")]
    pub(super) max_memory: Written<Size<{ MIB }, { 1024 * MIB }>>,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Jellyfin {
    pub(super) server_id: Option<Spanned<Written<ServerId>>>,
    pub(super) api_key: Option<SecretSource>,
    pub(super) legacy_authorization: Written<LegacyCarriers>,
    pub(super) log_in_paths: Vec<Written<RoutePath>>,
    pub(super) operate_from: OneOrMany<Written<IpNet>>,
    pub(super) in_step: Written<Switch>,
}

fn redis_keys() -> Whole<1000, 100_000_000> {
    Whole(200_000)
}

fn redis_bytes() -> Written<Size<{ MIB }, { 1024 * MIB }>> {
    kibibytes(48 << 10)
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Timeouts {
    pub(super) connect: Time,
    pub(super) first_byte: Time,
    pub(super) first_byte_by_path: BTreeMap<Written<RoutePath>, Time>,
    pub(super) client_header: Time,
    pub(super) client_idle: Time,
    pub(super) client_body: Time,
    pub(super) client_stall: Time,
    pub(super) pod_idle: Time,
    pub(super) drain: Time,
    pub(super) hand_over: Time,
    pub(super) hold: Time,
    pub(super) queue: Time,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: seconds(1),
            first_byte: seconds(600),
            first_byte_by_path: BTreeMap::new(),
            client_header: seconds(30),
            client_idle: seconds(120),
            client_body: seconds(30),
            client_stall: seconds(3600),
            pod_idle: seconds(60),
            drain: seconds(20),
            hand_over: seconds(3600),
            hold: seconds(20),
            queue: seconds(15),
        }
    }
}

const MIB: u32 = 1 << 20;

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) replay_body: Written<Size<0, { 64 * MIB }>>,
    /// hyper reads a head into a buffer of at least 8 KiB.
    pub(super) header_bytes: Written<Size<{ 8 << 10 }, { 16 * MIB }>>,
    pub(super) headers: Whole<1, 10_000>,
    pub(super) idle_per_pod: Whole<1, 10_000>,
    pub(super) pins: Whole<1, 100_000_000>,
    pub(super) pins_per_address: Whole<1, 100_000_000>,
    pub(super) websocket_message: Written<Size<{ 64 << 10 }, { 256 * MIB }>>,
    pub(super) pod_buffer: Written<Size<{ 64 << 10 }, { 64 * MIB }>>,
    pub(super) sessions_per_user: Whole<1, 100_000>,
    pub(super) notes: Written<Size<{ MIB }, { 1024 * MIB }>>,
    pub(super) tombstones: Whole<1000, 10_000_000>,
    pub(super) tombstone_keep: Written<TombstoneLife>,
    pub(super) connections_per_address: Whole<1, 10_000_000>,
    pub(super) handshakes: Whole<1, 10_000_000>,
    pub(super) handshakes_per_address: Whole<1, 10_000_000>,
    pub(super) requests: Whole<1, 10_000_000>,
    pub(super) requests_per_address: Whole<1, 10_000_000>,
    pub(super) queue: Whole<1, 1_000_000>,
    pub(super) holds: Whole<1, 1_000_000>,
    pub(super) holds_per_address: Whole<1, 1_000_000>,
    pub(super) sockets: Whole<1, 10_000_000>,
    pub(super) sockets_per_address: Whole<1, 10_000_000>,
    pub(super) http2_streams: Whole<1, 10_000>,
    pub(super) log_in: Table<LogIn>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogIn {
    pub(super) enabled: bool,
    pub(super) window: Written<Window>,
    pub(super) per_user_at_address: Whole<1, 1_000_000>,
    pub(super) per_address: Whole<1, 1_000_000>,
    pub(super) per_user: Whole<1, 1_000_000>,
    pub(super) private_addresses: bool,
}

impl Default for LogIn {
    fn default() -> Self {
        LogIn {
            enabled: true,
            window: Written::default(),
            per_user_at_address: Whole(5),
            per_address: Whole(20),
            per_user: Whole(50),
            private_addresses: false,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            replay_body: kibibytes(64),
            header_bytes: kibibytes(40),
            headers: Whole(100),
            idle_per_pod: Whole(64),
            pins: Whole(100_000),
            pins_per_address: Whole(10_000),
            websocket_message: kibibytes(16 << 10),
            pod_buffer: kibibytes(512),
            sessions_per_user: Whole(256),
            notes: kibibytes(32 << 10),
            tombstones: Whole(100_000),
            tombstone_keep: Written::default(),
            connections_per_address: Whole(1000),
            handshakes: Whole(1000),
            handshakes_per_address: Whole(200),
            requests: Whole(5000),
            requests_per_address: Whole(500),
            queue: Whole(512),
            holds: Whole(4096),
            holds_per_address: Whole(512),
            sockets: Whole(5000),
            sockets_per_address: Whole(500),
            http2_streams: Whole(100),
            log_in: Table::default(),
        }
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Health {
    pub(super) interval: Time,
    pub(super) fast_interval: Time,
    pub(super) timeout: Time,
    pub(super) rise: Whole<1, 1000>,
    pub(super) fall: Whole<1, 1000>,
    pub(super) passive_failures: Whole<1, 1_000_000>,
    pub(super) passive_window: Time,
    pub(super) silence: Time,
    pub(super) longest_silence: Time,
    pub(super) slow_start: Time,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            interval: seconds(1),
            fast_interval: millis(250),
            timeout: millis(800),
            rise: Whole(2),
            fall: Whole(2),
            passive_failures: Whole(3),
            passive_window: seconds(10),
            silence: seconds(5),
            longest_silence: seconds(30),
            slow_start: seconds(30),
        }
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Drain {
    pub(super) removed: Written<When>,
    pub(super) within: Time,
    pub(super) absent: Time,
}

impl Default for Drain {
    fn default() -> Self {
        Drain { removed: Written(When::Idle), within: seconds(300), absent: seconds(300) }
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Leader {
    pub(super) mode: Spanned<Written<Mode>>,
    pub(super) key: Written<LeaderKey>,
    pub(super) lease: Written<LeaseLife>,
    pub(super) poll: Spanned<Time>,
    pub(super) paths: Vec<Spanned<Written<LeaderPath>>>,
    pub(super) tasks: Spanned<bool>,
}

impl Default for Leader {
    fn default() -> Self {
        Leader {
            mode: Spanned::new(0..0, Written(Mode::Local)),
            key: Written(LeaderKey("jellyfin:task-leader".to_owned())),
            lease: Written(LeaseLife(Duration::from_secs(30))),
            poll: Spanned::new(0..0, seconds(1)),
            paths: Vec::new(),
            tasks: Spanned::new(0..0, false),
        }
    }
}
