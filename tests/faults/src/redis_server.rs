//! A real `redis-server` that writes down every change.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::client::until;
use crate::process::{Process, free_port};

pub struct RedisServer {
    pub address: SocketAddr,
    folder: PathBuf,
    process: Option<Process>,
}

impl RedisServer {
    pub async fn start(folder: &Path) -> RedisServer {
        let mut server = RedisServer { address: free_port(), folder: folder.to_owned(), process: None };
        server.start_again().await;
        server
    }

    pub async fn start_again(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.address.port().to_string(), "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--dir"]).arg(&self.folder);
        self.process = Some(Process::start(command, &self.folder, "redis"));
        until("Redis answers", 30.0, async || self.connection().is_ok()).await;
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn hang(&self, on: bool) {
        self.process.as_ref().expect("it runs").signal(if on { Signal::STOP } else { Signal::CONT });
    }

    fn connection(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(format!("redis://{}", self.address))?.get_connection()
    }

    /// Carries a command out.
    pub fn command(&self, words: &[&str]) {
        let (name, rest) = words.split_first().expect("a command");
        let mut connection = self.connection().expect("a connection");
        redis::cmd(name).arg(rest).query::<redis::Value>(&mut connection).expect("carried out");
    }

    /// Puts a list in the place of every key's value.
    pub fn mix_types_up(&self) {
        let mut connection = self.connection().expect("a connection");
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("keys");
        for key in keys {
            redis::cmd("DEL").arg(&key).query::<redis::Value>(&mut connection).expect("deleted");
            redis::cmd("LPUSH").arg(&key).arg("x").query::<redis::Value>(&mut connection).expect("written");
        }
    }
}
