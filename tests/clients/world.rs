//! Three simulated pods with the proxy before them, or with a load balancer that knows nothing of sessions.

use std::{net::SocketAddr, path::Path, sync::Arc};

use jellyfin_sim::{Cluster, Generation, Pod};
use jellypin::{
    app::{self, App},
    config::{self, ProcessEnvironment},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

pub(crate) struct World {
    /// Where clients go, without a slash at the end.
    pub(crate) url: String,
    pub(crate) pods: Vec<Pod>,
    proxy: Option<App>,
}

impl World {
    /// Pods behind jellypin.
    pub(crate) async fn start(generation: Generation) -> World {
        World::behind_proxy(pods(&Cluster::new(), generation).await, String::from(HEAD)).await
    }

    /// Pods behind a jellypin that carries sessions over.
    pub(crate) async fn with_api_key() -> World {
        let cluster = Cluster::new();
        let key = format!("[jellyfin]\napi_key = \"{}\"\n", cluster.api_key());
        World::behind_proxy(pods(&cluster, Generation::V12).await, key + HEAD).await
    }

    async fn behind_proxy(pods: Vec<Pod>, mut text: String) -> World {
        for pod in &pods {
            text += &format!("{} = \"http://{}\"\n", pod.name(), pod.address());
        }
        let config =
            config::parse(&text, Path::new("clients.toml"), &ProcessEnvironment).expect("the configuration is good");
        let proxy = app::start(config).await.expect("the proxy starts");
        World { url: format!("http://{}", proxy.addresses[0]), pods, proxy: Some(proxy) }
    }

    /// Pods behind a load balancer that deals out connections to them in turn.
    pub(crate) async fn without_affinity() -> World {
        let pods = pods(&Cluster::new(), Generation::V12).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let addresses: Arc<[SocketAddr]> = pods.iter().map(Pod::address).collect();
        tokio::spawn(async move {
            for pod in addresses.iter().cycle().copied() {
                let Ok((client, _)) = listener.accept().await else { return };
                tokio::spawn(deal(client, pod));
            }
        });
        World { url, pods, proxy: None }
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

async fn pods(cluster: &Cluster, generation: Generation) -> Vec<Pod> {
    let mut pods = Vec::new();
    for name in ["a", "b", "c"] {
        // One server id for all, as pods with a shared data folder have: to a client they are one server.
        let pod = Pod::builder(cluster).name(name).server_id(Some(SERVER_ID)).generation(generation).web_client(true);
        pods.push(pod.start().await.expect("a pod starts"));
    }
    pods
}

const HEAD: &str = "
[listen]
http = \"127.0.0.1:0\"
[admin]
listen = \"127.0.0.1:0\"
[log]
access = false
[pools.jellyfin.pods]
";
const SERVER_ID: &str = "5a1e0f3d9c7b48268f4d2a6b1c3e5f70";
