//! Three simulated pods with the proxy before them, or with a load balancer that knows nothing of sessions.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use jellyfin_sim::{Cluster, Generation, Pod};
use jellypin::{
    app::{self, App},
    config::{self, ProcessEnvironment},
    observe::metrics::Resumption,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::{interval, timeout},
};

use super::tap::Tap;

/// The time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(crate) struct World {
    /// Where clients go, without a slash at the end.
    pub(crate) url: String,
    pub(crate) pods: Vec<Pod>,
    tap: Option<Tap>,
    proxy: Option<App>,
}

/// The pods' own server ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// One for all, as pods with a shared data folder have: to a client they are one server.
    One,
    /// Each its own, none of them the one that clients are shown.
    Each,
}

impl World {
    /// Pods behind jellypin, which has no API key of theirs.
    pub(crate) async fn start(generation: Generation) -> World {
        World::behind(generation, Ids::One, None).await
    }

    /// Pods behind jellypin, which has their API key, so that sessions migrate. A tap listens to what clients get.
    pub(crate) async fn with_api_key(generation: Generation, ids: Ids) -> World {
        let cluster = Cluster::new();
        let mut world = World::behind(generation, ids, Some(&cluster)).await;
        let proxy = world.proxy.as_ref().expect("a proxy").addresses[0];
        let tap = Tap::open(proxy).await;
        world.url = format!("http://{}", tap.address);
        world.tap = Some(tap);
        world
    }

    async fn behind(generation: Generation, ids: Ids, key_of: Option<&Cluster>) -> World {
        let pods = pods(key_of.cloned().unwrap_or_default(), generation, ids).await;
        let mut text = String::from(HEAD);
        if let Some(cluster) = key_of {
            text += &format!("[jellyfin]\nserver_id = \"{SERVER_ID}\"\napi_key = \"{}\"\n", cluster.api_key());
        }
        if ids == Ids::Each {
            // What is compressed cannot be searched for the pods' ids.
            text += "[compression]\nanswers = \"off\"\n";
        }
        text += "[pools.jellyfin.pods]\n";
        for pod in &pods {
            text += &format!("{} = \"http://{}\"\n", pod.name(), pod.address());
        }
        let config =
            config::parse(&text, Path::new("clients.toml"), &ProcessEnvironment).expect("the configuration is good");
        let proxy = app::start(config).await.expect("the proxy starts");
        World { url: format!("http://{}", proxy.addresses[0]), pods, tap: None, proxy: Some(proxy) }
    }

    /// What listens between the clients and the proxy.
    pub(crate) fn tap(&self) -> &Tap {
        self.tap.as_ref().expect("this world has a tap")
    }

    /// How many answers without a refusal the clients got, where a tap stands before the proxy.
    pub(crate) fn answers(&self) -> Option<usize> {
        Some(self.tap.as_ref()?.statuses().range(..400).map(|(_, count)| count).sum())
    }

    /// Where operators go.
    pub(crate) fn admin(&self) -> String {
        format!("http://{}", self.proxy.as_ref().and_then(|proxy| proxy.admin).expect("an admin address"))
    }

    /// How often a file went on on another pod.
    pub(crate) fn resumed(&self) -> u64 {
        let metrics = &self.proxy.as_ref().expect("a proxy").metrics;
        let of = |pod: &Pod| Resumption { pool: "jellyfin".into(), from: pod.name().into(), outcome: "resumed" };
        self.pods.iter().map(|pod| metrics.resumed.get_or_create(&of(pod)).get()).sum()
    }

    /// Pods behind a load balancer that deals out connections to them in turn.
    pub(crate) async fn without_affinity() -> World {
        let pods = pods(Cluster::new(), Generation::V12, Ids::One).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let addresses: Arc<[SocketAddr]> = pods.iter().map(Pod::address).collect();
        tokio::spawn(async move {
            for pod in addresses.iter().cycle().copied() {
                let Ok((client, _)) = listener.accept().await else { return };
                tokio::spawn(deal(client, pod));
            }
        });
        World { url, pods, tap: None, proxy: None }
    }

    /// Waits until something holds, and says whether it came to that.
    pub(crate) async fn until(&self, bound: Duration, holds: impl Fn() -> bool) -> bool {
        let mut looks = interval(LOOK_AGAIN);
        let wait = async {
            while !holds() {
                looks.tick().await;
            }
        };
        timeout(bound, wait).await.is_ok()
    }

    /// Stops the proxy; the pods end with the world.
    pub(crate) async fn end(self) {
        if let Some(proxy) = self.proxy {
            proxy.stop().await;
        }
    }
}

async fn deal(mut client: TcpStream, pod: SocketAddr) {
    if let Ok(mut pod) = TcpStream::connect(pod).await {
        // Either side may end it as it likes: the clients complain of what matters.
        let _ = copy_bidirectional(&mut client, &mut pod).await;
    }
}

async fn pods(cluster: Cluster, generation: Generation, ids: Ids) -> Vec<Pod> {
    let mut pods = Vec::new();
    for name in ["a", "b", "c"] {
        let id = (ids == Ids::One).then_some(SERVER_ID);
        let pod = Pod::builder(&cluster).name(name).server_id(id).generation(generation).web_client(true);
        pods.push(pod.start().await.expect("a pod starts"));
    }
    pods
}

const HEAD: &str = "
[listen]
http = \"127.0.0.1:0\"
[admin]
listen = \"127.0.0.1:0\"
token = \"a-token-of-some-length\"
[log]
access = false
";
/// The id that clients see.
pub(crate) const SERVER_ID: &str = "5a1e0f3d9c7b48268f4d2a6b1c3e5f70";
