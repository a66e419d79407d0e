//! One line of the access log, as JSON or as text.

use std::{io::Write, net::IpAddr, time::Duration};

use super::clock::Clock;

/// What stands before a value.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// Most bytes of a client's text that a line shows.
const METHOD: usize = 32;
const HOST: usize = 255;
const PATH: usize = 1024;
const USER_AGENT: usize = 256;

/// What the log records of one request.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    pub client: IpAddr,
    pub method: &'a str,
    pub host: &'a str,
    /// The client's `User-Agent`. May be empty.
    pub user_agent: &'a str,
    /// The path without its query and with secrets masked.
    pub path: &'a str,
    pub protocol: &'static str,
    /// 0 when no answer began.
    pub status: u16,
    pub route: &'a str,
    pub pool: &'a str,
    /// Empty when no pod answered.
    pub pod: &'a str,
    pub reason: &'static str,
    pub attempts: u32,
    /// How each attempt ended, like `a=refused b=200`. Empty if the first one gave the answer.
    pub tried: &'a str,
    /// How long the request waited for a pod, and why it began to wait.
    pub held: Option<(Duration, &'static str)>,
    /// The previous pod and why the request left it, if it moved.
    pub moved: Option<(&'a str, &'static str)>,
    /// Answers of the other pods to a request that all pods must receive, like `b=204 c=401`.
    pub fan_out: &'a str,
    /// How often a pod continued the answer of another.
    pub resumed: u32,
    pub outcome: &'static str,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub first_byte: Option<Duration>,
    pub duration: Duration,
}

impl Line<'_> {
    pub(super) fn write_json(&self, out: &mut Vec<u8>, clock: &mut Clock) {
        out.extend_from_slice(b"{\"time\":\"");
        clock.write_now(out);
        out.extend_from_slice(b"\",\"client.address\":\"");
        address(out, self.client);
        out.push(b'"');
        text(out, key!("http.method"), cut(self.method, METHOD));
        text(out, key!("http.host"), cut(self.host, HOST));
        text(out, key!("http.path"), cut(self.path, PATH));
        text(out, key!("http.protocol"), self.protocol);
        number(out, key!("http.status"), self.status.into());
        if !self.user_agent.is_empty() {
            text(out, key!("http.user_agent"), cut(self.user_agent, USER_AGENT));
        }
        text(out, key!("route"), self.route);
        text(out, key!("pool"), self.pool);
        text(out, key!("pod.name"), self.pod);
        text(out, key!("decision.reason"), self.reason);
        number(out, key!("attempts"), self.attempts.into());
        if !self.tried.is_empty() {
            text(out, key!("tried"), self.tried);
        }
        if let Some((held, why)) = self.held {
            millis(out, key!("held_ms"), held);
            text(out, key!("wait.why"), why);
        }
        if let Some((from, why)) = self.moved {
            text(out, key!("moved.from"), from);
            text(out, key!("moved.why"), why);
        }
        if !self.fan_out.is_empty() {
            text(out, key!("fan_out"), self.fan_out);
        }
        if self.resumed > 0 {
            number(out, key!("resumed"), self.resumed.into());
        }
        text(out, key!("outcome"), self.outcome);
        number(out, key!("bytes.in"), self.bytes_in);
        number(out, key!("bytes.out"), self.bytes_out);
        if let Some(first_byte) = self.first_byte {
            millis(out, key!("first_byte_ms"), first_byte);
        }
        millis(out, key!("duration_ms"), self.duration);
        out.extend_from_slice(b"}\n");
    }

    pub(super) fn write_text(&self, out: &mut Vec<u8>, clock: &mut Clock) {
        let (host, path) = (cut(self.host, HOST).escape_debug(), cut(self.path, PATH).escape_debug());
        clock.write_now(out);
        let pod = if self.pod.is_empty() { "-" } else { self.pod };
        // Writing into memory cannot fail.
        let _ = write!(
            out,
            " {} {} {host}{path} {} {}/{pod} {} {} in={} out={} {:.3}ms",
            self.client,
            cut(self.method, METHOD),
            self.status,
            self.pool,
            self.reason,
            self.outcome,
            self.bytes_in,
            self.bytes_out,
            self.duration.as_secs_f64() * 1e3,
        );
        if let Some(first_byte) = self.first_byte {
            let _ = write!(out, " first-byte={:.3}ms", first_byte.as_secs_f64() * 1e3);
        }
        if self.attempts != 1 {
            let _ = write!(out, " attempts={}", self.attempts);
        }
        if !self.tried.is_empty() {
            let _ = write!(out, " tried=[{}]", self.tried);
        }
        if let Some((held, why)) = self.held {
            let _ = write!(out, " held={:.3}ms ({why})", held.as_secs_f64() * 1e3);
        }
        if let Some((from, why)) = self.moved {
            let _ = write!(out, " moved-from={from} ({why})");
        }
        if !self.fan_out.is_empty() {
            let _ = write!(out, " fan-out=[{}]", self.fan_out);
        }
        if self.resumed > 0 {
            let _ = write!(out, " resumed={}", self.resumed);
        }
        if !self.user_agent.is_empty() {
            let _ = write!(out, " user-agent={:?}", cut(self.user_agent, USER_AGENT));
        }
        out.push(b'\n');
    }
}

fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    // Without an early end the compiler looks at many bytes at once.
    if value.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        out.reserve(value.len() + 2);
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
        return;
    }
    // A string always has a JSON form, and memory takes it.
    let _ = serde_json::to_writer(out, value);
}

/// Whether JSON writes the byte as it is. Nearly every text has no other.
fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'"' && byte != b'\\'
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        // The standard's own way costs as much as the rest of the line.
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        // Writing into memory cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

fn millis(out: &mut Vec<u8>, key: &str, value: Duration) {
    out.extend_from_slice(key.as_bytes());
    let micros = value.as_micros() as u64;
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(micros / 1000).as_bytes());
    let rest = micros % 1000;
    out.extend_from_slice(&[b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8]);
}

/// The first bytes of a text, cut between two characters.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
