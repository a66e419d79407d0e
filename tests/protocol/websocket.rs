//! WebSockets by Autobahn's cases, before a pod that echoes and takes no wrong frame.
//!
//! `kosoku` runs the case files of Autobahn's test suite; `tests/install` installs it. Its groups 12 and 13 are about
//! compression, which jellypin does not negotiate. `PROTOCOL_ALL=1` adds group 9, which moves megabytes.

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::spawn_blocking,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::program::Program;

/// A message that is echoed before a wrong frame ends the socket need not have come back through a relay (3 to 5), and text
/// is checked by the frame, not by the byte (6).
#[rustfmt::skip]
const NON_STRICT: [&str; 12] = [
    "3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15", "6.4.3", "6.4.4",
];

/// Their messages are longer than the 1 MiB that a client may send, and end the socket.
const TOO_LONG: [&str; 8] = ["9.1.4", "9.1.5", "9.1.6", "9.2.4", "9.2.5", "9.2.6", "9.3.", "9.4."];

#[tokio::test]
async fn the_cases_of_autobahn_hold() {
    let (pod, wrong) = echo_pod().await;
    let program = Program::start(pod, "[limits]\nsockets_per_address = 1000\n").await;
    let mut left_out = vec!["-x", "12.*", "-x", "13.*"];
    if env::var_os("PROTOCOL_ALL").is_none() {
        // They move megabytes.
        left_out.extend(["-x", "9.*"]);
    }
    let mut cases = run(program.address, 16, &left_out).await;
    assert!(cases.len() > 200, "{cases:?}");
    let late = failed(&cases);
    if !late.is_empty() {
        // A case has a second for what it waits for, which a loaded machine may not give: once more, one by one.
        let again: Vec<&str> = late.iter().flat_map(|name| ["-i", name]).collect();
        cases.extend(run(program.address, 1, &again).await);
    }
    let failed = failed(&cases);
    let non_strict = cases.values().filter(|behavior| *behavior == "NON-STRICT").count();
    println!("{} cases of Autobahn: {non_strict} not strict, {failed:?} failed, {late:?} at first", cases.len());
    assert!(failed.is_empty(), "{failed:?}");
    let wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(wrong.is_empty(), "the pod got wrong frames: {wrong:?}");
}

/// The cases of Autobahn's that did not hold, but for those that cannot.
fn failed(cases: &BTreeMap<String, String>) -> Vec<String> {
    let fails = |(name, behavior): &(&String, &String)| match behavior.as_str() {
        "OK" | "INFORMATIONAL" => false,
        "NON-STRICT" => !NON_STRICT.contains(&name.as_str()),
        _ => !TOO_LONG.iter().any(|too_long| name.starts_with(too_long)),
    };
    cases.iter().filter(fails).map(|(name, _)| name.clone()).collect()
}

/// Runs cases, so many at once, and gives how each ended.
async fn run(address: SocketAddr, at_once: u32, which: &[&str]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(kosoku());
    command.args(["-m", "fuzzingclient", "-p", &at_once.to_string()]).args(which).arg("-o").arg(folder.path());
    command.arg(format!("ws://{address}")).stdin(Stdio::null());
    let run = spawn_blocking(move || command.output()).await.expect("no panic");
    let output = run.expect("kosoku runs; tests/install installs it");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    results(folder.path()).unwrap_or_else(|| panic!("no report: {said}"))
}

/// Where `tests/install` has put the program.
fn kosoku() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/venv/bin/kosoku")
}

/// How each case ended, by the report: how the frames were, and how the end was.
fn results(folder: &Path) -> Option<BTreeMap<String, String>> {
    let report: Value = serde_json::from_str(&fs::read_to_string(folder.join("index.json")).ok()?).ok()?;
    let agent = report.as_object()?.values().next()?.as_object()?;
    let result = |case: &Value| {
        let behaviors = [case["behavior"].as_str()?, case["behaviorClose"].as_str()?];
        Some(behaviors.into_iter().find(|behavior| *behavior != "OK").unwrap_or("OK").to_owned())
    };
    agent.iter().map(|(name, case)| Some((name.clone(), result(case)?))).collect()
}

/// What a pod got that is no valid frame.
type Wrong = Arc<Mutex<Vec<String>>>;

/// A pod whose sockets echo every message.
async fn echo_pod() -> (SocketAddr, Wrong) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let wrong = Wrong::default();
    let noted = wrong.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, noted.clone()));
        }
    });
    (address, wrong)
}

async fn serve(mut stream: TcpStream, wrong: Wrong) {
    let mut read = Vec::new();
    loop {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            match stream.read_buf(&mut read).await {
                Ok(1..) => continue,
                _ => return,
            }
        };
        let head: Vec<u8> = read.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        if let Some(key) = key(&head) {
            let accept = derive_accept_key(key.as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            if stream.write_all(answer.as_bytes()).await.is_ok() {
                echo(stream, read, wrong).await;
            }
            return;
        }
        let body = match head.split(' ').nth(1) {
            Some("/health") => "Healthy",
            _ => r#"{"Id":"5a1e0f3d9c7b48268f4d2a6b1c3e5f70","Version":"12.0.0"}"#,
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn key(head: &str) -> Option<&str> {
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(": "));
    fields.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).map(|(_, value)| value)
}

async fn echo(stream: TcpStream, read: Vec<u8>, wrong: Wrong) {
    let limits = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut socket = WebSocketStream::from_partially_read(stream, read, Role::Server, Some(limits)).await;
    while let Some(message) = socket.next().await {
        match message {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(
                Error::ConnectionClosed | Error::Io(_) | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
            ) => return,
            Err(error) => {
                wrong.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
                return;
            }
        }
    }
}
