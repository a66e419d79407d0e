//! The pods that serve a route, and how they come and go.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Pod, PodInstance};
use crate::wake;

/// All pools, as they are now: a reload adds some. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pools(Arc<ArcSwap<Vec<Arc<Pool>>>>);

impl Pools {
    pub fn load(&self) -> arc_swap::Guard<Arc<Vec<Arc<Pool>>>> {
        self.0.load()
    }

    /// The pool of this name.
    pub fn named(&self, name: &str) -> Option<Arc<Pool>> {
        self.0.load().iter().find(|pool| *pool.name == *name).cloned()
    }

    pub fn replace(&self, pools: Vec<Arc<Pool>>) {
        self.0.store(Arc::new(pools));
    }
}

impl From<Vec<Arc<Pool>>> for Pools {
    fn from(pools: Vec<Arc<Pool>>) -> Pools {
        Pools(Arc::new(ArcSwap::from_pointee(pools)))
    }
}

/// How it is found out whether a pool's pods serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// They are Jellyfin's.
    #[default]
    Jellyfin,
    /// They are not, and serve as long as they take connections.
    Connection,
    /// They are not, and serve as long as they answer this path well.
    Path(String),
}

/// The pods that serve a route: those that its source names, and those still serving that it no
/// longer names.
pub struct Pool {
    pub name: Arc<str>,
    /// The pods' own BaseUrl: empty, or like `/jellyfin`.
    pub base_path: Arc<str>,
    pods: ArcSwap<Vec<Arc<Pod>>>,
    check: ArcSwap<Check>,
    /// The names of the pods that stand by.
    standby: ArcSwap<Vec<String>>,
    /// How pods are woken, by their names.
    wake: ArcSwap<Vec<(String, Arc<wake::Config>)>>,
    members: watch::Sender<()>,
    /// Lets only one caller at a time change the set.
    changing: Mutex<()>,
}

impl Pool {
    pub fn new(name: &str, base_path: &str) -> Arc<Pool> {
        Arc::new(Pool {
            name: name.into(),
            base_path: base_path.into(),
            pods: ArcSwap::default(),
            check: ArcSwap::default(),
            standby: ArcSwap::default(),
            wake: ArcSwap::default(),
            members: watch::Sender::new(()),
            changing: Mutex::default(),
        })
    }

    /// The present pods, in name order.
    pub fn pods(&self) -> arc_swap::Guard<Arc<Vec<Arc<Pod>>>> {
        self.pods.load()
    }

    /// How it is found out whether its pods serve.
    pub fn check(&self) -> Arc<Check> {
        self.check.load_full()
    }

    /// Finds that out in this way from now on.
    pub fn set_check(&self, check: &Check) {
        self.check.store(Arc::new(check.clone()));
    }

    /// Takes the names of the pods that get clients only while no other pod is ready.
    pub fn set_standby(&self, names: &[String]) {
        self.standby.store(Arc::new(names.to_vec()));
    }

    /// Whether a pod of this name stands by.
    pub fn is_standby(&self, name: &str) -> bool {
        self.standby.load().iter().any(|standby| standby == name)
    }

    /// Whether any pod stands by.
    pub fn has_standby(&self) -> bool {
        !self.standby.load().is_empty()
    }

    /// Takes how pods are woken that may sleep.
    pub fn set_wake(&self, wake: &[(String, Arc<wake::Config>)]) {
        self.wake.store(Arc::new(wake.to_vec()));
    }

    /// How a pod of this name is woken, if jellypin can wake it.
    pub fn wake_of(&self, name: &str) -> Option<Arc<wake::Config>> {
        self.wake.load().iter().find(|(pod, _)| pod == name).map(|(_, wake)| wake.clone())
    }

    /// Whether this pod instance is alive.
    pub fn is_alive(&self, place: PodInstance) -> bool {
        self.pods().iter().any(|pod| PodInstance::of(pod) == place && pod.status().is_alive())
    }

    /// Takes the pods that the source now names. A serving pod that it no longer names drains until
    /// its clients have moved. If that pod does not serve, or a new pod has its name, it is down at
    /// once.
    pub fn set_pods(&self, mut pods: Vec<Arc<Pod>>) {
        let _one = self.changing.lock();
        for pod in &pods {
            pod.keep();
        }
        let mut leaving = Vec::new();
        for old in self.pods().iter().filter(|old| !pods.iter().any(|pod| pod.id == old.id)) {
            if pods.iter().any(|pod| pod.name == old.name) {
                old.set_down();
            } else if old.remove() {
                leaving.push(old.clone());
            }
        }
        pods.append(&mut leaving);
        self.replace(pods);
    }

    /// Removes a pod whose drain is complete: it is down. If its source names it again, it stays.
    /// Returns whether it was removed.
    pub fn drop_removed(&self, pod: &Pod) -> bool {
        let _one = self.changing.lock();
        if pod.drain.is_removed() {
            pod.set_down();
            self.replace(self.pods().iter().filter(|other| other.id != pod.id).cloned().collect());
        }
        pod.drain.is_removed()
    }

    fn replace(&self, mut pods: Vec<Arc<Pod>>) {
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        self.pods.store(Arc::new(pods));
        self.members.send_replace(());
    }

    /// Reports every change of the set.
    pub fn members(&self) -> watch::Receiver<()> {
        self.members.subscribe()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name, self.pods())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{Epoch, State, Status, tests::pod};

    #[test]
    fn a_pod_that_does_not_serve_and_leaves_its_pool_is_down_and_the_others_are_untouched() {
        let (a, b) = (pod("a"), pod("b"));
        let pool = Pool::new("pool", "");
        pool.set_pods(vec![b.clone(), a.clone()]);
        assert_eq!(pool.pods()[0].name, a.name, "pods stand in name order");
        pool.set_pods(vec![b.clone()]);
        assert_eq!(a.status(), Status { state: State::Down, accepts: false, epoch: Epoch(0) });
        assert_eq!(b.status(), Status::UNKNOWN);
        assert_eq!(names(&pool), ["b"]);
    }

    fn ready(pod: &Pod) {
        pod.life.change(|status| Status { state: State::Ready, ..status });
    }

    fn names(pool: &Pool) -> Vec<String> {
        pool.pods().iter().map(|pod| pod.name.to_string()).collect()
    }

    #[test]
    fn a_pod_that_serves_drains_before_it_leaves_and_may_come_back() {
        let (a, b) = (pod("a"), pod("b"));
        let pool = Pool::new("pool", "");
        pool.set_pods(vec![a.clone(), b.clone()]);
        ready(&a);
        for _ in 0..2 {
            pool.set_pods(vec![b.clone()]);
            assert_eq!(
                (a.status().state, a.drain.is_removed(), names(&pool)),
                (State::Draining, true, vec!["a".into(), "b".into()])
            );
        }
        pool.set_pods(vec![a.clone(), b.clone()]);
        assert_eq!((a.status().state, a.drain.is_removed()), (State::Ready, false));
        pool.drop_removed(&a);
        assert_eq!(names(&pool), ["a", "b"], "it is named again");
        pool.set_pods(vec![b.clone()]);
        pool.drop_removed(&a);
        assert_eq!((a.status().state, names(&pool)), (State::Down, vec!["b".to_owned()]));
    }

    #[test]
    fn a_pod_whose_name_is_anothers_now_is_down_at_once() {
        let (old, new) = (pod("a"), pod("a"));
        let pool = Pool::new("pool", "");
        pool.set_pods(vec![old.clone()]);
        ready(&old);
        pool.set_pods(vec![new.clone()]);
        assert_eq!((old.status().state, pool.pods().len(), pool.pods()[0].id), (State::Down, 1, new.id));
    }
}
