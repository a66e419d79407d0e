//! Real clients that have to do with each other, on three pods: one approves the other's QuickConnect code, and they watch a
//! film together by SyncPlay.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use jellyfin_sim::{Cluster, FILM, Pod};
use jellypin::{
    affinity::placement::{Key, rendezvous},
    app::{self, App},
    config::{self, ProcessEnvironment},
    pod::{self, PodConfig},
};
use serde_json::{Value, json};
use tokio::task::block_in_place;

/// Three pods with their own server ids behind jellypin with an API key. The first pod leads.
struct World {
    url: String,
    pods: Vec<Pod>,
    proxy: App,
}

impl World {
    async fn start() -> World {
        let cluster = Cluster::new();
        let (mut pods, mut lines) = (Vec::new(), String::new());
        for name in ["a", "b", "c"] {
            let pod = Pod::builder(&cluster).name(name).start().await.expect("a pod starts");
            lines += &format!("{name} = \"http://{}\"\n", pod.address());
            pods.push(pod);
        }
        let text = format!(
            "[listen]\nhttp = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = false\n\
             [jellyfin]\napi_key = \"{}\"\n[pools.main.pods]\n{lines}",
            cluster.api_key()
        );
        let config = config::parse(&text, Path::new("together.toml"), &ProcessEnvironment).expect("a configuration");
        let proxy = app::start(config).await.expect("the proxy starts");
        World { url: format!("http://{}", proxy.addresses[0]), pods, proxy }
    }

    fn leader(&self) -> String {
        let leader = self.proxy.site().pools[0].leader.current().expect("a leader");
        leader.name.to_string()
    }
}

/// A device whose log-in is placed on this pod.
fn device_on(wanted: &str, kind: &str) -> String {
    let pool: Arc<str> = "main".into();
    let pod = |name: &&str| {
        let (name, authority) = ((*name).to_owned(), "h:1".to_owned());
        pod::Pod::new(&pool, &PodConfig { name, authority })
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
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let heard = self.does(who, "heard", json!({}));
            if heard["heard"][kind].as_u64().unwrap_or(0) >= times {
                return;
            }
            assert!(Instant::now() < end, "{who} never heard {kind}: {heard}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// 100 codes, each shown by a new device of one library and approved by a user of the other, homed on different pods.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_connect_between_two_libraries() {
    const RUNS: usize = 100;
    let world = World::start().await;
    let leader = world.leader();
    let elsewhere = if leader == "b" { "c" } else { "b" };
    let (mut sdk, mut python) = (Library::sdk(&world.url), Library::python(&world.url));
    let approver = device_on(elsewhere, "approver");
    sdk.does(&approver, "log_in", json!({"user": "alice", "password": "alice-pw"}));
    let mut failed = Vec::new();
    let began = Instant::now();
    for run in 0..RUNS {
        let device = format!("new-device-{run}");
        let mut flow = || -> Result<(), String> {
            let code = python.tries(&device, "begin", json!({}))?["code"].clone();
            python.tries(&device, "state", json!({}))?;
            let approved = sdk.tries(&approver, "authorize", json!({"code": code}))?;
            let state = python.tries(&device, "state", json!({}))?;
            let finished = python.tries(&device, "finish", json!({}))?;
            let is_good =
                approved["authorized"] == true && state["authenticated"] == true && finished["name"] == "alice";
            is_good.then_some(()).ok_or(format!("{approved} {state} {finished}"))
        };
        failed.extend(flow().err());
    }
    println!(
        "QuickConnect, approver on {elsewhere}, leader {leader}: {RUNS} runs, {} failed, {:.0} ms a run",
        failed.len(),
        began.elapsed().as_secs_f64() * 1000.0 / RUNS as f64
    );
    assert_eq!(failed, Vec::<String>::new());
    let at_home = world.pods.iter().find(|pod| pod.name() == elsewhere).expect("the pod");
    assert!(at_home.seen().iter().any(|seen| seen.path() == "/Users/Me"), "the approver lives on {elsewhere}");
    // The leader dies between Initiate and Authorize: the flow ends as on a real pod, and the next one works.
    let code = python.does("unlucky", "begin", json!({}))["code"].clone();
    world.pods.iter().find(|pod| pod.name() == leader).expect("the leader").kill().await;
    let vain = sdk.tries(&approver, "authorize", json!({"code": code}));
    assert!(vain.as_ref().is_err_and(|error| error.contains("404")), "{vain:?}");
    assert_eq!(sdk.does(&approver, "me", json!({}))["name"], "alice");
    let code = python.does("lucky", "begin", json!({}))["code"].clone();
    sdk.does(&approver, "authorize", json!({"code": code}));
    assert_eq!(python.does("lucky", "finish", json!({}))["name"], "alice");
    drop((sdk, python));
    world.proxy.stop().await;
}

async fn watch_together(count: usize) {
    let world = World::start().await;
    let (mut sdk, mut python) = (Library::sdk(&world.url), Library::python(&world.url));
    let pods = ["a", "b", "c"];
    let name = |number: usize| device_on(pods[number % 3], &format!("member-{number}"));
    let members: Vec<(String, bool)> = (0..count).map(|number| (name(number), number % 2 == 0)).collect();
    for (number, (member, is_sdk)) in members.iter().enumerate() {
        let user = json!({"user": format!("user{number}"), "password": "pw"});
        if *is_sdk {
            sdk.does(member, "log_in", user);
            sdk.does(member, "listen", json!({}));
        } else {
            python.does(member, "log_in", user);
        }
    }
    let first = members[0].0.clone();
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    let group = sdk.does(&first, "new_group", json!({}))["group"].clone();
    for (member, is_sdk) in &members[1..] {
        let library = if *is_sdk { &mut sdk } else { &mut python };
        library.does(member, "join", json!({"group": group}));
        library.until_heard(member, "GroupJoined", 1);
    }
    sdk.until_heard(&first, "UserJoined", count as u64 - 1);
    sdk.does(&first, "queue", json!({"item": FILM}));
    expected.insert("PlayQueue", 1);
    for (deed, command) in [("unpause", "Unpause"), ("pause", "Pause"), ("seek", "Seek")] {
        sdk.does(&first, deed, json!({"ticks": 100_000_000_u64}));
        expected.insert(command, 1);
        for (member, is_sdk) in &members {
            let library = if *is_sdk { &mut sdk } else { &mut python };
            library.until_heard(member, command, 1);
        }
    }
    let (mut lost, mut doubled) = (0, 0);
    for (member, is_sdk) in &members {
        let library = if *is_sdk { &mut sdk } else { &mut python };
        let heard = library.does(member, "heard", json!({}))["heard"].clone();
        for (kind, times) in &expected {
            let heard = heard[*kind].as_u64().unwrap_or(0);
            lost += times.saturating_sub(heard);
            doubled += heard.saturating_sub(*times);
        }
    }
    println!("SyncPlay, {count} members of two libraries on three pods: {lost} lost, {doubled} doubled");
    assert_eq!((lost, doubled), (0, 0));
    drop((sdk, python));
    world.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_of_two_libraries_watch_together() {
    watch_together(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_clients_of_two_libraries_watch_together() {
    watch_together(20).await;
}
