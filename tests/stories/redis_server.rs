//! A real `redis-server` of a story: it can be stopped in every way, and started again at the same address.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use tokio::net::TcpSocket;

use crate::stories::world::DEADLINE;

/// A Redis that keeps nothing on disk unless it is told to; it is killed when it is dropped.
pub(super) struct RedisServer {
    child: Option<Child>,
    port: u16,
    tls: Option<PathBuf>,
    password: Option<&'static str>,
    /// The configuration that makes it a sentinel.
    sentinel: Option<PathBuf>,
    /// Where it writes down every change.
    kept_in: Option<PathBuf>,
    /// More arguments.
    more: Vec<String>,
}

impl RedisServer {
    /// Starts a server at a free port of 127.0.0.1.
    pub(super) fn start() -> RedisServer {
        RedisServer::absent().started()
    }

    /// A server that is not running yet.
    pub(super) fn absent() -> RedisServer {
        RedisServer {
            child: None,
            port: free_port(),
            tls: None,
            password: None,
            sentinel: None,
            kept_in: None,
            more: Vec::new(),
        }
    }

    /// A server that knows after a kill what it knew before.
    pub(super) fn kept_in(folder: &Path) -> RedisServer {
        let mut server = RedisServer::absent();
        server.kept_in = Some(folder.to_owned());
        server.started()
    }

    /// A server that is started with these arguments too.
    pub(super) fn with(more: &[&str]) -> RedisServer {
        let mut server = RedisServer::absent();
        server.more = more.iter().map(|&argument| argument.to_owned()).collect();
        server.started()
    }

    /// Loses what it has kept, while it does not run.
    pub(super) fn forget(&self) {
        let folder = self.kept_in.as_ref().expect("it keeps something");
        std::fs::remove_dir_all(folder.join("appendonlydir")).expect("removed");
    }

    /// A server that speaks TLS only, by a certificate that it signs itself and keeps in this folder.
    pub(super) fn with_tls(folder: &Path) -> RedisServer {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("written");
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
        let mut server = RedisServer::absent();
        server.tls = Some(folder.to_owned());
        server.started()
    }

    /// Its certificate's file, if it speaks TLS.
    pub(super) fn certificate(&self) -> Option<PathBuf> {
        self.tls.as_ref().map(|folder| folder.join("cert.pem"))
    }

    /// A server that wants a password.
    pub(super) fn with_password(password: &'static str) -> RedisServer {
        let mut server = RedisServer::absent();
        server.password = Some(password);
        server.started()
    }

    /// A copy of another server.
    pub(super) fn replica_of(primary: &RedisServer) -> RedisServer {
        let replica = RedisServer::start();
        replica.command(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
        replica
    }

    /// A sentinel that watches a server under the name `mymaster`, and makes a copy of it the primary soon after its death.
    pub(super) fn sentinel_of(primary: &RedisServer, folder: &Path) -> RedisServer {
        let mut server = RedisServer::absent();
        let text = format!(
            "sentinel monitor mymaster 127.0.0.1 {} 1\nsentinel down-after-milliseconds mymaster 500\n\
             sentinel failover-timeout mymaster 3000\n",
            primary.port
        );
        let path = folder.join("sentinel.conf");
        std::fs::write(&path, text).expect("written");
        server.sentinel = Some(path);
        server.started()
    }

    fn started(mut self) -> RedisServer {
        self.start_again();
        self
    }

    /// Starts it at the address that it had.
    pub(super) fn start_again(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        match &self.sentinel {
            Some(config) => drop(command.arg(config).arg("--sentinel")),
            None => {
                // A copy takes what it copies into memory, and leaves no file.
                command.args(["--save", "", "--appendonly", "no", "--repl-diskless-load", "swapdb"]);
            }
        }
        command.args(["--bind", "127.0.0.1", "--daemonize", "no"]);
        if let Some(folder) = &self.kept_in {
            command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(folder);
        }
        match &self.tls {
            None => drop(command.args(["--port", &port])),
            Some(folder) => {
                command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
                command.arg("--tls-cert-file").arg(folder.join("cert.pem"));
                command.arg("--tls-key-file").arg(folder.join("key.pem"));
                command.arg("--tls-ca-cert-file").arg(folder.join("cert.pem"));
            }
        }
        command.args(&self.more);
        if let Some(password) = self.password {
            command.args(["--requirepass", password]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a redis-server starts");
        let log = BufReader::new(child.stdout.take().expect("its log"));
        self.child = Some(child);
        let (listens, listening) = mpsc::channel();
        // The log is read to its end: a server whose log is full would hang.
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains("Ready to accept connections") || line.contains("Sentinel ID is") {
                    // Nobody listens for a second one.
                    let _ = listens.send(());
                }
            }
        });
        listening.recv_timeout(DEADLINE).expect("Redis listens");
    }

    /// Kills it.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already cannot be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Lets it hang: connections stay, and nothing is answered.
    pub(super) fn hang(&self, on: bool) {
        let child = self.child.as_ref().expect("it runs");
        let command = format!("kill -{} {}", if on { "STOP" } else { "CONT" }, child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().expect("a shell").success(), "{command}");
    }

    /// Its address, without the password that it may want.
    pub(super) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls.is_some() { "rediss" } else { "redis" }, self.port)
    }

    /// Carries a command out, whatever it answers.
    pub(super) fn command(&self, words: &[&str]) {
        let (name, rest) = words.split_first().expect("a command");
        redis::cmd(name).arg(rest).query::<redis::Value>(&mut self.connection()).expect("carried out");
    }

    /// The number in a command's answer.
    pub(super) fn number(&self, words: &[&str]) -> usize {
        let (name, rest) = words.split_first().expect("a command");
        let answer: (String, usize) = redis::cmd(name).arg(rest).query(&mut self.connection()).expect("a number");
        answer.1
    }

    /// A command's answer, a text; empty when there is none. A server that changes its role ends its connections.
    pub(super) fn text(&self, words: &[&str]) -> String {
        let (name, rest) = words.split_first().expect("a command");
        self.connect().and_then(|mut connection| redis::cmd(name).arg(rest).query(&mut connection)).unwrap_or_default()
    }

    /// The remaining life of a key in milliseconds; -1 if it is without end, -2 if there is no such key.
    pub(super) fn life(&self, key: &str) -> i64 {
        redis::cmd("PTTL").arg(key).query(&mut self.connection()).expect("a time")
    }

    /// What a field of a hash holds; nothing either when there is no answer.
    pub(super) fn field(&self, key: &str, field: &str) -> Option<String> {
        let ask = |mut connection| redis::cmd("HGET").arg(key).arg(field).query(&mut connection);
        self.connect().and_then(ask).ok().flatten()
    }

    /// All fields of a hash.
    pub(super) fn fields(&self, key: &str) -> Vec<(String, String)> {
        redis::cmd("HGETALL").arg(key).query(&mut self.connection()).expect("a hash")
    }

    /// All keys.
    pub(super) fn keys(&self) -> Vec<String> {
        redis::cmd("KEYS").arg("*").query(&mut self.connection()).expect("keys")
    }

    /// Writes so many entries of so many bytes, which are somebody else's.
    pub(super) fn fill(&self, count: usize, bytes: usize) {
        let mut connection = self.connection();
        let value = vec![b'x'; bytes];
        for some in (0..count).collect::<Vec<_>>().chunks(1000) {
            let mut pipeline = redis::pipe();
            for number in some {
                pipeline.cmd("SET").arg(format!("junk:{number}")).arg(&value).ignore();
            }
            pipeline.query::<()>(&mut connection).expect("written");
        }
    }

    /// How many keys there are.
    pub(super) fn count(&self) -> usize {
        redis::cmd("DBSIZE").query(&mut self.connection()).expect("a number")
    }

    /// A figure of `INFO`.
    pub(super) fn info(&self, field: &str) -> usize {
        let info: String = redis::cmd("INFO").arg("all").query(&mut self.connection()).expect("figures");
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no figure {field}"))
    }

    /// Loses every entry.
    pub(super) fn flush(&self) {
        redis::cmd("FLUSHALL").query::<()>(&mut self.connection()).expect("flushed");
    }

    /// Every key with its value and its remaining life in milliseconds.
    pub(super) fn dump(&self) -> Vec<(String, String, i64)> {
        let mut connection = self.connection();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("keys");
        let entry = |key: String| {
            // What is no text is no entry of a client.
            let value: Option<String> = redis::cmd("GET").arg(&key).query(&mut connection).unwrap_or_default();
            let life: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).expect("a time");
            Some((key, value?, life))
        };
        keys.into_iter().filter_map(entry).collect()
    }

    /// Every key with the bytes of its value.
    pub(super) fn bytes(&self) -> Vec<(String, Vec<u8>)> {
        let mut connection = self.connection();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("keys");
        let value = |key: String| Some((key.clone(), redis::cmd("GET").arg(key).query(&mut connection).ok()?));
        keys.into_iter().filter_map(value).collect()
    }

    /// Writes these bytes.
    pub(super) fn restore_bytes(&self, entries: &[(String, Vec<u8>)]) {
        let mut connection = self.connection();
        for (key, value) in entries {
            redis::cmd("SET").arg(key).arg(value).query::<()>(&mut connection).expect("written");
        }
    }

    /// The entries of clients, without the server id.
    pub(super) fn pins(&self) -> Vec<(String, String, i64)> {
        self.dump().into_iter().filter(|(key, ..)| key.contains(":pin:")).collect()
    }

    /// Writes these entries.
    pub(super) fn restore(&self, entries: &[(String, String, i64)]) {
        let mut connection = self.connection();
        for (key, value, _) in entries {
            redis::cmd("SET").arg(key).arg(value).query::<()>(&mut connection).expect("written");
        }
    }

    fn connection(&self) -> redis::Connection {
        self.connect().expect("a connection")
    }

    fn connect(&self) -> redis::RedisResult<redis::Connection> {
        let url = match self.password {
            Some(password) => self.url().replacen("//", &format!("//:{password}@"), 1),
            None => self.url(),
        };
        redis::Client::open(url).and_then(|client| client.get_connection())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    // Not a listener's way, which takes ports that a pod which is down still holds.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    socket.local_addr().expect("an address").port()
}
