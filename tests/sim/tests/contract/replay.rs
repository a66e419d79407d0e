//! Replays the recordings of one generation, in their order, against two simulated pods of one cluster.
//!
//! The order matters as it did when they were made: the list of sessions in the third holds what the second left.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use jellyfin_sim::{BULK, Cluster, FILM, Generation, Pod, StartUp};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::answer;
use crate::client::{self, Answer, NoAnswer, Outgoing, Received, Socket, Upgraded};
use crate::difference::{Difference, Kind};
use crate::json as json_body;
use crate::names::Names;
use crate::recording::{Exchange, Frame, Headers, Recording, Request, Sender, What};
use crate::report::Report;
use crate::start_up;
use crate::tolerated::Tolerance;

/// What the recorder's own client sent with every request; the pods' answers show that it took gzip and not brotli.
const OF_THE_RECORDER: [(&str, &str); 3] =
    [("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate"), ("User-Agent", "recorder/1.0")];

/// One generation: where its recordings lie, and the literals in them that stand for changing values.
pub(crate) struct Play {
    pub(crate) generation: Generation,
    pub(crate) label: &'static str,
    pub(crate) folder: &'static str,
    pub(crate) literals: &'static [(&'static str, &'static str)],
}

impl Play {
    /// How requests are read, and what pods do not see of each other, was recorded of 12.0 alone.
    fn has(&self, file: &str) -> bool {
        self.generation == Generation::V12 || !file.starts_with('1')
    }
}

/// All files of a generation, in the order in which they were recorded.
pub(crate) const FILES: [&str; 9] = [
    "01-log-in-and-tokens",
    "02-quick-connect",
    "03-socket",
    "04-start-up",
    "05-sync-play",
    "06-media",
    "07-stale-device-row",
    "10-reading-requests",
    "11-in-step",
];

/// Replays the files and reports on them.
pub(crate) async fn play(play: &Play, files: &[&'static str]) -> Report {
    let mut stage = Stage::set(play, Report::new(play.label, Tolerance::of(play.label))).await;
    stage.log_in("a", "root", ("bar", "bar"), "bar-dev", "token:root@a").await;
    for &file in files.iter().filter(|file| play.has(file)) {
        let recording = Recording::read(&format!("{}{file}", play.folder), play.literals);
        if file.starts_with("11") {
            stage = stage.in_step(play).await;
        }
        stage.report.begin(file);
        if file.starts_with("04") {
            let pod = Arc::clone(&stage.pods["b"]);
            start_up::replay(&recording, &pod, &mut stage.names, &mut stage.report).await;
        } else {
            stage.replay(&recording).await;
        }
        stage.end_of_file().await;
    }
    stage.report
}

/// The recorder's picture had 70 octets.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// The pods, the sockets open to them, and what has been learnt so far.
struct Stage {
    pods: BTreeMap<&'static str, Arc<Pod>>,
    names: Names,
    sockets: BTreeMap<String, Socket>,
    stopping: Option<JoinHandle<()>>,
    report: Report,
}

impl Stage {
    /// Starts the pods and prepares what the recordings take for granted.
    async fn set(play: &Play, report: Report) -> Stage {
        let cluster = Cluster::new();
        let mut pods = BTreeMap::new();
        let phased = StartUp::Phased(start_up::lengths(play.generation));
        for (name, start_up) in [("a", StartUp::Instant), ("b", phased)] {
            let pod = Pod::builder(&cluster)
                .name(name)
                .generation(play.generation)
                .start_up(start_up)
                .start()
                .await
                .expect("a free port of 127.0.0.1");
            pod.until(Pod::is_ready).await;
            pods.insert(name, Arc::new(pod));
        }
        let mut names = Names::default();
        names.set("api-key", &cluster.api_key());
        for user in ["alice", "bob", "root"] {
            let id = cluster.user_id(user).expect("every cluster has them");
            names.set(&format!("user:{user}"), &id);
        }
        names.set("item:1", FILM);
        for (name, pod) in &pods {
            names.set(&format!("http://pod-{name}"), &format!("http://{}", pod.address()));
        }
        Stage { pods, names, sockets: BTreeMap::new(), stopping: None, report }
    }

    /// Other pods, for the recording that began with a new cluster: a user more, pods that were restarted after their first
    /// log-in, and two devices that were signed in before.
    async fn in_step(self, play: &Play) -> Stage {
        let mut stage = Stage::set(play, self.report).await;
        stage.names.set("item:2", BULK);
        // The document that an editor sends back has the time of the item's making in it.
        stage.names.set("time", "2026-11-01T10:00:00.0000000Z");
        stage.log_in("a", "root", ("bar", "bar"), "setup", "token:root@a:setup").await;
        let dora = json!({"Name": "dora", "Password": "dora-pw"});
        let dora = prepared(client::send(stage.address("a"), stage.by_key("POST", "/Users/New", dora)).await);
        stage.names.set("user:dora", dora["Id"].as_str().expect("an id"));
        for pod in stage.pods.values() {
            pod.kill().await;
            pod.start_again().await.expect("its own port");
            pod.until(Pod::is_ready).await;
        }
        stage.log_in("a", "root", ("Story", "Sofa"), "r0", "token:root@a:r0").await;
        stage.log_in("a", "alice", ("Story", "Sofa"), "r1", "token:alice@a:r1").await;
        let tasks = stage.by_key("GET", "/ScheduledTasks", Value::Null);
        let tasks = prepared(client::send(stage.address("a"), tasks).await);
        let scan = tasks.as_array().into_iter().flatten().find(|task| task["Key"] == "RefreshLibrary");
        stage.names.set("task:RefreshLibrary", scan.and_then(|task| task["Id"].as_str()).expect("an id"));
        // A's scan has made the picture, so its file is A's from the beginning.
        let mut scan = stage.by_key("POST", &format!("/Items/{BULK}/Images/Primary"), Value::Null);
        scan.json = None;
        scan.raw = Some(PICTURE.to_owned());
        scan.headers.push(("Content-Type".to_owned(), "image/png".to_owned()));
        let scanned = client::send(stage.address("a"), scan).await;
        assert!(scanned.is_ok_and(|answer| answer.status == 204), "the picture is not taken");
        stage
    }

    fn by_key(&self, method: &str, target: &str, json: Value) -> Outgoing {
        let authorization = self.names.fill("MediaBrowser Token=\"<api-key>\"");
        Outgoing {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![("Authorization".to_owned(), authorization)],
            json: Some(json),
            raw: None,
        }
    }

    fn pod(&self, name: &str) -> &Pod {
        &self.pods[name]
    }

    fn address(&self, pod: &str) -> SocketAddr {
        self.pod(pod).address()
    }

    /// A log-in that the recording took for granted, its token bound to `name`.
    async fn log_in(&mut self, pod: &str, user: &str, (client, device): (&str, &str), device_id: &str, name: &str) {
        let authorization =
            format!("MediaBrowser Client=\"{client}\", Device=\"{device}\", DeviceId=\"{device_id}\", Version=\"1.0\"");
        let request = Outgoing {
            method: "POST".to_owned(),
            target: "/Users/AuthenticateByName".to_owned(),
            headers: vec![("Authorization".to_owned(), authorization)],
            json: Some(json!({"Username": user, "Pw": format!("{user}-pw")})),
            raw: None,
        };
        let answer = prepared(client::send(self.address(pod), request).await);
        let token = answer["AccessToken"].as_str().expect("an access token");
        self.names.set(name, token);
    }

    async fn replay(&mut self, recording: &Recording) {
        for step in &recording.steps {
            let found = match &step.what {
                What::Exchange(exchange) => {
                    self.prepare(exchange).await;
                    self.exchange(exchange).await
                }
                What::Frame(frame) => self.frame(frame).await,
                What::Note(note) => {
                    self.note(note);
                    continue;
                }
                What::Probe(_) => panic!("line {}: a probe outside of 04", step.line),
            };
            let is_frame = matches!(step.what, What::Frame(_));
            self.report.add(step.line, is_frame, found);
        }
    }

    /// What a note of the recording says to have happened between two exchanges.
    async fn prepare(&mut self, exchange: &Exchange) {
        if exchange.note.as_deref() == Some("b knows it after its restart") {
            let pod = self.pod("b");
            pod.kill().await;
            pod.start_again().await.expect("its own port");
            pod.until(Pod::is_ready).await;
        }
    }

    fn note(&mut self, note: &str) {
        if note.contains("socket is lost without a Close frame") {
            let socket = note.split('\'').next().unwrap_or_default();
            assert!(self.sockets.remove(socket).is_some(), "no socket {socket}");
        }
    }

    async fn exchange(&mut self, exchange: &Exchange) -> Vec<Difference> {
        let mut request = self.outgoing(&exchange.request, exchange.note.as_deref());
        if exchange.request.path.ends_with("/Images/Primary") && request.method == "POST" {
            request.raw = Some(PICTURE.to_owned());
        }
        if exchange.note.as_deref() == Some("whole document, ServerName changed") {
            request.json = Some(self.renamed(&request).await);
        }
        let address = self.address(&exchange.pod);
        let answer = if exchange.request.upgrade.is_some() {
            client::upgrade(address, request).await.map(|upgraded| {
                let Upgraded { answer, socket } = upgraded;
                if let Some(socket) = socket {
                    self.sockets.insert(device_of(&exchange.request), socket);
                }
                answer
            })
        } else {
            client::send(address, request).await
        };
        self.names.mint(minted_by(&exchange.request));
        match answer {
            Ok(answer) => answer::compare(&exchange.response, &answer, &mut self.names),
            Err(error) => vec![Difference::new(Kind::Missing, "answer", error.to_string())],
        }
    }

    /// The server's configuration as it is, but for its name.
    async fn renamed(&self, request: &Outgoing) -> Value {
        let reading = Outgoing {
            method: "GET".to_owned(),
            target: request.target.clone(),
            headers: request.headers.clone(),
            json: None,
            raw: None,
        };
        let mut document = prepared(client::send(self.address("a"), reading).await);
        document["ServerName"] = json!("Renamed");
        document
    }

    fn outgoing(&self, request: &Request, note: Option<&str>) -> Outgoing {
        let fill = |text: &str| match note {
            Some("older token") => self.names.fill_older(text),
            _ => self.names.fill(text),
        };
        let filled = |(name, value): (&String, &String)| (name.clone(), fill(value));
        let headers = match &request.headers {
            Headers::Pairs(pairs) => pairs.iter().map(|(name, value)| filled((name, value))).collect(),
            Headers::Map(map) => {
                let recorder = OF_THE_RECORDER.iter().filter(|(name, _)| !map.contains_key(*name));
                let recorder = recorder.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                recorder.chain(map.iter().map(filled)).collect()
            }
        };
        Outgoing {
            method: request.method.clone(),
            target: fill(&request.path),
            headers,
            json: request.json.as_ref().map(|json| {
                let text = fill(&json.to_string());
                serde_json::from_str(&text).expect("names stand within strings")
            }),
            raw: None,
        }
    }

    async fn frame(&mut self, frame: &Frame) -> Vec<Difference> {
        if !self.sockets.contains_key(&frame.socket) {
            self.open(frame).await;
        }
        let message = frame.message.as_ref();
        if message.is_some_and(|message| message["MessageType"] == "ServerShuttingDown") {
            let pod = Arc::clone(&self.pods[frame.pod.as_str()]);
            self.stopping = Some(tokio::spawn(async move { pod.stop().await }));
        }
        let Some(socket) = self.sockets.get_mut(&frame.socket) else {
            return vec![Difference::new(Kind::Missing, "frame", "the socket is not open")];
        };
        if frame.from == Sender::Client {
            return match socket.say(&frame.message.clone().unwrap_or_default()).await {
                true => Vec::new(),
                false => vec![Difference::new(Kind::Missing, "frame", "it cannot be sent")],
            };
        }
        let received = socket.next().await;
        if !matches!(received, Received::Message(_)) {
            // It is closed, or each frame after this would never come.
            self.sockets.remove(&frame.socket);
        }
        compare_frame(frame, received, &mut self.names)
    }

    /// Opens a socket whose opening was not recorded.
    async fn open(&mut self, frame: &Frame) {
        let token = match frame.socket.as_str() {
            "alice" => "token:alice@a:s1",
            "bob" => "token:bob@a:s2",
            "w2" => {
                self.log_in("b", "alice", ("Story", "Story"), "w2", "token:alice@b:w2").await;
                "token:alice@b:w2"
            }
            _ => return,
        };
        let request = Outgoing {
            method: "GET".to_owned(),
            target: self.names.fill(&format!("/socket?ApiKey=<{token}>")),
            headers: Vec::new(),
            json: None,
            raw: None,
        };
        let upgraded = client::upgrade(self.address(&frame.pod), request).await;
        if let Ok(Upgraded { socket: Some(socket), .. }) = upgraded {
            self.sockets.insert(frame.socket.clone(), socket);
        }
    }

    /// Nothing more may have been sent than was recorded: what a socket brings next is the answer to a `KeepAlive`.
    async fn end_of_file(&mut self) {
        for (name, mut socket) in std::mem::take(&mut self.sockets) {
            socket.say(&json!({"MessageType": "KeepAlive"})).await;
            let found = match socket.next().await {
                Received::Message(message) if message["MessageType"] == "KeepAlive" => continue,
                more => Difference::new(Kind::Extra, "frame", format!("{name} got {more}")),
            };
            self.report.add_at_end(found);
        }
        if let Some(stopping) = self.stopping.take() {
            stopping.await.expect("the pod stops");
        }
    }
}

fn compare_frame(frame: &Frame, received: Received, names: &mut Names) -> Vec<Difference> {
    match (&frame.message, &frame.closed, received) {
        (Some(recorded), _, Received::Message(seen)) => json_body::compare("frame", recorded, &seen, names),
        (_, Some((code, reason)), Received::Closed(seen_code, seen_reason))
            if *code == seen_code && *reason == seen_reason =>
        {
            Vec::new()
        }
        (message, closed, received) => {
            let recorded = message.as_ref().map(Value::to_string).unwrap_or_default();
            let detail = format!("recorded {recorded}{closed:?}, seen {received}");
            vec![Difference::new(Kind::Missing, "frame", detail)]
        }
    }
}

/// The socket's name in the recording is the device id that it was opened with.
fn device_of(request: &Request) -> String {
    let query = request.path.split_once("deviceId=");
    query.map_or(String::new(), |(_, device)| device.to_owned())
}

/// The kinds of names that a request's answer issues again.
fn minted_by(request: &Request) -> &'static [&'static str] {
    let path = request.path.split('?').next().unwrap_or_default();
    match path {
        "/Users/AuthenticateByName" => &["token"],
        "/QuickConnect/Initiate" => &["secret", "code"],
        _ if path.ends_with("/PlaybackInfo") => &["play-session"],
        _ => &[],
    }
}

/// The JSON of an answer that a preparation cannot do without.
fn prepared(answer: Result<Answer, NoAnswer>) -> Value {
    let answer = answer.unwrap_or_else(|error| panic!("the pod does not answer: {error}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}
