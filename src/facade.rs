//! One server to the eye: where pods report ids of their own, clients see one id, and never a pod's own address.
//!
//! Jellyfin puts the id of its server (`device.txt`, 32 lower-case hex digits) into nearly every object and message, and its
//! web client takes a server whose id has changed for another one. So the pod's own id becomes the shown one on the way to the
//! client, and the shown one the pod's own on the way back. Both have one length, and so it is done while a body streams by.
//! Where a pod's own id is the shown one nothing is touched.

pub mod address;
mod guise;
mod replacer;
mod rewriting;
mod server_id;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;

pub use guise::{Guise, is_readable_json};
pub use replacer::Replacer;
pub use rewriting::Rewriting;
pub use server_id::ServerId;

use crate::pod::{Pod, Pool};

/// What clients see of the server.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The id that clients see. Default: that of the first pod that is known, in the order of their names.
    pub server_id: Option<ServerId>,
    /// Where clients find the server, without a slash at the end. Default: the scheme and host that each client calls.
    pub public_url: Option<String>,
}

/// The one server that a pool is to the eye.
#[derive(Debug)]
pub struct Facade {
    pool: Arc<Pool>,
    shown: ArcSwapOption<ServerId>,
    /// By the pod's own id.
    guises: DashMap<ServerId, Guise, ahash::RandomState>,
}

/// Guises kept at once; more ids than that have long been of no pod.
const MOST_GUISES: usize = 64;

impl Facade {
    /// `shown` is the id that clients see; without one the first pod's, once it is asked for and a pod is known.
    pub fn new(pool: Arc<Pool>, shown: Option<ServerId>) -> Facade {
        Facade { pool, shown: ArcSwapOption::new(shown.map(Arc::new)), guises: DashMap::default() }
    }

    /// The id that clients see; `None` while no pod is known.
    pub fn shown(&self) -> Option<ServerId> {
        if let Some(shown) = self.shown.load().as_deref() {
            return Some(*shown);
        }
        let first = self.pool.pods().iter().find_map(|pod| pod.with_info(|info| ServerId::parse(&info.id))?)?;
        // Whoever comes first decides for all.
        let unset: Option<Arc<ServerId>> = None;
        let before = self.shown.compare_and_swap(&unset, Some(Arc::new(first)));
        Some(before.as_deref().copied().unwrap_or(first))
    }

    /// Clients see this id from now on.
    pub fn show(&self, id: ServerId) {
        self.shown.store(Some(Arc::new(id)));
    }

    /// What has to be rewritten between this pod and clients: nothing while its own id is the shown one, or not known.
    pub fn guise(&self, pod: &Pod) -> Option<Guise> {
        let shown = self.shown()?;
        let own = pod.with_info(|info| if shown == *info.id { None } else { ServerId::parse(&info.id) })??;
        if let Some(guise) = self.guises.get(&own).filter(|guise| guise.shows(shown)) {
            return Some(guise.clone());
        }
        if self.guises.len() >= MOST_GUISES {
            self.guises.clear();
        }
        let guise = Guise::new(own, shown);
        self.guises.insert(own, guise.clone());
        Some(guise)
    }

    /// A socket's message as the client gets it from this pod; `None` if that is as it is.
    pub fn message_to_client(&self, pod: &Pod, text: &str) -> Option<String> {
        self.guise(pod)?.text_to_client(text)
    }

    /// A socket's message as this pod gets it from a client; `None` if that is as it is.
    pub fn message_to_pod(&self, pod: &Pod, text: &str) -> Option<String> {
        self.guise(pod)?.text_to_pod(text)
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
        let pod = |name: &&str| Pod::new(&pool.name, &PodConfig { name: (*name).into(), authority: "h:1".into() });
        pool.set_pods(["a", "b"].iter().map(pod).collect());
        pool
    }

    fn tell(pod: &Pod, id: &str) {
        pod.set_info(Info { id: id.into(), version: "12.0.0".into() });
    }

    #[test]
    fn the_first_pod_that_is_known_gives_the_id_and_keeps_it() {
        let pool = pool();
        let facade = Facade::new(pool.clone(), None);
        let (a, b) = (pool.pods()[0].clone(), pool.pods()[1].clone());
        assert_eq!((facade.shown(), facade.guise(&a).is_none()), (None, true), "nobody is known");
        tell(&b, "not an id");
        assert_eq!(facade.shown(), None);
        tell(&b, B);
        assert_eq!(facade.shown(), ServerId::parse(B));
        tell(&a, A);
        assert_eq!(facade.shown(), ServerId::parse(B), "a pod that comes later changes nothing");
        assert!(facade.guise(&b).is_none());
        let message = format!("{{\"ServerId\":\"{A}\"}}");
        assert_eq!(facade.message_to_client(&a, &message), Some(message.replace(A, B)));
        assert_eq!(facade.message_to_pod(&a, &message.replace(A, B)), Some(message.clone()));
        assert_eq!((facade.message_to_client(&b, &message), facade.message_to_client(&a, "{}")), (None, None));
    }

    #[test]
    fn an_id_that_is_given_is_shown_whatever_the_pods_say() {
        let pool = pool();
        let facade = Facade::new(pool.clone(), ServerId::parse(B));
        let a = pool.pods()[0].clone();
        assert_eq!((facade.shown(), facade.guise(&a).is_none()), (ServerId::parse(B), true));
        tell(&a, A);
        assert!(facade.guise(&a).is_some());
        tell(&a, B);
        assert!(facade.guise(&a).is_none());
    }
}
