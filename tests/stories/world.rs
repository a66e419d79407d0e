//! The world of a story: simulated pods of one cluster, the proxy before them, and clients.
//!
//! [`story`] starts a world and stops it at the end. It fails when something leaked, and names what: a connection or a
//! socket at a pod, a request under way in a proxy, a request without its access line.

mod client;
mod program;
mod proxy;
mod settings;
mod visitors;

use std::future::Future;
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(crate) use client::{Answer, Client, Failed, Socket, Undialled, body_of, has_ended, number_of};
use jellyfin_sim::{Cluster, Pod, PodBuilder};
use jellypin::pod::State;
pub(crate) use program::Program;
pub(crate) use proxy::Proxy;
pub(crate) use settings::{ANY_PORT, Bytes, Certificate, Settings, millis, secs};
use tempfile::TempDir;
use tokio::time::MissedTickBehavior;
pub(crate) use visitors::Visitors;

/// How long a story waits for a state before it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// How long it waits between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How often a story repeats what it does: as often as this environment key says, or else so often. What shows itself only
/// in the long form is for a run by hand.
pub(crate) fn how_often(key: &str, usual: usize) -> usize {
    std::env::var(key).map_or(usual, |text| text.parse().expect("a number"))
}

/// Tells a story: starts its world, lets it happen, stops the world.
///
/// # Panics
/// When something leaked.
pub(crate) async fn story<T>(begin: impl Begin, tell: impl AsyncFnOnce(&mut World) -> T) -> T {
    let mut world = begin.begin().await;
    let told = tell(&mut world).await;
    world.stop().await;
    told
}

/// What a story begins with: the plan of a world, or a world that is prepared already.
pub(crate) trait Begin {
    async fn begin(self) -> World;
}

impl Begin for Plan {
    async fn begin(self) -> World {
        self.start().await
    }
}

impl Begin for World {
    async fn begin(self) -> World {
        self
    }
}

/// A cluster of pods behind a proxy.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    /// The cluster of the pod `b`, if that is a twin of `a`.
    twin: Option<Cluster>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) proxy: Proxy,
    settings: Settings,
    replicas: Mutex<Vec<Proxy>>,
    folder: Arc<TempDir>,
    is_stopped: bool,
}

/// What a world is to be.
pub(crate) struct Plan {
    pods: usize,
    has_key: bool,
    /// Whether `b` has a database of its own.
    has_twin: bool,
    /// Whether all requests come from clients of this world.
    is_counted: bool,
    builds: Vec<(Option<&'static str>, Build)>,
    settings: Settings,
}

type Build = Box<dyn Fn(PodBuilder) -> PodBuilder>;

impl World {
    /// The plan of a world of so many pods, named `a`, `b`, `c` and so on.
    pub(crate) fn plan(pods: usize) -> Plan {
        Plan {
            pods,
            has_key: false,
            has_twin: false,
            is_counted: true,
            builds: Vec::new(),
            settings: Settings::default(),
        }
    }

    /// A pod by its name.
    #[track_caller]
    pub(crate) fn pod(&self, name: &str) -> &Pod {
        self.pods.iter().find(|pod| pod.name() == name).unwrap_or_else(|| panic!("no pod is named {name}"))
    }

    /// The cluster of the twin, the pod `b`.
    #[track_caller]
    pub(crate) fn twin(&self) -> &Cluster {
        self.twin.as_ref().expect("a world of twins")
    }

    /// All pods but one.
    pub(crate) fn pods_but(&self, name: &str) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(move |pod| pod.name() != name)
    }

    /// A new client with a cookie jar, known by nothing yet.
    pub(crate) fn client(&self) -> Client {
        self.proxy.client()
    }

    /// The pods that the request reached which this answer belongs to, one name for each time.
    pub(crate) fn saw(&self, answer: &Answer) -> Vec<&str> {
        let times =
            |pod: &Pod| pod.seen().iter().filter(|seen| number_of(&seen.headers) == Some(answer.number)).count();
        self.pods.iter().flat_map(|pod| std::iter::repeat_n(pod.name(), times(pod))).collect()
    }

    /// The pod that leads, as the admin API says.
    pub(crate) async fn leader(&self) -> String {
        let pods = self.proxy.ask_admin("/pods").await.json();
        let leads = pods.as_array().expect("pods").iter().find(|pod| pod["leads"] == true);
        leads.expect("a leader")["name"].as_str().expect("a name").to_owned()
    }

    /// The one pod that answered.
    #[track_caller]
    pub(crate) fn home(&self, answer: &Answer) -> &str {
        match self.saw(answer)[..] {
            [home] => home,
            ref pods => panic!("one pod should have seen the request once: {pods:?}"),
        }
    }

    /// Waits until the proxy holds a pod for this.
    #[track_caller]
    pub(crate) fn until_state(&self, pod: &str, state: State) -> impl Future<Output = ()> {
        self.proxy.until_state(pod, state)
    }

    /// The configuration as it was given to the proxy.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A folder that is gone after the story.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A second proxy before the same pods, its configuration changed by `change`. It stops with the world.
    pub(crate) async fn replica(&self, change: impl FnOnce(&mut Settings)) -> Proxy {
        let mut settings = self.settings.clone();
        change(&mut settings);
        let replica = Proxy::start(&settings, &self.folder).await;
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner).push(replica.clone());
        replica
    }

    /// Stops the proxy and starts it again with a changed configuration.
    pub(crate) async fn restart(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.proxy.stop().await;
        self.proxy = Proxy::start(&self.settings, &self.folder).await;
    }

    /// Ends the story.
    ///
    /// # Panics
    /// When something leaked.
    async fn stop(mut self) {
        let replicas = std::mem::take(&mut *self.replicas.lock().unwrap_or_else(PoisonError::into_inner));
        for proxy in replicas.iter().rev().chain([&self.proxy]) {
            proxy.stop().await;
        }
        for pod in &self.pods {
            pod.hang(false);
            // A pod that keeps something names it when the time is over.
            pod.until(|pod| pod.open_connections() == 0 && pod.open_sockets() == 0).await;
        }
        self.is_stopped = true;
    }
}

impl Plan {
    /// Lets requests come by other ways than by a [`Client`] too.
    pub(crate) fn uncounted(mut self) -> Plan {
        self.is_counted = false;
        self
    }

    /// Gives the proxy the pods' API key, so that sessions can migrate.
    pub(crate) fn with_api_key(mut self) -> Plan {
        self.has_key = true;
        self
    }

    /// Gives the pod `b` a database of its own, before the same media. Each pod has an API key of its own.
    pub(crate) fn twins(mut self) -> Plan {
        self.has_twin = true;
        self.with_api_key().database("separate")
    }

    /// Changes every pod before it starts.
    pub(crate) fn build(mut self, build: impl Fn(PodBuilder) -> PodBuilder + 'static) -> Plan {
        self.builds.push((None, Box::new(build)));
        self
    }

    /// Changes one pod before it starts.
    pub(crate) fn build_one(mut self, name: &'static str, build: impl Fn(PodBuilder) -> PodBuilder + 'static) -> Plan {
        self.builds.push((Some(name), Box::new(build)));
        self
    }

    /// Starts the pods, then the proxy: for what prepares a world, which [`story`] then takes.
    pub(crate) async fn start(mut self) -> World {
        let cluster = Cluster::new();
        if self.has_key {
            self.settings.api_key(&cluster.api_key());
        }
        let twin = self.has_twin.then(Cluster::twin);
        let mut pods = Vec::new();
        for name in ('a'..='z').take(self.pods).map(String::from) {
            let builds = self.builds.iter().filter(|(only, _)| only.is_none_or(|only| only == name));
            let own = twin.as_ref().filter(|_| name == "b");
            let builder = Pod::builder(own.unwrap_or(&cluster)).name(&name);
            let pod = builds.fold(builder, |pod, (_, build)| build(pod));
            let pod = pod.start().await.expect("a pod starts");
            match own {
                Some(own) => self.settings.pod_with_key(&name, pod.address(), &own.api_key()),
                None => self.settings.pod(&name, pod.address()),
            }
            pods.push(pod);
        }
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
        let proxy = Proxy::start(&self.settings, &folder).await;
        if !self.is_counted {
            proxy.has_uncounted_requests();
        }
        World {
            cluster,
            twin,
            pods,
            proxy,
            settings: self.settings,
            replicas: Mutex::default(),
            folder,
            is_stopped: false,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        assert!(self.is_stopped || std::thread::panicking(), "a world must be stopped at the end of its story");
    }
}

/// Lets time pass because the story tells of it: a client's pace, the length of an outage. It waits for nothing.
pub(crate) fn elapse(time: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(time)
}

/// Waits until something holds. For what tells of its changes there are better ways: a pod's own `until`, a channel.
///
/// # Panics
/// After [`DEADLINE`], saying what was waited for.
#[track_caller]
pub(crate) fn until(what: &str, holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    until_within(DEADLINE, what, holds)
}

/// The same for what may take longer, or must not take so long.
///
/// # Panics
/// After `bound`, saying what was waited for.
#[track_caller]
pub(crate) fn until_within(bound: Duration, what: &str, mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    look_until(Location::caller(), bound, what, async move || holds())
}

/// The same for what has to be asked.
///
/// # Panics
/// After [`DEADLINE`], saying what was waited for.
#[track_caller]
pub(crate) fn until_so(what: &str, is_so: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    look_until(Location::caller(), DEADLINE, what, is_so)
}

/// The same for what has to be asked and may take longer.
///
/// # Panics
/// After `bound`, saying what was waited for.
#[track_caller]
pub(crate) fn until_so_within(
    bound: Duration,
    what: &str,
    is_so: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    look_until(Location::caller(), bound, what, is_so)
}

async fn look_until(caller: &Location<'_>, bound: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(LOOK_AGAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let wait = async {
        while !is_so().await {
            looks.tick().await;
        }
    };
    assert!(tokio::time::timeout(bound, wait).await.is_ok(), "{caller}: it never came to this: {what}");
}
