//! Real clients that have to do with each other, on three pods: one approves the other's QuickConnect code, and they watch a
//! film together by SyncPlay.

#[path = "real_clients_together/pairs.rs"]
mod pairs;
#[path = "real_clients_together/quick_connect.rs"]
mod quick_connect;
#[path = "real_clients_together/sync_play.rs"]
mod sync_play;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use jellyfin_sim::{Cluster, Pod};
use jellypin::{
    affinity::placement::{Key, rendezvous},
    app::{self, App},
    config::{self, ProcessEnvironment},
    pod::{self, PodConfig},
};
use serde_json::{Value, json};
use tokio::task::block_in_place;

/// Three pods with their own server ids behind jellypin with an API key.
struct World {
    pods: Vec<Pod>,
    proxies: Vec<App>,
}

impl World {
    /// One proxy before them.
    async fn start() -> World {
        World::of(1, "").await
    }

    /// Two replicas that elect the leader.
    async fn elects(redis: &Redis) -> World {
        let keys = "keys = [\"a key of more than sixteen bytes\"]\n[leader]\nmode = \"elect\"\n";
        World::of(2, &format!("{keys}[redis]\nurl = \"redis://127.0.0.1:{}\"\ndeadline = \"1s\"\n", redis.port)).await
    }

    async fn of(proxies: usize, more: &str) -> World {
        let cluster = Cluster::new();
        let (mut pods, mut lines) = (Vec::new(), String::new());
        for name in ["a", "b", "c"] {
            let pod = Pod::builder(&cluster).name(name).start().await.expect("a pod starts");
            lines += &format!("{name} = \"http://{}\"\n", pod.address());
            pods.push(pod);
        }
        let text = format!(
            "[listen]\nhttp = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = false\n\
             [jellyfin]\napi_key = \"{}\"\n[affinity]\nspread_users = [\"*\"]\n{more}[pools.main.pods]\n{lines}",
            cluster.api_key()
        );
        let mut world = World { pods, proxies: Vec::new() };
        for _ in 0..proxies {
            let config =
                config::parse(&text, Path::new("together.toml"), &ProcessEnvironment).expect("a configuration");
            world.proxies.push(app::start(config).await.expect("the proxy starts"));
        }
        world
    }

    fn url(&self, proxy: usize) -> String {
        format!("http://{}", self.proxies[proxy].addresses[0])
    }

    fn leader(&self) -> String {
        let leader = self.proxies[0].shared().pools[0].leader.current().expect("a leader");
        leader.name.to_string()
    }

    async fn stop(self) {
        for proxy in self.proxies {
            proxy.stop().await;
        }
    }
}

/// A `redis-server` that keeps nothing.
struct Redis {
    port: u16,
    child: Option<Child>,
}

impl Redis {
    fn start() -> Redis {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut redis = Redis { port: listener.local_addr().expect("an address").port(), child: None };
        drop(listener);
        redis.start_again();
        redis
    }

    fn start_again(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
        command.stdout(Stdio::null());
        self.child = Some(command.spawn().expect("a redis-server starts"));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already cannot be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until every replica has asked it who leads.
    async fn until_asked(&self, replicas: usize) {
        let asked = || {
            let client = redis::Client::open(("127.0.0.1", self.port)).expect("an address");
            let mut connection = client.get_connection().ok()?;
            let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut connection).ok()?;
            (clients.matches("cmd=eval").count() >= replicas).then_some(())
        };
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        let until_asked = async {
            while asked().is_none() {
                looks.tick().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), until_asked).await.is_ok(), "Redis is not asked");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A device whose log-in is placed on this pod.
fn device_on(wanted: &str, kind: &str) -> String {
    let pool: Arc<str> = "main".into();
    let pod = |name: &&str| {
        let (name, authority) = ((*name).to_owned(), "h:1".to_owned());
        pod::Pod::new(&pool, &PodConfig { name, authority, ..Default::default() })
    };
    let pods: Vec<_> = ["a", "b", "c"].iter().map(pod).collect();
    let names = (0..).map(|number| format!("{kind}-{number}"));
    let fits =
        |name: &String| rendezvous(Key::of(name.as_bytes()), pods.iter()).is_some_and(|pod| &*pod.name == wanted);
    names.into_iter().find(fits).expect("a name")
}

/// A process of several clients of one library.
struct Library {
    child: Child,
    stdin: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Library {
    fn sdk(url: &str) -> Library {
        let mut command = Command::new("node");
        command.arg("--experimental-websocket").arg(folder().join("together.mjs")).arg(url);
        Library::start(command)
    }

    fn python(url: &str) -> Library {
        let venv = folder().join("../../target/clients/venv/bin/python");
        assert!(venv.exists(), "run tests/install, which installs what the tests need");
        let mut command = Command::new(venv);
        command.arg(folder().join("together.py")).arg(url);
        Library::start(command)
    }

    fn start(mut command: Command) -> Library {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("run tests/install, which installs what the tests need");
        let stdin = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Library { child, stdin, answers }
    }

    /// What the client answers, or what failed.
    fn tries(&mut self, who: &str, deed: &str, more: Value) -> Result<Value, String> {
        let mut told = more;
        told["as"] = json!(who);
        told["do"] = json!(deed);
        block_in_place(|| {
            writeln!(self.stdin, "{told}").map_err(|error| error.to_string())?;
            let mut line = String::new();
            self.answers.read_line(&mut line).map_err(|error| error.to_string())?;
            let answer: Value = serde_json::from_str(&line).map_err(|error| format!("{deed}: {error}"))?;
            match answer["error"].as_str() {
                Some(error) => Err(error.to_owned()),
                None => Ok(answer),
            }
        })
    }

    #[track_caller]
    fn does(&mut self, who: &str, deed: &str, more: Value) -> Value {
        self.tries(who, deed, more).unwrap_or_else(|error| panic!("{who} {error}"))
    }

    /// Waits until the client has heard this so often.
    #[track_caller]
    fn until_heard(&mut self, who: &str, kind: &str, times: u64) {
        self.does(who, "hears", json!({"kind": kind, "times": times}));
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Users of the SDK, homed on each of the pods, who look at this and that all the while: none of their requests may fail.
struct Visitors {
    libraries: Vec<Library>,
    devices: Vec<String>,
}

impl Visitors {
    /// Three for each proxy.
    fn come(world: &World) -> Visitors {
        let mut libraries: Vec<Library> =
            (0..world.proxies.len()).map(|proxy| Library::sdk(&world.url(proxy))).collect();
        let devices: Vec<String> = ["a", "b", "c"].iter().map(|pod| device_on(pod, "visitor")).collect();
        for (number, library) in libraries.iter_mut().enumerate() {
            for (at, device) in devices.iter().enumerate() {
                let user = format!("user{}", 900 + 3 * number + at);
                library.does(device, "log_in", json!({"user": user, "password": "pw"}));
                library.does(device, "look", json!({}));
            }
        }
        Visitors { libraries, devices }
    }

    fn leave(mut self, meanwhile: &str) {
        let (mut asked, mut failed) = (0, Vec::new());
        for library in &mut self.libraries {
            for device in &self.devices {
                let looked = library.does(device, "stop", json!({}));
                asked += looked["asked"].as_u64().unwrap_or(0);
                failed.extend(looked["failed"].as_array().expect("failures").clone());
            }
        }
        println!("{meanwhile}: {asked} ordinary requests, {} failed", failed.len());
        assert!(asked > 0 && failed.is_empty(), "of {asked}: {failed:?}");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}
