//! One pool as all workers share it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    affinity::{
        Secret,
        cookie::{CookieConfig, Cookies},
    },
    jellyfin::Legacy,
    leader::{
        Leader,
        writer::{Writer, WriterConfig},
    },
    pod::Pool,
    server_id::ShownServer,
    sessions::session_board::SessionBoard,
};

/// A pool, its leader, the server that its clients see, and the cookies that name its pods.
#[derive(Clone)]
pub struct PoolState {
    pub pool: Arc<Pool>,
    /// The pod that leads the pool.
    pub leader: Arc<Leader>,
    /// The pod that writes the catalogue, where one alone does.
    pub writer: Arc<Writer>,
    /// The one server that clients see instead of the pods.
    pub shown_server: Arc<ShownServer>,
    cookie: CookieConfig,
    /// The cookies of the current pods.
    pub cookies: Arc<ArcSwap<Cookies>>,
    /// All sessions, for sockets that listen to their list.
    pub(super) session_board: Arc<SessionBoard>,
    /// As configured. `None`: the pods' versions decide.
    legacy: Option<Legacy>,
    /// False once a reload has taken the pool out of the configuration.
    pub is_configured: bool,
}

impl PoolState {
    pub fn new(
        pool: Arc<Pool>,
        (leader, writer): (Arc<Leader>, Arc<Writer>),
        shown_server: ShownServer,
        cookie: CookieConfig,
        keys: &[Secret],
        legacy: Option<Legacy>,
    ) -> PoolState {
        let cookies = Arc::new(ArcSwap::from_pointee(Cookies::new(&cookie, keys, &pool.pods())));
        PoolState {
            pool,
            leader,
            writer,
            shown_server: Arc::new(shown_server),
            cookie,
            cookies,
            session_board: Arc::default(),
            legacy,
            is_configured: true,
        }
    }

    /// The same pool after a reload.
    pub fn renewed(
        &self,
        writer: WriterConfig,
        cookie: CookieConfig,
        keys: &[Secret],
        legacy: Option<Legacy>,
    ) -> PoolState {
        let cookies = Arc::new(ArcSwap::from_pointee(Cookies::new(&cookie, keys, &self.pool.pods())));
        let writer = if writer == self.writer.config { self.writer.clone() } else { Writer::new(writer) };
        PoolState { cookie, cookies, writer, legacy, is_configured: true, ..self.clone() }
    }

    /// The same pool once the configuration names it no more: no route leads to it.
    pub fn retired(&self) -> PoolState {
        PoolState { is_configured: false, ..self.clone() }
    }

    /// Rebuilds the cookies after the set of pods has changed.
    pub fn renew_cookies(&self, keys: &[Secret]) {
        self.cookies.store(Arc::new(Cookies::new(&self.cookie, keys, &self.pool.pods())));
    }

    /// Whether the pods accept legacy credentials. During an upgrade, one such pod is enough.
    pub(super) fn legacy(&self) -> Legacy {
        if let Some(legacy) = self.legacy {
            return legacy;
        }
        if self.pool.pods().iter().any(|pod| pod.info.may_be_legacy()) { Legacy::Accepted } else { Legacy::Ignored }
    }
}
