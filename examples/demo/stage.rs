//! The pods and the proxy, all in this process.

use std::{error::Error, io, net::SocketAddr, path::Path, time::Duration};

use jellyfin_sim::{Cluster, Pod};
use jellypin::{
    app::{self, App},
    config::{self, ProcessEnvironment},
};
use tokio::time::{Instant, timeout};

/// The configuration of the demo, but for the API key and the pods.
const HEAD: &str = "
[listen]
http = \"127.0.0.1:0\"
[admin]
listen = \"127.0.0.1:0\"
[affinity]
keys = [\"the key of a demo, for nothing else\"]
[websocket]
stop_stagger = \"100ms\"
[log]
access = false
";

/// The longest that a pod may take to be used again.
const DEADLINE: Duration = Duration::from_secs(10);

/// Three pods behind jellypin.
pub(crate) struct Stage {
    pods: Vec<Pod>,
    proxy: App,
}

impl Stage {
    /// Starts everything, on ports that the system chooses.
    pub(crate) async fn raise() -> Result<Stage, Box<dyn Error>> {
        let cluster = Cluster::new();
        let mut pods = Vec::new();
        let key = cluster.api_key();
        let mut text =
            format!("{HEAD}[timeouts]\ndrain = \"1s\"\n[jellyfin]\napi_key = \"{key}\"\n[pools.jellyfin.pods]\n");
        for name in ["a", "b", "c"] {
            let pod = Pod::builder(&cluster).name(name).web_client(true).start().await?;
            text += &format!("{name} = \"http://{}\"\n", pod.address());
            pods.push(pod);
        }
        let config = config::parse(&text, Path::new("demo.toml"), &ProcessEnvironment)?;
        Ok(Stage { pods, proxy: app::start(config).await? })
    }

    /// Where clients come in.
    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.addresses[0]
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn admin_url(&self) -> String {
        self.proxy.admin.map(|address| format!("http://{address}")).unwrap_or_default()
    }

    /// The pods that served a device since the last kill, in the order of their names.
    pub(crate) fn homes(&self, device: &str) -> Vec<String> {
        let names = |request: &jellyfin_sim::Seen| {
            let header = request.header("authorization").unwrap_or_default();
            header.contains(&format!("DeviceId=\"{device}\""))
                || request.target.contains(&format!("DeviceId={device}&"))
        };
        let served = |pod: &&Pod| pod.seen().iter().any(|seen| (200..400).contains(&seen.status) && names(seen));
        self.pods.iter().filter(served).map(|pod| pod.name().to_owned()).collect()
    }

    /// The pods that know a token by themselves.
    pub(crate) fn knowing(&self, token: Option<&str>) -> Vec<String> {
        let knows = |pod: &&Pod| token.is_some_and(|token| pod.knows_token(token));
        self.pods.iter().filter(knows).map(|pod| pod.name().to_owned()).collect()
    }

    /// Lets a pod's answers begin late, as those of a busy one do, until it is killed.
    pub(crate) fn slow(&self, name: &str, first_byte: Duration) {
        for pod in self.pods.iter().filter(|pod| pod.name() == name) {
            pod.slow_first_byte(first_byte);
        }
    }

    /// Kills a pod as SIGKILL does, and gives the moment of the kill.
    pub(crate) async fn kill(&self, name: &str) -> Instant {
        let killed = Instant::now();
        for pod in self.pods.iter().filter(|pod| pod.name() == name) {
            pod.kill().await;
            pod.slow_first_byte(Duration::ZERO);
        }
        for pod in &self.pods {
            pod.clear_seen();
        }
        killed
    }

    /// Starts a killed pod, and waits until jellypin uses it again.
    pub(crate) async fn start_again(&self, name: &str) -> io::Result<()> {
        for pod in self.pods.iter().filter(|pod| pod.name() == name) {
            pod.start_again().await?;
        }
        let shared = self.proxy.shared();
        let pods = shared.pools.iter().flat_map(|shared| shared.pool.pods().to_vec());
        for pod in pods.filter(|pod| &*pod.name == name) {
            let mut changes = pod.life.changes();
            let used = timeout(DEADLINE, changes.wait_for(|status| status.is_alive())).await;
            used.map_err(|_| io::Error::other(format!("pod {name} is not used again")))?.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// The lines of the metrics that count requests which left a pod for another, and sessions that have migrated.
    pub(crate) fn moves(&self) -> String {
        let page = self.proxy.metrics.page().unwrap_or_default();
        let counts = ["jellypin_moves_total", "jellypin_migrations_total"];
        let lines = page.lines().filter(|line| counts.iter().any(|name| line.starts_with(name)));
        let lines: Vec<_> = lines.map(|line| format!("  {line}")).collect();
        if lines.is_empty() { "  none".to_owned() } else { lines.join("\n") }
    }

    /// Stops the proxy, then the pods.
    pub(crate) async fn strike(self) {
        self.proxy.stop().await;
    }
}
