//! A reload: another configuration comes into use while the proxy runs.
//!
//! All that can fail comes first, and touches nothing that is in use: it is refused whole, or
//! applied whole. Pins, sessions, sockets, and the pods' states and epochs stay.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use super::{
    App, Config, Error, Listening, Now, RELEASE, answer_apps, autodiscovery,
    background::{find_writers, keep_triggers, know_users, of_leader, renew_cookies, serve_pods, watch_pods},
    bind::{bind_admin, bind_autodiscovery},
    certificates, loops, serve_admin, server_id_file, shared_state, state, worker,
};
use crate::{
    admin::View,
    affinity, discovery, leader,
    listen::{self, Bound},
    observe::{self, access::Access},
    proxy::SharedState,
    shutdown::Shutdown,
    store::redis_store,
    tls,
};

/// Listeners to add, each as it is configured.
type Added = Vec<(SocketAddr, Bound)>;

/// What a reload needs beside the configuration. Nothing of it is in use yet.
struct Prepared {
    certificates: tls::Unshown,
    keys: Vec<affinity::Secret>,
    added: Added,
    ended: Vec<Listening>,
    admin: Option<TcpListener>,
    autodiscovery: Option<UdpSocket>,
    /// Another access log; `None` if it stays.
    access: Option<Arc<Access>>,
    shared: Arc<SharedState>,
}

impl App {
    /// Brings another configuration into use. Keys that cannot change keep their values; `config`
    /// lists them.
    ///
    /// # Errors
    /// Something that the configuration names cannot be used. All stays as it was then.
    pub async fn reload(&mut self, config: Config) -> Result<(), Error> {
        let now = self.current.load_full();
        let config = applicable(&now.config, config);
        let prepared = self.prepare(&now, &config).await?;
        self.apply(&now, config, prepared).await
    }

    async fn prepare(&self, now: &Now, config: &Config) -> Result<Prepared, Error> {
        loops::refuse(config)?;
        let certificates = tls::Certificates::read_others(&config.tls)?;
        config.redis.as_ref().map(redis_store::check).transpose()?;
        // Keys that the process made for itself stay.
        let made_itself = config.affinity.keys.is_empty() && now.config.affinity.keys.is_empty();
        let keys = if made_itself { self.keys.clone() } else { state::cookie_keys(config)? };
        let (added, ended) = listeners(&self.listening, &config.listen)?;
        let admin = match config.admin.listen.filter(|_| config.admin.listen != now.config.admin.listen) {
            Some(address) => Some(bind_admin(address, None)?),
            None => None,
        };
        let is_moved = config.autodiscovery.listen != now.config.autodiscovery.listen;
        let autodiscovery = match config.autodiscovery.listen.filter(|_| is_moved) {
            Some(address) => Some(bind_autodiscovery(address, None)?),
            None => None,
        };
        let (log, before) = (&config.observe, &now.config.observe);
        let access = ((&log.access, log.format) != (&before.access, before.format))
            .then(|| Access::start(&log.access, log.format, self.metrics.access_lost.clone()))
            .transpose()
            .map_err(Error::AccessLog)?;
        let shared = shared_state::renewed((&now.shared, &now.config), config, &keys, &self.metrics).await?;
        let shared = Arc::new(shared);
        Ok(Prepared { certificates, keys, added, ended, admin, autodiscovery, access, shared })
    }

    async fn apply(&mut self, now: &Now, config: Config, prepared: Prepared) -> Result<(), Error> {
        let Prepared { certificates, keys, added, ended, admin, autodiscovery, access, shared } = prepared;
        let is_other_leader = format!("{:?}", (&config.leader, &config.redis))
            != format!("{:?}", (&now.config.leader, &now.config.redis));
        let new_pools = self.pools_in_use(&config, &shared).await;
        self.plain.look_after(&config, &shared.plain, (&self.health, &self.shutdown)).await;
        if let (Some(redis), Some(before), Some(config)) =
            (shared.pins.persistence.redis(), &now.config.redis, &config.redis)
        {
            redis.renew(before, config)?;
        }
        if is_other_leader || new_pools {
            self.find_leaders(&config, &shared).await?;
        }
        shared.latest_api_key.store(config.migration.api_key.clone().map(Arc::new));
        if let Some(id) = config.shown_server.server_id {
            shared.pools.iter().for_each(|pool| pool.shown_server.set_id(id));
        }
        self.health.store(Arc::new(config.health.clone()));
        observe::change_log(&config.observe);
        self.certificates.show(certificates);
        self.keys = keys;
        if config.acme != now.config.acme {
            std::mem::replace(&mut self.orders_end, self.shutdown.part()).stop();
            certificates::keep(&config, (&shared, &self.keys), &self.certificates, &self.metrics, &self.orders_end);
        }
        match access {
            Some(other) => self.former_access.push(std::mem::replace(&mut self.access, other)),
            None => self.access.reopen(),
        }

        // From here on requests go by it.
        let logs = (self.metrics.clone(), self.access.clone());
        let plan = worker::Plan::new(&config, shared.clone(), logs, self.server_config.clone(), &self.shutdown);
        self.workers.renew(&plan);
        self.listen_at(added, ended);
        if let Some(lifecycle) = self.pages.lifecycle() {
            let lifecycle = lifecycle.renewed(shared.clone());
            serve_pods(&lifecycle, &shared);
            let (config, lifecycle) = (config.admin.clone(), Arc::downgrade(&lifecycle));
            let certificates = self.certificates.clone();
            self.pages.show(View { config, shared: shared.clone(), certificates, lifecycle });
        }
        renew_cookies(&shared, &self.keys, &self.shutdown);
        std::mem::replace(&mut self.writers_end, self.shutdown.part()).stop();
        find_writers(&shared, &self.writers_end);
        keep_triggers(&config, (&shared, &self.keys), &self.metrics, &self.writers_end);
        know_users(&config, (&shared, &self.keys), &self.writers_end).await;
        let listeners = self.listening.iter();
        let listeners =
            listeners.map(|one| autodiscovery::Listener { address: one.address, over_tls: one.over_tls }).collect();
        self.current.store(Arc::new(Now { config: config.clone(), shared: shared.clone(), listeners }));
        self.move_other_listeners(now, &config, admin, autodiscovery);
        if new_pools {
            server_id_file::keep(&shared, &config, &self.shutdown).await;
        }
        Ok(())
    }

    /// Tells each pool where its pods come from, and starts the new ones. Returns whether there are
    /// any.
    async fn pools_in_use(&mut self, config: &Config, shared: &SharedState) -> bool {
        for source in &self.sources {
            let name = source.borrow().name.clone();
            let known = config.pools.iter().find(|pool| pool.name == name).cloned();
            // The pods of a pool that is gone drain.
            let base_path = source.borrow().base_path.clone();
            let gone = || discovery::PoolConfig { name, base_path, ..Default::default() };
            let wanted = known.unwrap_or_else(gone);
            source.send_if_modified(|now| {
                let is_new = *now != wanted;
                *now = wanted;
                is_new
            });
        }
        let new: Vec<_> = shared.pools[self.sources.len()..].iter().map(|shared| shared.pool.clone()).collect();
        if new.is_empty() {
            return false;
        }
        self.pools.replace(shared.pools.iter().map(|shared| shared.pool.clone()).collect());
        let with_sources = new.into_iter().filter_map(|pool| {
            let config = config.pools.iter().find(|config| *config.name == *pool.name)?.clone();
            Some((pool, config))
        });
        let sources = watch_pods(with_sources, &self.health, &self.shutdown).await;
        self.sources.extend(sources);
        true
    }

    /// Lets new tasks find the leaders. The present ones lead until these have found others.
    async fn find_leaders(&mut self, config: &Config, shared: &SharedState) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.leaders, Shutdown::new());
        before.stop();
        before.ended(RELEASE).await;
        let mut of_pools = Vec::new();
        for shared in shared.pools.iter().filter(|shared| shared.is_configured) {
            shared.leader.set_mode(config.leader.mode);
            of_pools.push(of_leader(shared));
        }
        leader::start(&config.leader, config.redis.as_ref(), of_pools, &self.leaders).await?;
        Ok(())
    }

    /// Ends listeners first: one may come back with other settings at the same address.
    fn listen_at(&mut self, added: Added, ended: Vec<Listening>) {
        for one in ended {
            self.workers.end(one.address, one.over_tls);
            self.listening.retain(|other| (other.address, other.over_tls) != (one.address, one.over_tls));
            tracing::info!(address = %one.address, "serving clients no more");
        }
        for (configured, bound) in added {
            let (address, over_tls) = (bound.address, bound.over_tls);
            // Without copies these sockets cannot be handed over; they serve all the same.
            let sockets = bound.copies().unwrap_or_default().into();
            self.workers.listen(bound);
            self.listening.push(Listening { configured, address, over_tls, sockets });
            tracing::info!(%address, "serving clients");
        }
    }

    fn move_other_listeners(
        &mut self,
        now: &Now,
        config: &Config,
        admin: Option<TcpListener>,
        autodiscovery: Option<UdpSocket>,
    ) {
        if config.admin.listen != now.config.admin.listen {
            std::mem::replace(&mut self.admin_ends, CancellationToken::new()).cancel();
            self.admin = admin.as_ref().and_then(|listener| listener.local_addr().ok());
            if let Some(listener) = &admin {
                serve_admin(listener, &self.pages, &self.admin_ends);
            }
            self.admin_socket = admin;
        }
        if config.autodiscovery.listen != now.config.autodiscovery.listen {
            std::mem::replace(&mut self.autodiscovery_ends, self.shutdown.part()).stop();
            self.autodiscovery = autodiscovery.as_ref().and_then(|socket| socket.local_addr().ok());
            if let Some(socket) = &autodiscovery {
                answer_apps(socket, &self.current, &self.metrics, &self.autodiscovery_ends);
            }
            self.autodiscovery_socket = autodiscovery;
        }
    }
}

/// The listeners to add, bound already, and those to end.
fn listeners(present: &[Listening], config: &listen::Config) -> Result<(Added, Vec<Listening>), Error> {
    let (mut ended, mut added) = (present.to_vec(), Vec::new());
    for (configured, over_tls) in config.all() {
        let is_at = |one: &Listening| one.configured == configured || one.address == configured;
        let same = |one: &Listening| one.over_tls == over_tls && is_at(one);
        match ended.iter().position(same) {
            Some(stays) => drop(ended.swap_remove(stays)),
            None => {
                let port = configured.port();
                let is_ours = port != 0 && present.iter().any(|one| one.address.port() == port);
                added.push((configured, listen::bind_all(configured, over_tls, config.workers, is_ours)?));
            }
        }
    }
    Ok((added, ended))
}

/// What of a new configuration can be applied to a running process. `config` lists the keys whose
/// values stay here, with the reasons.
pub(crate) fn applicable(old: &Config, mut new: Config) -> Config {
    new.listen.workers = old.listen.workers;
    new.state.clone_from(&old.state);
    if let Some(acme) = &mut new.acme {
        acme.folder = old.state.as_ref().map(|state| state.join("acme"));
    }
    new.affinity.max_pins = old.affinity.max_pins;
    new.affinity.max_pins_of_address = old.affinity.max_pins_of_address;
    new.migration.bounds = old.migration.bounds;
    let is_known = |name: &String| old.pools.iter().any(|known| known.name == *name);
    new.shown_server.with_own_users.retain(|name| !is_known(name));
    new.shown_server.with_own_users.extend(old.shown_server.with_own_users.iter().cloned());
    for pool in &mut new.pools {
        if let Some(known) = old.pools.iter().find(|known| known.name == pool.name) {
            pool.base_path.clone_from(&known.base_path);
        }
    }
    match (&old.redis, &mut new.redis) {
        (Some(old), Some(new)) => {
            new.prefix.clone_from(&old.prefix);
            new.bounds = old.bounds;
        }
        (old, new) => new.clone_from(old),
    }
    if new.redis.is_none() && matches!(new.leader.mode, leader::Mode::Follow | leader::Mode::Elect) {
        // Leaders are found through a Redis that is not in use yet.
        new.leader.mode = leader::Mode::Local;
    }
    new
}
