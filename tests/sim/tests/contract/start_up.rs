//! Replays the recording of a start: a pod that was stopped is started again and asked all the time, path after path as
//! the recorder did, and what it answers on each path has to change as it was recorded.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jellyfin_sim::{Generation, PhaseLengths, Pod};
use tokio::net::TcpStream;

use crate::answer;
use crate::client::{self, Answer, NoAnswer, Outgoing, PATIENCE};
use crate::difference::{Difference, Kind};
use crate::names::Names;
use crate::recording::{Probe, Recording, What};
use crate::report::Report;

/// Long enough that a round of questions falls into every phase even on a busy machine.
const PHASE: Duration = Duration::from_millis(800);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The lengths of the phases: the host came to be as the setup server of the recorded 12.0 ended, and a while before the
/// setup server of the recorded 10.11 did.
pub(crate) fn lengths(generation: Generation) -> PhaseLengths {
    PhaseLengths {
        refused: Duration::from_millis(100),
        setup: match generation {
            Generation::V12 => PHASE,
            Generation::V10_11 => PHASE * 2,
        },
        host_after: PHASE,
        info_wait: PATIENCE,
        gap: PHASE,
        core: PHASE,
    }
}

/// What one path answered, change by change; `None` stands for a refused connection.
type Changes = Vec<Option<Answer>>;

pub(crate) async fn replay(recording: &Recording, pod: &Pod, names: &mut Names, report: &mut Report) {
    let recorded = by_path(recording);
    let paths: Vec<&str> = recorded.iter().map(|(path, _)| *path).collect();
    let mut seen = watch(pod, &paths).await;
    for (path, probes) in recorded {
        let changes = seen.remove(path).unwrap_or_default();
        compare(path, &probes, changes, names, report);
    }
}

/// The probes of each path with their lines, the paths in the order in which the recorder asked them.
fn by_path(recording: &Recording) -> Vec<(&str, Vec<(usize, &Probe)>)> {
    let mut paths: Vec<(&str, Vec<(usize, &Probe)>)> = Vec::new();
    for step in &recording.steps {
        let What::Probe(probe) = &step.what else {
            panic!("line {}: only probes belong here", step.line);
        };
        match paths.iter_mut().find(|(path, _)| *path == probe.path) {
            Some((_, probes)) => probes.push((step.line, probe)),
            None => paths.push((&probe.path, vec![(step.line, probe)])),
        }
    }
    paths
}

/// Asks before the start, starts, and asks on until a whole round of answers came from a ready pod.
async fn watch<'a>(pod: &Pod, paths: &[&'a str]) -> BTreeMap<&'a str, Changes> {
    let mut seen = BTreeMap::new();
    ask_all(pod, paths, &mut seen).await;
    pod.start_again().await.expect("its own port");
    let deadline = Instant::now() + PATIENCE;
    // A round that began before the port was open would lose the setup server's time to the one answer that is held.
    let mut rounds = tokio::time::interval(PAUSE);
    while TcpStream::connect(pod.address()).await.is_err() && Instant::now() < deadline {
        rounds.tick().await;
    }
    loop {
        let ready = pod.is_ready();
        ask_all(pod, paths, &mut seen).await;
        if ready || Instant::now() > deadline {
            return seen;
        }
        rounds.tick().await;
    }
}

async fn ask_all<'a>(pod: &Pod, paths: &[&'a str], seen: &mut BTreeMap<&'a str, Changes>) {
    for path in paths {
        let request = Outgoing {
            method: "GET".to_owned(),
            target: (*path).to_owned(),
            headers: vec![("Accept-Encoding".to_owned(), "gzip, deflate".to_owned())],
            json: None,
            raw: None,
        };
        let answer = match client::send(pod.address(), request).await {
            Ok(answer) => Some(answer),
            Err(NoAnswer::Refused(_)) => None,
            Err(NoAnswer::Late) => panic!("{path} is not answered"),
        };
        let changes = seen.entry(path).or_default();
        if changes.last().is_none_or(|last| !same(last, &answer)) {
            changes.push(answer);
        }
    }
}

fn same(one: &Option<Answer>, other: &Option<Answer>) -> bool {
    let key = |answer: &Answer| {
        let retry = answer.header("Retry-After").map(str::to_owned);
        (answer.status, retry, answer.body.clone())
    };
    one.as_ref().map(key) == other.as_ref().map(key)
}

/// Every recorded change has to be found in its order; what was seen besides is a difference too.
fn compare(path: &str, recorded: &[(usize, &Probe)], seen: Changes, names: &mut Names, report: &mut Report) {
    let mut awaited = recorded.iter();
    let mut next = awaited.next();
    let mut besides = Vec::new();
    for answer in seen {
        match next {
            Some((line, probe)) if alike(probe, &answer) => {
                let mut found = std::mem::take(&mut besides);
                if let (Some(recorded), Some(answer)) = (&probe.response, &answer) {
                    found.extend(answer::compare(recorded, answer, names));
                }
                report.add(*line, false, found);
                next = awaited.next();
            }
            _ => besides.push(beside(path, &answer)),
        }
    }
    for (line, _) in next.into_iter().chain(awaited) {
        let missing = Difference::new(Kind::Missing, format!("start-up {path}"), "never answered");
        report.add(*line, false, vec![missing]);
    }
    for difference in besides {
        report.add_at_end(difference);
    }
}

/// Whether it can be the recorded answer; how well it fits is compared afterwards.
fn alike(probe: &Probe, seen: &Option<Answer>) -> bool {
    match (&probe.response, seen) {
        (None, None) => true,
        (Some(recorded), Some(seen)) => {
            let retry = |(name, _): &&(String, String)| name == "Retry-After";
            recorded.status == seen.status
                && recorded.headers.iter().find(retry).is_some() == seen.header("Retry-After").is_some()
        }
        _ => false,
    }
}

fn beside(path: &str, answer: &Option<Answer>) -> Difference {
    let what = match answer {
        None => "refused".to_owned(),
        Some(answer) if answer.header("Retry-After").is_some() => {
            format!("{} with Retry-After", answer.status)
        }
        Some(answer) => answer.status.to_string(),
    };
    Difference::new(Kind::Extra, format!("start-up {path} {what}"), "was not recorded")
}
