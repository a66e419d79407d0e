//! Answers apps that look for a Jellyfin server in the local network: one UDP datagram for each
//! question, on port 7359.
//!
//! A pod would answer with its own address, and its clients would bypass the proxy. So the operator
//! switches it off in the pods, and jellypin answers for all of them. It answers nothing but the
//! question, only private addresses, and each of them only now and then. So nobody can use it to
//! flood others with answers.
//!
//! Source: `AutoDiscoveryHost.cs`.

mod budget;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    net::UdpSocket,
    time::{self, Instant},
};

use crate::{
    limits::log_in::is_private,
    observe::metrics::{Autodiscovery, Metrics},
    shutdown::Shutdown,
};
use budget::Budget;

/// Where apps ask.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Default: nowhere.
    pub listen: Option<SocketAddr>,
}

/// What apps learn of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where clients find the proxy.
    pub address: String,
    /// The server's id that clients see.
    pub id: String,
    pub name: String,
}

/// What every app asks, in any case.
const QUESTION: &[u8] = b"who is JellyfinServer?";

/// The longest datagram that is read, in bytes.
const LONGEST: usize = 256;

/// The pause after the socket has failed, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    /// It does not ask for a server.
    NoQuestion,
    /// It comes from outside the local network, or pretends to.
    Foreign,
    /// Its sender, or all senders together, ask too often.
    Limited,
    /// No pod has said yet who the server is.
    Unknown,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::NoQuestion => "no_question",
            Outcome::Foreign => "foreign",
            Outcome::Limited => "limited",
            Outcome::Unknown => "unknown",
        }
    }
}

/// Answers until the proxy stops. `find` gives the server as it is for an app at this address.
pub async fn serve(
    socket: UdpSocket,
    find: impl Fn(IpAddr) -> Option<Server> + Send,
    metrics: Metrics,
    shutdown: Shutdown,
) {
    let mut budget = Budget::default();
    // One byte more shows that a datagram is too long.
    let mut buffer = [0; LONGEST + 1];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = shutdown.stopping() => return,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "a question for the server could not be read");
                time::sleep(PAUSE).await;
                continue;
            }
        };
        let app = from.ip().to_canonical();
        let mut outcome = judge(&buffer[..length], app, &mut budget, Instant::now());
        if outcome == Outcome::Answered {
            match find(app) {
                Some(server) => {
                    // An app that is gone needs no answer.
                    let _ = socket.send_to(&answer(&server), from).await;
                }
                None => outcome = Outcome::Unknown,
            }
        }
        metrics.autodiscovery.get_or_create(&Autodiscovery { outcome: outcome.as_str() }).inc();
    }
}

fn judge(datagram: &[u8], app: IpAddr, budget: &mut Budget, now: Instant) -> Outcome {
    let asks = datagram.windows(QUESTION.len()).any(|text| text.eq_ignore_ascii_case(QUESTION));
    if !asks || datagram.len() > LONGEST {
        Outcome::NoQuestion
    } else if !is_private(app) {
        Outcome::Foreign
    } else if !budget.try_spend(app, now) {
        Outcome::Limited
    } else {
        Outcome::Answered
    }
}

/// `ServerDiscoveryInfo`, in the order in which a pod writes it.
fn answer(server: &Server) -> Vec<u8> {
    let text = |text: &str| Value::from(text).to_string();
    let (address, id, name) = (text(&server.address), text(&server.id), text(&server.name));
    format!(r#"{{"Address":{address},"Id":{id},"Name":{name},"EndpointAddress":null}}"#).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_question_is_answered_and_only_near_by() {
        let long = [QUESTION, &[b' '; LONGEST]].concat();
        let rows: [(&[u8], &str, Outcome); 9] = [
            (QUESTION, "192.168.1.9", Outcome::Answered),
            (b"Who is JellyfinServer?\r\n", "10.0.0.1", Outcome::Answered),
            (b"WHO IS JELLYFINSERVER?", "fe80::1", Outcome::Answered),
            (QUESTION, "203.0.113.7", Outcome::Foreign),
            (QUESTION, "2001:db8::1", Outcome::Foreign),
            (b"who is EmbyServer?", "192.168.1.9", Outcome::NoQuestion),
            (b"who is JellyfinServer", "192.168.1.9", Outcome::NoQuestion),
            (b"", "192.168.1.9", Outcome::NoQuestion),
            (&long, "192.168.1.9", Outcome::NoQuestion),
        ];
        for (datagram, from, outcome) in rows {
            let from = from.parse().expect("an address");
            assert_eq!(judge(datagram, from, &mut Budget::default(), Instant::now()), outcome, "{from}");
        }
        let mut budget = Budget::default();
        let times = (0..1000)
            .filter(|_| judge(QUESTION, [10, 0, 0, 1].into(), &mut budget, Instant::now()) == Outcome::Answered);
        assert!(times.count() < 20);
    }

    #[test]
    fn an_answer_is_the_one_of_a_pod() {
        let server = Server { address: "http://h:8096".into(), id: "0123".into(), name: "the \"house\"".into() };
        let expected = r#"{"Address":"http://h:8096","Id":"0123","Name":"the \"house\"","EndpointAddress":null}"#;
        assert_eq!(String::from_utf8_lossy(&answer(&server)), expected);
    }
}
