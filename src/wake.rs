//! Wakes machines and lets them sleep: a magic packet, a program, a request to another server.
//!
//! Knows no pod. When somebody is to be woken is decided in `proxy`.

mod command;
mod packet;
mod webhook;

use std::{fmt, net::SocketAddr, time::Duration};

use http::{HeaderValue, Method, Uri};

pub use packet::Mac;

/// How one machine is woken, and told that it may sleep. At least one way is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// A magic packet. It wakes; it puts nothing to sleep.
    pub packet: Option<Packet>,
    /// A program with its arguments. The act is added as the last one.
    pub command: Vec<String>,
    pub webhook: Option<Webhook>,
    /// Unused for so long, it may sleep. Default: never.
    pub idle_after: Option<Duration>,
}

/// Wake-on-LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub mac: Mac,
    /// Where the packet goes; a broadcast address, as a rule.
    pub to: SocketAddr,
}

/// A request to another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub method: Method,
    pub uri: Uri,
    /// The value of `Authorization`.
    pub authorization: Option<HeaderValue>,
}

/// What is asked of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Wake,
    /// Nobody needs it: it may sleep.
    Sleep,
}

/// What a hook is told of the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub pool: String,
    pub pod: String,
}

/// Longest time for one way. A program that runs longer is killed.
const LONGEST: Duration = Duration::from_secs(60);

impl Act {
    pub const ALL: [Act; 2] = [Act::Wake, Act::Sleep];

    /// A label of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Act::Wake => "wake",
            Act::Sleep => "sleep",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Takes every way that is given.
///
/// # Errors
/// What went wrong with the first way that failed. The others were taken all the same.
pub async fn run(config: &Config, act: Act, machine: &Machine) -> Result<(), String> {
    let mut first = Ok(());
    let mut note = |way: &str, done: Result<(), String>| {
        if let (Ok(()), Err(why)) = (&first, done) {
            first = Err(format!("{way}: {why}"));
        }
    };
    if let Some(packet) = config.packet.as_ref().filter(|_| act == Act::Wake) {
        note("magic packet", packet.send().await);
    }
    if !config.command.is_empty() {
        note("command", command::run(&config.command, act, machine, LONGEST).await);
    }
    if let Some(webhook) = &config.webhook {
        note("webhook", webhook.call(act, machine, LONGEST).await);
    }
    first
}

#[cfg(test)]
mod tests;
