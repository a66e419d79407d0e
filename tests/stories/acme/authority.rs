//! A real ACME server of a story, `pebble`, and the DNS in which all names lead to this machine.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::stories::world::until_so_within;

/// The longest time for a step of an order. A busy machine takes long to make the authority's keys.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so, as long as an authority may take.
#[track_caller]
pub(super) fn until_so(what: &str, is_so: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    until_so_within(PATIENCE, what, is_so)
}

/// What can be told of it when it starts.
#[derive(Clone, Copy, Default)]
pub(super) struct Manner {
    /// It asks for answers at a port where nobody is.
    pub(super) asks_elsewhere: bool,
    /// It takes up to so many seconds before it asks.
    pub(super) slow: u32,
}

/// An authority that listens on 127.0.0.1; it is killed when it is dropped.
pub(super) struct Authority {
    folder: TempDir,
    directory: u16,
    dns: u16,
    /// Where it asks for answers in clear, and over TLS.
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    running: Vec<Child>,
}

impl Authority {
    /// An authority that does not run yet.
    pub(super) fn absent() -> Authority {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).expect("written");
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).expect("written");
        let [directory, http, https] = [free_port(), free_port(), free_port()];
        let dns = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Authority { folder, directory, dns, http: at(http), https: at(https), running: Vec::new() }
    }

    pub(super) async fn started(manner: Manner) -> Authority {
        let mut authority = Authority::absent();
        authority.start(manner).await;
        authority
    }

    /// Starts it, and waits until it answers.
    pub(super) async fn start(&mut self, manner: Manner) {
        let path = |name: &str| self.folder.path().join(name);
        let (http, https) =
            if manner.asks_elsewhere { (free_port(), free_port()) } else { (self.http.port(), self.https.port()) };
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.directory),
            "managementListenAddress": format!("127.0.0.1:{}", free_port()),
            "certificate": path("cert.pem"),
            "privateKey": path("key.pem"),
            "httpPort": http,
            "tlsPort": https,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(path("pebble.json"), config.to_string()).expect("written");
        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        names.arg("-dns01").arg(format!("127.0.0.1:{}", self.dns));
        names.arg("-management").arg(format!("127.0.0.1:{}", free_port()));
        let mut pebble = Command::new("pebble");
        pebble.arg("-config").arg(path("pebble.json")).arg("-dnsserver").arg(format!("127.0.0.1:{}", self.dns));
        match manner.slow {
            0 => pebble.env("PEBBLE_VA_NOSLEEP", "1"),
            seconds => pebble.env("PEBBLE_VA_SLEEPTIME", seconds.to_string()),
        };
        for mut program in [names, pebble] {
            let started = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            self.running.push(started.expect("pebble, which tests/install installs"));
        }
        let address = ("127.0.0.1", self.directory);
        until_so("the authority listens", async || TcpStream::connect(address).await.is_ok()).await;
    }

    /// The URL of its directory.
    pub(super) fn url(&self) -> String {
        format!("https://localhost:{}/dir", self.directory)
    }

    /// The certificate of that URL.
    pub(super) fn ca(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// A folder that is gone with it.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        for child in &mut self.running {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}
