//! Users who do nothing but look, all the while that something happens: none of their requests may fail.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::client::{Client, body_of};
use super::elapse;

/// The longest time for an answer: that of a held request, and some air.
const PATIENCE: Duration = Duration::from_secs(25);

/// The time between two requests of one visitor.
const PACE: Duration = Duration::from_millis(20);

/// What a visitor asks for, one after the other.
const LOOKS: [&str; 4] = ["/Users/Me", "/Items", "/System/Info", "/Sessions"];

/// Users who are signed in, each asking all the time.
pub(crate) struct Visitors {
    visitors: Vec<Visitor>,
    ends: watch::Sender<bool>,
}

struct Visitor {
    client: Arc<Mutex<Client>>,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Visitors {
    /// So many users at devices of their own, signed in by clients of these proxies in turn.
    pub(crate) async fn sign_in(number: usize, client: impl Fn(usize) -> Client) -> Visitors {
        let ends = watch::Sender::new(false);
        let mut visitors = Vec::new();
        for number in 0..number {
            let mut client = client(number).without_cookies().device(&format!("visitor {number}"));
            client.log_in(&format!("user{}", 900 + number)).await;
            let client = Arc::new(Mutex::new(client));
            let task = tokio::spawn(look(client.clone(), ends.subscribe()));
            visitors.push(Visitor { client, task });
        }
        Visitors { visitors, ends }
    }

    /// Lets a visitor call another proxy, as soon as it has its answer from the one before.
    pub(crate) async fn go_over(&self, number: usize, there: Client) {
        let mut client = self.visitors[number].client.lock().await;
        *client = client.moved(there);
    }

    /// Ends it all, and says how many requests there were.
    ///
    /// # Panics
    /// When one has failed.
    pub(crate) async fn leave(self, meanwhile: &str) {
        self.ends.send_replace(true);
        let (mut asked, mut failed) = (0, Vec::new());
        for visitor in self.visitors {
            let (more, failures) = visitor.task.await.expect("a visitor");
            asked += more;
            failed.extend(failures);
        }
        println!("{meanwhile}: {asked} ordinary requests, {} failed", failed.len());
        assert!(asked > 0 && failed.is_empty(), "of {asked}: {failed:?}");
    }
}

async fn look(client: Arc<Mutex<Client>>, ends: watch::Receiver<bool>) -> (usize, Vec<String>) {
    let (mut asked, mut failed) = (0, Vec::new());
    while !*ends.borrow() {
        let path = LOOKS[asked % LOOKS.len()];
        asked += 1;
        {
            let mut client = client.lock().await;
            let request = client.request(Method::GET, path);
            match timeout(PATIENCE, client.send(request, body_of(""))).await {
                Ok(Ok(answer)) if answer.status == 200 => {}
                other => failed.push(format!("{path}: {:?}", other.map(|it| it.map(|answer| answer.status)))),
            }
        }
        elapse(PACE).await;
    }
    (asked, failed)
}
