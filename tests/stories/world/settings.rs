//! The configuration of a story: typed keys, so that a story says only what it is about and the compiler reads it too.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jellypin::affinity::cookie::{SameSite, Secure};
use jellypin::leader::Mode;
use jellypin::websocket::CloseStyle;
use toml::Value;

use super::Plan;
use crate::stories::redis_server::RedisServer;

/// Tables by their names, each with its keys and their values in TOML.
#[derive(Clone)]
pub(crate) struct Settings {
    tables: BTreeMap<String, BTreeMap<String, String>>,
    routes: String,
}

/// A time of so many seconds.
pub(crate) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A time of so many milliseconds.
pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// For each key a method of [`Settings`] and one of [`Plan`].
macro_rules! keys {
    ($($name:ident: $type:ty = $key:literal;)*) => {
        // Most keys are set in plans alone, or in changes alone.
        #[allow(dead_code)]
        impl Settings {
            $(pub(crate) fn $name(&mut self, value: $type) {
                self.put($key, value);
            })*
        }

        #[allow(dead_code)]
        impl Plan {
            $(pub(crate) fn $name(mut self, value: $type) -> Plan {
                self.settings.put($key, value);
                self
            })*
        }
    };
}

keys! {
    http: SocketAddr = "listen.http";
    https: SocketAddr = "listen.https";
    certificates: &[Certificate] = "listen.certificates";
    trusted_proxies: &[&str] = "listen.trusted_proxies";
    proxy_protocol: &[&str] = "listen.proxy_protocol";
    public_url: &str = "listen.public_url";
    compresses: &str = "compression.answers";
    redirect: &str = "tls.redirect";
    hsts: &str = "tls.hsts";
    workers: u32 = "listen.workers";
    max_connections: u32 = "listen.max_connections";
    server_timing: bool = "log.server_timing";
    admin_listen: SocketAddr = "admin.listen";
    admin_hosts: &[&str] = "admin.hosts";
    admin_token: &str = "admin.token";
    administrators: bool = "admin.administrators";
    state_path: &str = "state.path";
    redis_url: &str = "redis.url";
    redis_sentinels: &[&str] = "redis.sentinels";
    redis_deadline: Duration = "redis.deadline";
    redis_max_keys: u32 = "redis.max_keys";
    spread_users: &[&str] = "affinity.spread_users";
    autodiscovery: &str = "autodiscovery.listen";
    api_key: &str = "jellyfin.api_key";
    server_id: &str = "jellyfin.server_id";
    log_in_paths: &[&str] = "jellyfin.log_in_paths";
    operate_from: &[&str] = "jellyfin.operate_from";
    in_step: &str = "jellyfin.in_step";
    writer: &str = "pools.main.writer";
    database: &str = "pools.main.database";
    base_path: &str = "pools.main.base_path";
    hold: Duration = "timeouts.hold";
    pod_idle: Duration = "timeouts.pod_idle";
    first_byte: Duration = "timeouts.first_byte";
    first_byte_by_path: &[(&str, Duration)] = "timeouts.first_byte_by_path";
    drain_timeout: Duration = "timeouts.drain";
    client_header: Duration = "timeouts.client_header";
    client_body: Duration = "timeouts.client_body";
    requests: u32 = "limits.requests";
    requests_per_address: u32 = "limits.requests_per_address";
    connections_per_address: u32 = "limits.connections_per_address";
    handshakes_per_address: u32 = "limits.handshakes_per_address";
    sockets_per_address: u32 = "limits.sockets_per_address";
    holds_per_address: u32 = "limits.holds_per_address";
    http2_streams: u32 = "limits.http2_streams";
    replay_body: Bytes = "limits.replay_body";
    pins: u32 = "limits.pins";
    pins_per_address: u32 = "limits.pins_per_address";
    brakes_log_ins: bool = "limits.log_in.enabled";
    log_ins_per_user: u32 = "limits.log_in.per_user";
    log_ins_per_user_at_address: u32 = "limits.log_in.per_user_at_address";
    log_ins_of_private_addresses: bool = "limits.log_in.private_addresses";
    probe_interval: Duration = "health.interval";
    fast_probe_interval: Duration = "health.fast_interval";
    probe_timeout: Duration = "health.timeout";
    rise: u32 = "health.rise";
    silence: Duration = "health.silence";
    longest_silence: Duration = "health.longest_silence";
    slow_start: Duration = "health.slow_start";
    queue: u32 = "limits.queue";
    queue_time: Duration = "timeouts.queue";
    drain_within: Duration = "drain.within";
    drain_removed: &str = "drain.removed";
    drain_absent: Duration = "drain.absent";
    leader_mode: Mode = "leader.mode";
    leader_poll: Duration = "leader.poll";
    leader_lease: Duration = "leader.lease";
    leader_paths: &[&str] = "leader.paths";
    leader_tasks: bool = "leader.tasks";
    keys: &[&str] = "affinity.keys";
    cookie_name: &str = "affinity.cookie.name";
    cookie_path: &str = "affinity.cookie.path";
    cookie_domain: &str = "affinity.cookie.domain";
    cookie_max_age: Duration = "affinity.cookie.max_age";
    cookie_same_site: SameSite = "affinity.cookie.same_site";
    cookie_secure: Secure = "affinity.cookie.secure";
    cookie_http_only: bool = "affinity.cookie.http_only";
    cookie_partitioned: bool = "affinity.cookie.partitioned";
    close_style: CloseStyle = "websocket.close";
    stop_stagger: Duration = "websocket.stop_stagger";
    log_level: &str = "log.level";
    access_log: &str = "log.access";
}

/// Files of a certificate.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// A number of bytes.
pub(crate) struct Bytes(pub(crate) u32);

impl Default for Settings {
    fn default() -> Settings {
        let mut settings = Settings { tables: BTreeMap::new(), routes: String::new() };
        settings.http(ANY_PORT);
        settings.workers(2);
        settings.admin_listen(ANY_PORT);
        settings.stop_stagger(millis(200));
        settings.drain_timeout(secs(8));
        // Pods that start again get their whole share at once, so that few clients show where they go.
        settings.slow_start(millis(1));
        // Most stories need clients on several pods, also for one user.
        settings.spread_users(&["*"]);
        settings
    }
}

/// An address of this machine with a port that the system picks.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

impl Settings {
    /// Names a pod of the pool `main`.
    pub(crate) fn pod(&mut self, name: &str, address: SocketAddr) {
        self.pod_of("main", name, address);
    }

    /// Names a pod of a pool.
    pub(crate) fn pod_of(&mut self, pool: &str, name: &str, address: SocketAddr) {
        self.put(&format!("pools.{pool}.pods.{name}"), format!("http://{address}").as_str());
    }

    /// Names a pod of the pool `main` by its address and by an id of its own.
    pub(crate) fn pod_with_id(&mut self, name: &str, address: SocketAddr, id: &str) {
        self.set(
            &format!("pools.main.pods.{name}"),
            &format!("{{ url = \"http://{address}\", instance_id = {id:?} }}"),
        );
    }

    /// Names a pod of the pool `main` that has an API key of its own.
    pub(crate) fn pod_with_key(&mut self, name: &str, address: SocketAddr, key: &str) {
        self.set(&format!("pools.main.pods.{name}"), &format!("{{ url = \"http://{address}\", api_key = {key:?} }}"));
    }

    /// Lets a pod of the pool `main` stand by.
    pub(crate) fn pod_stands_by(&mut self, name: &str, address: SocketAddr) {
        self.set(&format!("pools.main.pods.{name}"), &format!("{{ url = \"http://{address}\", standby = true }}"));
    }

    /// Lets a pod of the pool `main` sleep when it is not used for so long. This URL is its hook.
    pub(crate) fn pod_sleeps(&mut self, name: &str, address: SocketAddr, url: &str, idle_after: Duration) {
        let (idle_after, wake) = (idle_after.toml(), format!("{{ url = {url:?} }}"));
        let pod = format!("{{ url = \"http://{address}\", idle_after = {idle_after}, wake = {wake} }}");
        self.set(&format!("pools.main.pods.{name}"), &pod);
    }

    /// Names a pod of the pool `main` no more.
    #[track_caller]
    pub(crate) fn remove_pod(&mut self, name: &str) {
        self.remove(&format!("pools.main.pods.{name}"));
    }

    /// Looks a name up for the pods of the pool `main`, ten times a second.
    pub(crate) fn dns(&mut self, name: &str, port: u16) {
        self.set("pools.main.dns", &format!("{{ name = {name:?}, port = {port}, every = \"100ms\" }}"));
    }

    /// Names the key that holds a pool's leader.
    pub(crate) fn leader_key(&mut self, pool: &str, key: &str) {
        self.put(&format!("pools.{pool}.leader_key"), key);
    }

    /// Sends the requests of a path to a pool.
    pub(crate) fn route_path(&mut self, path: &str, pool: &str) {
        self.routes += &format!("[[routes]]\npath = {path:?}\npool = {pool:?}\n");
    }

    /// Sends the requests of a host to a pool.
    pub(crate) fn route_host(&mut self, host: &str, pool: &str) {
        self.routes += &format!("[[routes]]\nhost = {host:?}\npool = {pool:?}\n");
    }

    /// A route with these keys, in TOML.
    pub(crate) fn route(&mut self, keys: &str) {
        self.routes += &format!("[[routes]]\n{keys}\n");
    }

    /// Sends all other requests to a pool.
    pub(crate) fn route_rest(&mut self, pool: &str) {
        self.routes += &format!("[[routes]]\npool = {pool:?}\n");
    }

    /// Keeps what replicas share in this Redis.
    pub(crate) fn redis(&mut self, redis: &RedisServer) {
        self.redis_url(&redis.url());
        if let Some(certificate) = redis.certificate() {
            self.put("redis.ca", certificate.to_str().expect("a path"));
        }
    }

    /// Trusts the certificate of a Redis no more.
    #[track_caller]
    pub(crate) fn remove_redis_ca(&mut self) {
        self.remove("redis.ca");
    }

    /// Keeps nothing on disk.
    #[track_caller]
    pub(crate) fn remove_state_path(&mut self) {
        self.remove("state.path");
    }

    /// Shows the first pod's server id again.
    #[track_caller]
    pub(crate) fn remove_server_id(&mut self) {
        self.remove("jellyfin.server_id");
    }

    /// Writes no access log.
    pub(crate) fn no_access_log(&mut self) {
        self.put("log.access", false);
    }

    /// Writes `table.key` with a value in TOML: for stories of the text itself.
    #[track_caller]
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        let (table, key) = key.rsplit_once('.').expect("a key is `table.key`");
        self.tables.entry(table.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
    }

    /// The whole file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (table, keys) in &self.tables {
            // Writing into memory cannot fail.
            let _ = writeln!(text, "[{table}]");
            for (key, value) in keys {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text + &self.routes
    }

    #[track_caller]
    fn put(&mut self, key: &str, value: impl Setting) {
        self.set(key, &value.toml().to_string());
    }

    #[track_caller]
    fn remove(&mut self, key: &str) {
        let (table, name) = key.rsplit_once('.').expect("a key is `table.key`");
        let found = self.tables.get_mut(table).and_then(|keys| keys.remove(name));
        assert!(found.is_some(), "{key} does not stand there");
    }
}

impl Plan {
    /// Changes the settings in some way.
    pub(crate) fn changed(mut self, change: impl FnOnce(&mut Settings)) -> Plan {
        change(&mut self.settings);
        self
    }

    /// Names a pod of the pool `main` that is none of the world's.
    pub(crate) fn pod(mut self, name: &str, address: SocketAddr) -> Plan {
        self.settings.pod(name, address);
        self
    }

    /// Keeps what replicas share in this Redis.
    pub(crate) fn redis(mut self, redis: &RedisServer) -> Plan {
        self.settings.redis(redis);
        self
    }
}

/// A value as it stands in the file.
trait Setting {
    fn toml(&self) -> Value;
}

impl<T: Setting + ?Sized> Setting for &T {
    fn toml(&self) -> Value {
        T::toml(self)
    }
}

impl<T: Setting> Setting for [T] {
    fn toml(&self) -> Value {
        Value::Array(self.iter().map(Setting::toml).collect())
    }
}

/// By path.
impl<T: Setting> Setting for [(&str, T)] {
    fn toml(&self) -> Value {
        Value::Table(self.iter().map(|(path, value)| ((*path).to_owned(), value.toml())).collect())
    }
}

macro_rules! settings {
    ($($type:ty: |$value:ident| $toml:expr;)*) => {
        $(impl Setting for $type {
            fn toml(&self) -> Value {
                let $value = self;
                Value::from($toml)
            }
        })*
    };
}

settings! {
    str: |text| text;
    bool: |is| *is;
    u32: |count| i64::from(*count);
    Bytes: |bytes| format!("{}B", bytes.0);
    Duration: |time| format!("{}us", time.as_micros());
    SocketAddr: |address| address.to_string();
    Mode: |mode| match mode {
        Mode::Local => "local",
        Mode::Follow => "follow",
        Mode::Elect => "elect",
        Mode::Probe => "probe",
    };
    SameSite: |site| match site {
        SameSite::Strict => "strict",
        SameSite::Lax => "lax",
        SameSite::None => "none",
    };
    Secure: |secure| match secure {
        Secure::Auto => "auto",
        Secure::Always => "always",
        Secure::Never => "never",
    };
    CloseStyle: |style| match style {
        CloseStyle::Abrupt => "abrupt",
        CloseStyle::Clean => "clean",
    };
}

impl Setting for Certificate {
    fn toml(&self) -> Value {
        let path = |path: &PathBuf| Value::from(path.to_str().expect("a path"));
        Value::Table(
            [("chain".to_owned(), path(&self.chain)), ("key".to_owned(), path(&self.key))].into_iter().collect(),
        )
    }
}
