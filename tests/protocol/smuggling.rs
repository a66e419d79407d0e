//! Requests that two servers could split in two ways: none reaches a pod as one that jellypin has not counted.
//!
//! Each goes out with a canary behind it on the same connection, while a well-behaved client works beside it.

mod chunks;
mod connection;
mod downgrade;
mod framing;
mod heads;
mod targets;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::{
    task::JoinHandle,
    time::{interval, sleep},
};

use super::{
    pod::Pod,
    program::Program,
    reading::{Next, READINGS, Reading},
    wire::{Answer, Wire},
};

/// A request of the corpus. `@@@@` stands for its number of four digits, which is the first segment of its paths.
struct Case {
    name: String,
    bytes: Vec<u8>,
    /// Frames of HTTP/2, which have ends of their own.
    is_http2: bool,
}

/// What came back to one of them.
struct Outcome {
    case: Case,
    tag: String,
    answers: Vec<Answer>,
    /// What its words for HTTP/2 are; empty for HTTP/1.
    ended: String,
}

/// Clients at the same time.
const AT_ONCE: usize = 24;

/// A request that would be another's if it were read as one.
const SMUGGLED: &str = "GET /@@@@/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn no_request_is_smuggled_to_a_strict_pod() {
    smuggle(READINGS[0]).await;
}

#[tokio::test]
async fn no_request_is_smuggled_to_a_lenient_pod() {
    smuggle(READINGS[1]).await;
}

async fn smuggle(reading: Reading) {
    let pod = Pod::start(reading).await;
    let program = Program::start(pod.address, "").await;
    let witness = Witness::start(program.address);
    let cases = corpus();
    let count = cases.len();
    assert!(count >= 300, "{count} requests");
    let address = program.address;
    let outcomes: Vec<Outcome> = stream::iter(cases.into_iter().enumerate())
        .map(|(number, case)| attack(address, case, (1000 + number).to_string()))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let served = witness.stop().await;
    let mut wrong: Vec<String> = outcomes.iter().flat_map(wrongs).collect();
    wrong.extend(ambiguities(&pod.seen()));
    wrong.extend(uncounted(&program, &pod).await);
    print_summary(reading.name, &outcomes, served);
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every request, each name once.
fn corpus() -> Vec<Case> {
    let http1 = [framing::cases(), chunks::cases(), heads::cases(), targets::cases(), connection::cases()].concat();
    let http1 = http1.into_iter().map(|(name, bytes)| Case { name, bytes, is_http2: false });
    let http2 = downgrade::cases().into_iter().map(|(name, bytes)| Case { name, bytes, is_http2: true });
    let cases: Vec<Case> = http1.chain(http2).collect();
    let names: BTreeSet<&str> = cases.iter().map(|case| &*case.name).collect();
    assert_eq!(names.len(), cases.len(), "two requests have one name");
    cases
}

/// Carries one out, and asks once more over another connection, whose answer must be its own.
async fn attack(address: SocketAddr, case: Case, tag: String) -> Outcome {
    let bytes = tagged(&case.bytes, &tag);
    let mut wire = Wire::connect(address).await;
    let (mut answers, mut ended) = (Vec::new(), String::new());
    if case.is_http2 {
        (answers, ended) = downgrade::exchange(&mut wire, &bytes, &tag).await;
    } else {
        wire.send(&[&bytes[..], &get(&format!("/{tag}/canary"), "")].concat()).await;
        while let Some(answer) = wire.answer().await {
            if answers.is_empty() {
                wire.send(&get(&format!("/{tag}/last"), "Connection: close\r\n")).await;
            }
            answers.push(answer);
        }
    }
    let mut fresh = Wire::connect(address).await;
    fresh.send(&get(&format!("/{tag}/after"), "")).await;
    let after = fresh.answer().await;
    let expected = Answer { status: 200, body: format!("GET /{tag}/after HTTP/1.1") };
    assert_eq!(after, Some(expected), "the client after {} was harmed", case.name);
    Outcome { case, tag, answers, ended }
}

fn get(target: &str, fields: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes()
}

/// The bytes with the case's number in them.
fn tagged(bytes: &[u8], tag: &str) -> Vec<u8> {
    let mut tagged = bytes.to_vec();
    for at in 0..bytes.len().saturating_sub(3) {
        if bytes[at..].starts_with(b"@@@@") {
            tagged[at..at + 4].copy_from_slice(tag.as_bytes());
        }
    }
    tagged
}

/// What is wrong with the answers to one.
fn wrongs(outcome: &Outcome) -> Vec<String> {
    let Outcome { case, tag, answers, .. } = outcome;
    let mut wrong = Vec::new();
    let echoes: Vec<&str> = answers.iter().filter_map(|answer| answer.body.split(' ').nth(1)).collect();
    let echoes: Vec<&str> = echoes.into_iter().filter(|target| target.starts_with('/')).collect();
    if let Some(other) = echoes.iter().find(|target| first_segment(target) != tag) {
        wrong.push(format!("{}: got the answer to {other}", case.name));
    }
    let position = |last: &str| echoes.iter().position(|target| target.ends_with(last));
    if let (Some(canary), Some(other)) = (position("/canary"), position("/x"))
        && !case.is_http2
        && canary < other
    {
        wrong.push(format!("{}: answers in the wrong order: {echoes:?}", case.name));
    }
    if let Some(canary) = position("/canary")
        && !case.is_http2
        && echoes[canary + 1..].iter().any(|target| !target.ends_with("/last"))
    {
        wrong.push(format!("{}: an answer behind the canary's: {echoes:?}", case.name));
    }
    if answers.is_empty() && !case.is_http2 {
        wrong.push(format!("{}: no answer", case.name));
    }
    if let Some(answer) = answers.iter().find(|answer| answer.status >= 500 && answer.status != 501) {
        wrong.push(format!("{}: answered with {}", case.name, answer.status));
    }
    wrong
}

fn first_segment(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or_default();
    path.split('/').find(|segment| !segment.is_empty()).unwrap_or_default()
}

/// What reached the pod and could be split in more than one way.
fn ambiguities(seen: &[Vec<u8>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for bytes in seen {
        let (requests, rest) = READINGS[0].split(bytes);
        if let Some(Next::Refused(why)) = rest {
            wrong.push(format!("a pod saw {why}"));
        }
        for reading in &READINGS[1..] {
            let (others, _) = reading.split(bytes);
            if others != requests {
                let at = (0..).find(|at| others.get(*at) != requests.get(*at)).unwrap_or_default();
                let (other, plain) = (others.get(at), requests.get(at));
                wrong.push(format!("read by {}: {other:?}, and by the strict pod {plain:?}", reading.name));
            }
        }
    }
    wrong
}

/// Requests that the pod saw and jellypin has not counted.
async fn uncounted(program: &Program, pod: &Pod) -> Vec<String> {
    let mut surplus = Vec::new();
    // The access log is written when an answer has ended, in pieces.
    let mut looks = interval(Duration::from_millis(100));
    for _ in 0..20 {
        looks.tick().await;
        let counted = program.counted();
        let mut counts = BTreeMap::<&str, usize>::new();
        counted.iter().for_each(|path| *counts.entry(first_segment(path)).or_default() += 1);
        let mut seen = BTreeMap::<String, Vec<String>>::new();
        for bytes in pod.seen() {
            let (requests, rest) = READINGS[0].split(&bytes);
            let begun = match rest {
                Some(Next::Unfinished(line)) => Some(line),
                _ => None,
            };
            for line in requests.into_iter().chain(begun) {
                let tag = first_segment(line.split(' ').nth(1).unwrap_or_default()).to_owned();
                if !matches!(&*tag, "health" | "System") {
                    seen.entry(tag).or_default().push(line);
                }
            }
        }
        let more = |(tag, lines): &(String, Vec<String>)| lines.len() > counts.get(&**tag).copied().unwrap_or_default();
        surplus = seen.into_iter().filter(more).collect();
        if surplus.is_empty() {
            break;
        }
    }
    surplus.into_iter().map(|(tag, lines)| format!("not all counted of {tag}: {lines:?}")).collect()
}

fn print_summary(pod: &str, outcomes: &[Outcome], served: usize) {
    let mut groups = BTreeMap::<String, Vec<&str>>::new();
    for Outcome { case, answers, ended, .. } in outcomes {
        let group = match (answers.first(), case.is_http2) {
            (_, true) => format!("HTTP/2: {ended}"),
            (Some(answer), _) if answer.body.ends_with("HTTP/1.1") => format!("{}, from the pod", answer.status),
            (Some(answer), _) => format!("{}, from jellypin", answer.status),
            (None, _) => "ended without an answer".into(),
        };
        groups.entry(group).or_default().push(&case.name);
    }
    println!("{} requests before a pod that reads `{pod}`; {served} answers to the client beside them", outcomes.len());
    for (group, names) in groups {
        println!("  {:>4} {group}", names.len());
        if std::env::var_os("PROTOCOL_NAMES").is_some() {
            names.iter().for_each(|name| println!("         {name}"));
        }
    }
}

/// Between two requests of a client that does nothing wrong.
const WITNESS_PACE: Duration = Duration::from_millis(5);

/// A client that does nothing wrong, on one connection.
struct Witness {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Witness {
    fn start(address: SocketAddr) -> Witness {
        let is_over = Arc::<AtomicBool>::default();
        let told = is_over.clone();
        let task = tokio::spawn(async move {
            let mut wire = Wire::connect(address).await;
            let mut served = 0;
            while !told.load(Ordering::Relaxed) {
                wire.send(&get(&format!("/witness/{served}"), "")).await;
                let expected = Answer { status: 200, body: format!("GET /witness/{served} HTTP/1.1") };
                assert_eq!(wire.answer().await, Some(expected), "the client beside them was harmed");
                served += 1;
                sleep(WITNESS_PACE).await;
            }
            served
        });
        Witness { is_over, task }
    }

    async fn stop(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.expect("the client beside them was not harmed")
    }
}
