//! Shows a pool as one server. If pods have ids of their own, clients see one id, and never a pod's
//! own address.
//!
//! Jellyfin puts the id of its server (`device.txt`, 32 lower-case hex digits) into nearly every
//! object and message. Its web client takes a server with a changed id for another server. So
//! jellypin replaces the pod's own id by the shown one for the client, and the reverse for the pod.
//! Both have the same length, so it can do this while a body streams by. If a pod's own id is the
//! shown one, jellypin changes nothing. Where each pod has a database of its own, users' ids are
//! replaced with it (`users`).

pub mod address;
mod body_rewriter;
mod id;
mod id_rewriter;
mod replacer;
pub mod users;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use dashmap::DashMap;

pub use body_rewriter::BodyRewriter;
pub use id::ServerId;
pub use id_rewriter::{IdRewriter, is_readable_json};
pub use replacer::Replacer;

use crate::pod::{Pod, PodId, Pool};
use users::{Names, UserDirectory};

/// What clients see of the server.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The id that clients see. Default: the id of the first known pod, in the order of names.
    pub server_id: Option<ServerId>,
    /// The server's address for clients, without a trailing slash. Default: the scheme and host
    /// that each client calls.
    pub public_url: Option<String>,
    /// The names of the pools whose pods have users of their own. Default none.
    pub with_own_users: Vec<String>,
}

/// The one server that clients see in place of a pool.
#[derive(Debug)]
pub struct ShownServer {
    pool: Arc<Pool>,
    id: ArcSwapOption<ServerId>,
    /// Keyed by the pod's own id.
    id_rewriters: DashMap<ServerId, IdRewriter, ahash::RandomState>,
    /// Whose ids are whose; `None` where the pods share a database.
    pub users: Option<UserDirectory>,
    /// Of pods with users of their own, with the names that they were made for.
    with_users: DashMap<PodId, (Arc<Names>, IdRewriter), ahash::RandomState>,
}

/// The most rewriters kept at once. If there are more, most belong to ids that no pod has any more.
const MOST_ID_REWRITERS: usize = 64;

impl ShownServer {
    /// `shown` is the id that clients see. Without it, the first known pod's id becomes the shown
    /// one on first use.
    pub fn new(pool: Arc<Pool>, shown: Option<ServerId>, users: Option<UserDirectory>) -> ShownServer {
        let id = ArcSwapOption::new(shown.map(Arc::new));
        ShownServer { pool, id, id_rewriters: DashMap::default(), users, with_users: DashMap::default() }
    }

    /// The id that clients see; `None` while no pod is known.
    pub fn id(&self) -> Option<ServerId> {
        if let Some(shown) = self.id.load().as_deref() {
            return Some(*shown);
        }
        let first = self.pool.pods().iter().find_map(|pod| pod.info.with(|info| ServerId::parse(&info.id))?)?;
        // The first caller decides for all.
        let unset: Option<Arc<ServerId>> = None;
        let before = self.id.compare_and_swap(&unset, Some(Arc::new(first)));
        Some(before.as_deref().copied().unwrap_or(first))
    }

    /// Makes clients see this id from now on.
    pub fn set_id(&self, id: ServerId) {
        self.id.store(Some(Arc::new(id)));
    }

    /// The rewriter between this pod and clients; `None` if its id is the shown one, or unknown.
    pub fn id_rewriter(&self, pod: &Pod) -> Option<IdRewriter> {
        if let Some(names) = self.users.as_ref().and_then(|users| users.of_pod(pod)) {
            return self.rewriter_with_users(pod, names);
        }
        let (own, shown) = self.server(pod)?;
        let server = Some((own, shown));
        if let Some(id_rewriter) = self.id_rewriters.get(&own).filter(|id_rewriter| id_rewriter.is_for(server)) {
            return Some(id_rewriter.clone());
        }
        if self.id_rewriters.len() >= MOST_ID_REWRITERS {
            self.id_rewriters.clear();
        }
        let id_rewriter = IdRewriter::new(own, shown);
        self.id_rewriters.insert(own, id_rewriter.clone());
        Some(id_rewriter)
    }

    /// The pod's own id and the shown one; `None` if they are one, or unknown.
    fn server(&self, pod: &Pod) -> Option<(ServerId, ServerId)> {
        let shown = self.id()?;
        let own = pod.info.with(|info| if shown == *info.id { None } else { ServerId::parse(&info.id) })??;
        Some((own, shown))
    }

    fn rewriter_with_users(&self, pod: &Pod, names: Arc<Names>) -> Option<IdRewriter> {
        let server = self.server(pod);
        if let Some(kept) = self.with_users.get(&pod.id)
            && Arc::ptr_eq(&kept.0, &names)
            && kept.1.is_for(server)
        {
            return Some(kept.1.clone());
        }
        let id_rewriter = IdRewriter::with_users(server, &names.to_client, &names.to_pod);
        self.with_users.insert(pod.id, (names, id_rewriter.clone()));
        Some(id_rewriter)
    }

    /// A whole body of this pod as the client gets it.
    pub fn whole_to_client(&self, pod: &Pod, body: Bytes) -> Bytes {
        match self.id_rewriter(pod) {
            Some(id_rewriter) => id_rewriter.whole_to_client(body),
            None => body,
        }
    }

    /// A WebSocket message from this pod as the client gets it; `None` if it does not change.
    pub fn message_to_client(&self, pod: &Pod, text: &str) -> Option<String> {
        self.id_rewriter(pod)?.text_to_client(text)
    }

    /// A WebSocket message from a client as this pod gets it; `None` if it does not change.
    pub fn message_to_pod(&self, pod: &Pod, text: &str) -> Option<String> {
        self.id_rewriter(pod)?.text_to_pod(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{Info, PodConfig};

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn pool() -> Arc<Pool> {
        let pool = Pool::new("main", "");
        let pod = |name: &&str| {
            Pod::new(&pool.name, &PodConfig { name: (*name).into(), authority: "h:1".into(), ..Default::default() })
        };
        pool.set_pods(["a", "b"].iter().map(pod).collect());
        pool
    }

    fn set_info(pod: &Pod, id: &str) {
        pod.info.set(Info { id: id.into(), version: "12.0.0".into(), name: String::new(), is_set_up: None });
    }

    #[test]
    fn the_first_pod_that_is_known_gives_the_id_and_keeps_it() {
        let pool = pool();
        let shown_server = ShownServer::new(pool.clone(), None, None);
        let (a, b) = (pool.pods()[0].clone(), pool.pods()[1].clone());
        assert_eq!((shown_server.id(), shown_server.id_rewriter(&a).is_none()), (None, true), "nobody is known");
        set_info(&b, "not an id");
        assert_eq!(shown_server.id(), None);
        set_info(&b, B);
        assert_eq!(shown_server.id(), ServerId::parse(B));
        set_info(&a, A);
        assert_eq!(shown_server.id(), ServerId::parse(B), "a pod that comes later changes nothing");
        assert!(shown_server.id_rewriter(&b).is_none());
        let message = format!("{{\"ServerId\":\"{A}\"}}");
        assert_eq!(shown_server.message_to_client(&a, &message), Some(message.replace(A, B)));
        assert_eq!(shown_server.message_to_pod(&a, &message.replace(A, B)), Some(message.clone()));
        assert_eq!(
            (shown_server.message_to_client(&b, &message), shown_server.message_to_client(&a, "{}")),
            (None, None)
        );
    }

    #[test]
    fn an_id_that_is_given_is_shown_whatever_the_pods_say() {
        let pool = pool();
        let shown_server = ShownServer::new(pool.clone(), ServerId::parse(B), None);
        let a = pool.pods()[0].clone();
        assert_eq!((shown_server.id(), shown_server.id_rewriter(&a).is_none()), (ServerId::parse(B), true));
        set_info(&a, A);
        assert!(shown_server.id_rewriter(&a).is_some());
        set_info(&a, B);
        assert!(shown_server.id_rewriter(&a).is_none());
    }
}
