//! Many clients that ask all the while, some of them watching films, and what became of what they asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use jellyfin_sim::FILM;
use tokio::task::JoinSet;

use crate::stories::world::{Client, Failed, body_of, elapse};

/// Time from one request of a client to its next.
const REST: Duration = Duration::from_millis(1000);

/// Seconds of a film in one segment.
const SEGMENT: Duration = Duration::from_secs(3);

/// One request, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// The pod on which its client lived at first.
    pub(super) home: &'static str,
    #[expect(dead_code, reason = "a failed assertion shows it")]
    pub(super) path: String,
    pub(super) began: Instant,
    pub(super) took: Duration,
    /// 0 for an answer that broke off, or did not come.
    pub(super) status: u16,
}

/// A client's home, and since when it waits for an answer.
type Wait = (&'static str, Option<Instant>);

/// The clients under way.
#[derive(Default)]
pub(super) struct Crowd {
    tasks: JoinSet<Client>,
    is_over: Arc<AtomicBool>,
    visits: Arc<Mutex<Vec<Visit>>>,
    waits: Arc<Mutex<Vec<Wait>>>,
}

impl Crowd {
    /// These ask for pages, pictures and themselves.
    pub(super) fn browse(&mut self, home: &'static str, clients: Vec<Client>) {
        for (number, client) in clients.into_iter().enumerate() {
            let picture = format!("/Items/{FILM}/Images/Primary");
            let paths = ["/Users/Me".to_owned(), "/Items".to_owned(), picture];
            self.add(home, client, REST, move |turn| paths[(turn + number) % paths.len()].clone());
        }
    }

    /// These watch a film that the pod transcodes.
    pub(super) fn watch(&mut self, home: &'static str, clients: Vec<Client>) {
        for client in clients {
            let token = client.token.clone().expect("a token");
            let query = format!("PlaySessionId={token}&ApiKey={token}");
            self.add(home, client, SEGMENT, move |turn| format!("/Videos/{FILM}/hls1/main/{}.ts?{query}", turn % 5));
        }
    }

    fn add(
        &mut self,
        home: &'static str,
        mut client: Client,
        rest: Duration,
        path: impl Fn(usize) -> String + Send + 'static,
    ) {
        let (is_over, visits, waits) = (self.is_over.clone(), self.visits.clone(), self.waits.clone());
        let number = waits.lock().expect("no panic").len();
        waits.lock().expect("no panic").push((home, None));
        let waits_since = move |since| waits.lock().expect("no panic")[number].1 = since;
        self.tasks.spawn(async move {
            for turn in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let began = Instant::now();
                waits_since(Some(began));
                let path = path(turn);
                let request = client.request(Method::GET, &path);
                let status = match client.send(request, body_of("")).await {
                    Ok(answer) => answer.status,
                    Err(Failed::Connect(_) | Failed::NoAnswer | Failed::Cut { .. }) => 0,
                };
                let took = began.elapsed();
                waits_since(None);
                visits.lock().expect("no panic").push(Visit { home, path, began, took, status });
                elapse(rest.saturating_sub(took)).await;
            }
            client
        });
    }

    /// What has ended since the last look.
    pub(super) fn looked(&self) -> Vec<Visit> {
        std::mem::take(&mut self.visits.lock().expect("no panic"))
    }

    /// Waits until for two seconds everything of this pod's clients was answered so quickly; gives the time since `since`.
    pub(super) async fn until_normal(&self, home: &str, since: Instant, quick: Duration) -> (Duration, Vec<Visit>) {
        let (mut all, mut last_bad, began) = (Vec::new(), since, Instant::now());
        loop {
            elapse(Duration::from_millis(50)).await;
            for visit in self.looked() {
                let ended = visit.began + visit.took;
                if visit.home == home && ended >= since && (visit.took > quick || visit.status != 200) {
                    last_bad = ended;
                }
                all.push(visit);
            }
            let is_late =
                |(of, wait): &(&str, Option<Instant>)| *of == home && wait.is_some_and(|since| since.elapsed() > quick);
            if self.waits.lock().expect("no panic").iter().any(is_late) {
                last_bad = Instant::now();
            }
            if last_bad.elapsed().min(began.elapsed()) > Duration::from_secs(2) {
                return (last_bad - since, all);
            }
            assert!(since.elapsed() < Duration::from_secs(60), "it never becomes normal");
        }
    }

    /// Ends when the last request has; gives the clients.
    pub(super) async fn stop(self) -> (Vec<Visit>, Vec<Client>) {
        self.is_over.store(true, Ordering::Relaxed);
        let clients = self.tasks.join_all().await;
        (std::mem::take(&mut self.visits.lock().expect("no panic")), clients)
    }
}

/// What is about as quick as in these calm times.
pub(super) fn as_quick_as(calm: &[Visit]) -> Duration {
    let longest = calm.iter().map(|visit| visit.took).max().unwrap_or_default();
    longest.mul_f64(1.5).max(Duration::from_millis(500))
}

/// Visits that a client takes for its log-out.
pub(super) fn log_outs(visits: &[Visit]) -> usize {
    visits.iter().filter(|visit| matches!(visit.status, 401 | 403)).count()
}

/// Those that broke off, or were answered by an error.
pub(super) fn cut(visits: &[Visit]) -> Vec<&Visit> {
    visits.iter().filter(|visit| visit.status == 0 || visit.status >= 500).collect()
}

/// How long the visits of a pod's clients took.
pub(super) fn times(visits: &[Visit], home: &str) -> Vec<Duration> {
    visits.iter().filter(|visit| visit.home == home).map(|visit| visit.took).collect()
}
