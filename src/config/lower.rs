//! Turns the file's types into each room's `Config`, and makes the checks that need several keys.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use ipnet::IpNet;

use super::{
    Environment,
    error::Fault,
    file::{Admin, Affinity, Certificate, Compression, File, Health, Limits, Listen, Log, LogIn, WebSocket},
    secret::SecretSource,
    units::SocketIdle,
    value::{OneOrMany, Spanned, Table, Written},
};
use crate::{
    admin,
    affinity::{self, user_homes::SpreadUsers},
    app, autodiscovery, compression, connection, forward, health,
    limits::{self, Most},
    listen, observe,
    proxy::drain_policy,
    route,
    server_id::{self, ServerId},
    sessions, websocket,
};

mod auth;
mod cookie;
mod leader;
mod plain;
mod pools;
mod routes;
mod shared;
mod tls;
mod transport;
mod wake;

/// Relative paths start at `folder`. Reads secrets last, when nothing else is wrong.
pub(super) fn lower(file: File, folder: &Path, environment: &dyn Environment) -> Result<app::Config, Fault> {
    let (in_the_open, leader_runs_tasks) = (in_the_open(&file), leader::runs_tasks(&file)?);
    let (timeouts, limits) = (file.timeouts.inner, file.limits.inner);
    check_listeners(&file.listen, &file.admin.inner, file.tls.inner.acme.is_some())?;
    let listen = file.listen.inner;
    let leader = leader::lower(&file.leader.inner, file.redis.as_ref(), &file.pools)?;
    let has_key = file.jellyfin.inner.api_key.is_some();
    let pools::Lowered { pools, plain, routes, separate, keys: keys_of_pods } =
        pools::lower(file.pools, file.routes, has_key, (folder, environment))?;
    let to_https = tls::to_https(&file.tls.inner, &listen)?;
    let hsts = tls::hsts(&file.tls.inner);
    let state = file.state.inner.path.map(|path| folder.join(path.0.0));
    let acme = file.tls.inner.acme;
    let acme =
        acme.map(|acme| tls::acme(acme, (&listen, folder), state.as_deref(), file.redis.is_some())).transpose()?;
    let jellyfin = file.jellyfin.inner;
    let server_id = server_id(jellyfin.server_id, pools.len())?;
    Ok(app::Config {
        in_the_open,
        tls: crate::tls::Config {
            certificates: listen.certificates.into_iter().map(|pair| certificate(pair.inner, folder)).collect(),
        },
        connection: connection::Config {
            header_timeout: timeouts.client_header.0,
            idle_timeout: timeouts.client_idle.0,
            max_header_bytes: limits.header_bytes.0.0,
            max_headers: limits.headers.0 as usize,
            hsts,
            stall_timeout: timeouts.client_stall.0,
            http2_streams: limits.http2_streams.0,
        },
        limits: limits::Config {
            connections: most(listen.max_connections.0, limits.connections_per_address.0),
            handshakes: most(limits.handshakes.0, limits.handshakes_per_address.0),
            requests: most(limits.requests.0, limits.requests_per_address.0),
            holds: most(limits.holds.0, limits.holds_per_address.0),
            sockets: most(limits.sockets.0, limits.sockets_per_address.0),
            log_in: log_in(&limits.log_in.inner),
        },
        compression: compression(&file.compression.inner),
        route: route::Config { routes, to_https, answers_acme: acme.is_some() },
        acme,
        pools,
        plain_pools: plain,
        shown_server: server_id::Config {
            server_id,
            public_url: listen.public_url.map(|url| url.0.0),
            with_own_users: separate,
        },
        health: health(file.health.inner),
        drain: drain_policy::Config {
            removed: file.drain.inner.removed.0,
            within: file.drain.inner.within.0,
            absent: file.drain.inner.absent.0,
        },
        leader,
        forward: forward::Config {
            connect_timeout: timeouts.connect.0,
            first_byte: forward::FirstByte::new(
                timeouts.first_byte.0,
                timeouts.first_byte_by_path.into_iter().map(|(path, time)| (path.0.0, time.0)).collect(),
            ),
            client_body: timeouts.client_body.0,
            pod_idle: timeouts.pod_idle.0,
            max_idle_per_pod: limits.idle_per_pod.0 as usize,
            hold: timeouts.hold.0,
            queue: limits.queue.0 as usize,
            queue_time: timeouts.queue.0,
            replay_bytes: limits.replay_body.0.0,
            receive_buffer: limits.pod_buffer.0.0,
            trusted: networks(listen.trusted_proxies),
        },
        websocket: websocket(file.websocket.inner, limits.websocket_message.0.0)?,
        observe: observe(file.log.inner, folder),
        admin: admin(file.admin.inner, folder, environment)?,
        autodiscovery: autodiscovery::Config { listen: file.autodiscovery.inner.listen.0.0 },
        state,
        drain_timeout: timeouts.drain.0,
        hand_over: timeouts.hand_over.0,
        listen: listen::Config {
            http: addresses(listen.http),
            https: addresses(listen.https),
            proxy_protocol: networks(listen.proxy_protocol),
            workers: listen.workers.0 as usize,
        },
        legacy: jellyfin.legacy_authorization.0.0,
        log_in_paths: jellyfin.log_in_paths.into_iter().map(|path| path.0.0).collect(),
        operate_from: networks(jellyfin.operate_from),
        keeps_in_step: jellyfin.in_step.0.0,
        leader_runs_tasks,
        watches_files: file.reload.inner.watch.0.0,
        migration: sessions::Config {
            api_key: jellyfin.api_key.map(|key| key.fetch_api_key(folder, environment)).transpose()?,
            keys_of_pods,
            bounds: sessions::Bounds {
                of_one_user: limits.sessions_per_user.0 as usize,
                notes: limits.notes.0.0,
                tombstones: limits.tombstones.0 as usize,
                tombstone_keep: limits.tombstone_keep.0.0,
            },
        },
        redis: file.redis.map(|redis| shared::lower(redis.inner, folder, environment)).transpose()?,
        affinity: affinity(file.affinity.inner, &limits, folder, environment)?,
    })
}

/// The secrets that the file itself contains.
fn in_the_open(file: &File) -> Vec<&'static str> {
    let redis = file.redis.as_ref().map(|table| &table.inner);
    let mut urls = redis.into_iter().flat_map(|redis| std::iter::once(&redis.url).chain(&redis.sentinels));
    let pods = file.pools.values().flat_map(|pool| pool.inner.pods.values());
    let mut keys = pods.clone().filter_map(|pod| pod.get_ref().api_key.as_ref());
    let mut hooks = pods.filter_map(|pod| pod.get_ref().wake.as_ref()?.inner.authorization.as_ref());
    let all = [
        ("an affinity key", file.affinity.inner.keys.iter().any(SecretSource::is_inline)),
        ("the [admin] token", file.admin.inner.token.as_ref().is_some_and(SecretSource::is_inline)),
        ("the API key", file.jellyfin.inner.api_key.as_ref().is_some_and(SecretSource::is_inline)),
        ("the API key of a pod", keys.any(SecretSource::is_inline)),
        ("an authorization to wake a pod", hooks.any(SecretSource::is_inline)),
        ("a password of Redis", urls.any(SecretSource::is_inline_password)),
    ];
    all.into_iter().filter_map(|(what, is_open)| is_open.then_some(what)).collect()
}

fn check_listeners(
    Table { at, inner: listen }: &Table<Listen>,
    admin: &Admin,
    orders_certificates: bool,
) -> Result<(), Fault> {
    if listen.http.0.is_empty() && listen.https.0.is_empty() {
        return Err(Fault::new(at.clone(), "nothing to listen on; give `http` or `https` of [listen] an address"));
    }
    if let (Some(https), true) = (listen.https.0.first(), listen.certificates.is_empty() && !orders_certificates) {
        return Err(Fault::new(
            https.span(),
            "needs a certificate; name its files in `certificates`, or have one ordered by [tls.acme]",
        ));
    }
    if let (true, Some(unused)) = (listen.https.0.is_empty(), listen.certificates.first()) {
        return Err(Fault::new(unused.at.clone(), "certificates serve `https`, which has no address"));
    }
    let clients = listen.http.0.iter().chain(&listen.https.0).map(|entry| (entry.span(), Some(entry.get_ref().0)));
    let operators = [(admin.listen.span(), admin.listen.get_ref().0.0)];
    let mut seen = HashSet::new();
    for (at, address) in clients.chain(operators) {
        // For port 0 the system picks another free port each time.
        if let Some(address) = address.filter(|address| address.port() != 0)
            && !seen.insert(address)
        {
            return Err(Fault::new(at, format!("{address} is listened on twice")));
        }
        let Some(address) = address.filter(|address| address.port() != 0 && address.ip().is_unspecified()) else {
            continue;
        };
        let other: IpAddr = if address.is_ipv4() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        if seen.contains(&SocketAddr::new(other, address.port())) {
            let port = address.port();
            return Err(Fault::new(at, format!("[::]:{port} takes IPv4 too; leave 0.0.0.0:{port} out")));
        }
    }
    Ok(())
}

fn admin(admin: Admin, folder: &Path, environment: &dyn Environment) -> Result<admin::Config, Fault> {
    Ok(admin::Config {
        listen: admin.listen.into_inner().0.0,
        hosts: admin.hosts.into_iter().map(|host| host.0.0).collect(),
        token: admin.token.map(|token| token.fetch(folder, environment)).transpose()?,
        administrators: admin.administrators,
    })
}

fn compression(compression: &Compression) -> compression::Config {
    compression::Config {
        is_on: compression.answers.0.0,
        min_bytes: compression.min_size.0.0,
        most: compression.at_once.0 as usize,
        with_tokens: compression.with_tokens,
    }
}

fn most(in_all: u32, per_address: u32) -> Most {
    Most { in_all, per_address }
}

fn log_in(log_in: &LogIn) -> limits::log_in::Config {
    limits::log_in::Config {
        is_on: log_in.enabled,
        window: log_in.window.0.0,
        per_user_at_address: log_in.per_user_at_address.0,
        per_address: log_in.per_address.0,
        per_user: log_in.per_user.0,
        private_addresses: log_in.private_addresses,
    }
}

fn server_id(id: Option<Spanned<Written<ServerId>>>, pools: usize) -> Result<Option<ServerId>, Fault> {
    let Some(id) = id else { return Ok(None) };
    if pools > 1 {
        let problem =
            "several pools, and each is a server of its own; leave it out, and each shows the id of its first pod";
        return Err(Fault::new(id.span(), problem));
    }
    Ok(Some(id.into_inner().0))
}

fn addresses(list: OneOrMany<Written<SocketAddr>>) -> Vec<SocketAddr> {
    list.0.into_iter().map(|entry: Spanned<_>| entry.into_inner().0).collect()
}

fn networks(list: OneOrMany<Written<IpNet>>) -> Vec<IpNet> {
    list.0.into_iter().map(|network: Spanned<_>| network.into_inner().0).collect()
}

fn certificate(pair: Certificate, folder: &Path) -> crate::tls::Certificate {
    crate::tls::Certificate { chain: folder.join(pair.chain.0.0), key: folder.join(pair.key.0.0) }
}

fn health(health: Health) -> health::Config {
    health::Config {
        interval: health.interval.0,
        fast_interval: health.fast_interval.0,
        timeout: health.timeout.0,
        rise: health.rise.0,
        fall: health.fall.0,
        passive_failures: health.passive_failures.0,
        passive_window: health.passive_window.0,
        silence: health.silence.0,
        longest_silence: health.longest_silence.0,
        slow_start: health.slow_start.0,
    }
}

fn websocket(websocket: WebSocket, max_message: usize) -> Result<websocket::Config, Fault> {
    let Written(SocketIdle(idle_timeout)) = websocket.idle_timeout;
    let ping_interval = websocket.ping_interval.get_ref().0;
    if ping_interval >= idle_timeout {
        let at = websocket.ping_interval.span();
        return Err(Fault::new(at, "not less than `idle_timeout`; peers would be given up before they are pinged"));
    }
    Ok(websocket::Config {
        ping_interval,
        idle_timeout,
        max_message,
        stop_stagger: websocket.stop_stagger.0,
        close: websocket.close.0,
    })
}

fn affinity(
    affinity: Affinity,
    limits: &Limits,
    folder: &Path,
    environment: &dyn Environment,
) -> Result<affinity::Config, Fault> {
    let cookie = cookie::lower(affinity.cookie.inner)?;
    let fetched = affinity.keys.into_iter().map(|key| key.fetch(folder, environment));
    let spread_users = spread_users(&affinity.spread_users);
    Ok(affinity::Config {
        cookie,
        keys: fetched.collect::<Result<_, _>>()?,
        max_pins: limits.pins.0 as usize,
        max_pins_of_address: limits.pins_per_address.0 as usize,
        spread_users,
    })
}

fn spread_users(names: &[String]) -> SpreadUsers {
    if names.iter().any(|name| name == "*") {
        return SpreadUsers::Everybody;
    }
    let names: HashSet<String> = names.iter().map(|name| name.trim().to_lowercase()).collect();
    if names.is_empty() { SpreadUsers::Nobody } else { SpreadUsers::Named(names) }
}

fn observe(log: Log, folder: &Path) -> observe::Config {
    let access = match log.access.0 {
        observe::AccessLog::File(path) => observe::AccessLog::File(folder.join(path)),
        other => other,
    };
    observe::Config { level: log.level.0.0, format: log.format.0, access, server_timing: log.server_timing }
}
