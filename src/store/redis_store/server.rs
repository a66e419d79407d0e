//! Where Redis is now: at its address, or where a sentinel says that the primary is. A reload may
//! name another one.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use redis::{
    Client, ErrorKind, RedisError, RedisResult, TlsCertificates, TlsMode,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::{
    sync::{Mutex, watch},
    time,
};

use super::{Config, Error, Url};

/// The longest time for asking the sentinels.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct Server {
    topology: ArcSwap<Topology>,
    changes: watch::Sender<()>,
}

enum Topology {
    Fixed(Box<Client>),
    Watched(Box<Mutex<SentinelClient>>),
}

impl Server {
    /// Does not connect.
    pub(super) fn new(config: &Config) -> Result<Server, Error> {
        Ok(Server { topology: ArcSwap::from_pointee(Topology::new(config)?), changes: watch::Sender::new(()) })
    }

    /// Names another server. The links connect to it at once.
    ///
    /// # Errors
    /// As [`Server::new`]; the one before stays then.
    pub(super) fn replace(&self, config: &Config) -> Result<(), Error> {
        self.topology.store(Arc::new(Topology::new(config)?));
        self.changes.send_replace(());
        Ok(())
    }

    /// Reports every [`Server::replace`].
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// A client for the server to connect to now.
    pub(super) async fn client(&self) -> RedisResult<Client> {
        let topology = self.topology.load_full();
        match &*topology {
            Topology::Fixed(client) => Ok(Client::clone(client)),
            Topology::Watched(sentinels) => {
                let primary = async { sentinels.lock().await.async_get_client().await };
                let late = || RedisError::from((ErrorKind::Io, "no sentinel answers in time"));
                time::timeout(PATIENCE, primary).await.unwrap_or_else(|_| Err(late()))
            }
        }
    }
}

impl Topology {
    fn new(config: &Config) -> Result<Topology, Error> {
        let certificates = certificates(config)?;
        Ok(match config.sentinels.first() {
            None => Topology::Fixed(Box::new(fixed(&config.url, certificates)?)),
            Some(first) => Topology::Watched(Box::new(Mutex::new(watched(config, first, certificates)?))),
        })
    }
}

fn fixed(url: &Url, certificates: Option<TlsCertificates>) -> RedisResult<Client> {
    match certificates {
        None => Client::open(url.0.clone()),
        Some(certificates) => Client::build_with_tls(url.0.clone(), certificates),
    }
}

/// The URL's host is the service's name; the rest applies to the servers that the sentinels name.
/// All sentinels use the user and password of the first.
fn watched(config: &Config, first: &Url, certificates: Option<TlsCertificates>) -> RedisResult<SentinelClient> {
    let (node, sentinel) = (config.url.0.redis_settings(), first.0.redis_settings());
    let addresses = config.sentinels.iter().map(|url| url.0.addr().clone());
    let service = config.url.host().unwrap_or_default();
    let mut builder = SentinelClientBuilder::new(addresses, service, SentinelServerType::Master)?;
    builder = builder.set_client_to_redis_db(node.db());
    if let Some(user) = node.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = node.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = sentinel.username() {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = sentinel.password() {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if let Some(certificates) = certificates {
        if config.url.is_tls() {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            builder = builder.set_client_to_redis_certificates(certificates.clone());
        }
        if config.sentinels.iter().all(Url::is_tls) {
            builder = builder.set_client_to_sentinel_certificates(certificates);
        }
    }
    builder.build()
}

/// What servers' certificates are checked against; `None` without TLS.
fn certificates(config: &Config) -> Result<Option<TlsCertificates>, Error> {
    if !config.url.is_tls() && !config.sentinels.iter().any(Url::is_tls) {
        return Ok(None);
    }
    // The Redis library uses the process's provider. One that is already set serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = |path: &PathBuf| std::fs::read(path).map_err(|source| Error::Authorities { path: path.clone(), source });
    let root_cert = config.ca.as_ref().map(read).transpose()?;
    Ok(Some(TlsCertificates { client_tls: None, root_cert }))
}
