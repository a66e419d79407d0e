//! A pod that takes nothing but the plainest HTTP/1.1: a message that could be read in two ways is noted as such.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::stories::wire::{End, fields};
use crate::stories::world::ANY_PORT;

/// The path, and the answer, of a request that tells the end of what was sent before it.
pub(super) const LAST: &str = "last";

/// How the note of a request ends whose body did not come to its end.
pub(super) const UNFINISHED: &str = ", unfinished";

pub(super) struct StrictPod {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl StrictPod {
    pub(super) async fn start() -> StrictPod {
        let listener = TcpListener::bind(ANY_PORT).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let notes = seen.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, notes.clone()));
            }
        });
        StrictPod { address, seen, accepting }
    }

    /// What came, but for the witness's requests and the proxy's own: a request line with what its body was, or what is
    /// wrong with the message.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }
}

impl Drop for StrictPod {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, seen: Arc<Mutex<Vec<String>>>) {
    let mut wire = End::over(stream);
    while let Some(head) = wire.try_head().await {
        let line = head.split("\r\n").next().unwrap_or_default().to_owned();
        let note = |what: String| seen.lock().push(what);
        if let Some(why) = ambiguity(&head) {
            note(format!("AMBIGUOUS: {why}: {head:?}"));
            return;
        }
        let at = seen.lock().len();
        let is_own = ["/health", "/System/Info/Public", "/witness", "/last"]
            .iter()
            .any(|path| head.contains(&format!(" {path} ")));
        if !is_own {
            note(format!("{line}{UNFINISHED}"));
        }
        let Some(body) = body(&mut wire, &head).await else { return };
        if !is_own {
            let body = String::from_utf8_lossy(&body).into_owned();
            let what = if body.is_empty() { line.clone() } else { format!("{line} [{body}]") };
            seen.lock()[at] = what;
        }
        let text = match line.split(' ').nth(1) {
            Some("/health") => "Healthy",
            Some("/last") => LAST,
            _ => "ok",
        };
        let content = if line.starts_with("HEAD ") { "" } else { text };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", text.len());
        if wire.try_send(answer).await.is_err() {
            return;
        }
    }
}

async fn body(wire: &mut End, head: &str) -> Option<Vec<u8>> {
    if !fields(head, "transfer-encoding").is_empty() {
        let (body, _, is_whole) = wire.chunks().await;
        return is_whole.then_some(body);
    }
    match fields(head, "content-length").first().and_then(|length| length.parse().ok()) {
        Some(length) => wire.try_bytes(length).await,
        None => Some(Vec::new()),
    }
}

/// Why a head could be read in more than one way.
fn ambiguity(head: &str) -> Option<&'static str> {
    let head = head.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let line: Vec<&str> = lines.next()?.split(' ').collect();
    if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return Some("a bare CR, LF or NUL");
    }
    match line[..] {
        [method, target, "HTTP/1.1"]
            if method.bytes().all(|byte| byte.is_ascii_uppercase()) && (target.starts_with('/') || target == "*") => {}
        _ => return Some("the request line"),
    }
    for field in lines {
        let Some((name, value)) = field.split_once(':') else { return Some("a line without a colon") };
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        {
            return Some("a field's name");
        }
        if value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
            return Some("a control character");
        }
    }
    let (lengths, codings) = (fields(head, "content-length"), fields(head, "transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        _ if fields(head, "host").len() != 1 => Some("not one Host"),
        ([], []) => None,
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => None,
        ([], ["chunked"]) => None,
        _ => Some("the framing of the body"),
    }
}
