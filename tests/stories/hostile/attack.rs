//! One hostile connection after the other, with a well-behaved client at work beside them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;

use super::strict::{LAST, StrictPod, UNFINISHED};
use crate::stories::{
    wire::{self, End, within},
    world::{DEADLINE, World, elapse, millis, secs, story, until},
};

/// What a hostile client does.
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) then: Then,
    /// What must come back.
    pub(super) expected: Outcome,
    /// What must have reached the pod, exactly.
    pub(super) reaches: Vec<&'static str>,
}

/// What it does after its bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It reads until it has an answer or the connection ends.
    Reads,
    /// The same, after a body that breaks off: whether its head reaches the pod before that is known is left open.
    BreaksOff,
    /// It says that nothing more comes, and reads.
    Finishes,
    /// It goes away.
    Leaves,
}

/// What came back, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Status(u16),
    /// Several answers, or frames of HTTP/2 in the words of [`super::frames`].
    Words(&'static str),
    /// The connection ended without an answer.
    Ended,
    /// Nobody stayed to see.
    Nothing,
}

/// How long the proxy waits for a head here.
const HEADER_TIMEOUT: Duration = secs(1);

/// Carries the attacks out and prints what came of each.
///
/// # Panics
/// When one did not come out as it must, the pod saw a message that it could read in two ways, or the witness was harmed.
pub(super) async fn run_all(what: &str, attacks: Vec<Attack>, read: impl AsyncFn(&mut End) -> String) {
    let pod = StrictPod::start().await;
    let plan = World::plan(0).pod("a", pod.address).client_header(HEADER_TIMEOUT);
    story(plan.uncounted(), async |world| {
        let witness = Witness::start(world);
        let mut wrong = Vec::new();
        println!("\n{what}: what came back | what reached the pod");
        for attack in &attacks {
            let before = pod.seen().len();
            let came_back = carry_out(world, attack, &read).await;
            let expected = in_words(&attack.expected);
            let counts = |what: &&String| attack.then != Then::BreaksOff || !what.ends_with(UNFINISHED);
            let reached = || pod.seen()[before..].iter().filter(counts).cloned().collect::<Vec<_>>();
            if came_back == expected {
                // Where the client does not stay, its request may still be on its way.
                until(attack.name, || reached().len() >= attack.reaches.len()).await;
            }
            witness.works_on().await;
            let reached = reached();
            let is_right = came_back == expected && reached == attack.reaches;
            let mark = if is_right { "" } else { "   <-- WRONG" };
            println!("  {:<58} | {came_back:<14} | {}{mark}", attack.name, shown(&reached));
            if !is_right {
                let reaches = &attack.reaches;
                wrong.push(format!("{}: {came_back} and {reached:?}, not {expected} and {reaches:?}", attack.name));
            }
        }
        let served = witness.stop().await;
        println!("  {} attacks; the client beside them had {served} answers and no failure", attacks.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    })
    .await;
}

fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Status(status) => status.to_string(),
        Outcome::Words(words) => (*words).to_owned(),
        Outcome::Ended => "ended".into(),
        Outcome::Nothing => "-".into(),
    }
}

fn shown(reached: &[String]) -> String {
    let short = |what: &String| what.chars().take(70).collect::<String>();
    if reached.is_empty() { "nothing".into() } else { reached.iter().map(short).collect::<Vec<_>>().join("; ") }
}

async fn carry_out(world: &World, attack: &Attack, read: impl AsyncFn(&mut End) -> String) -> String {
    let mut end = wire::client(world).await;
    // The proxy may end the connection before it has read everything.
    let sent = within(DEADLINE, attack.name, end.try_send(&attack.bytes)).await;
    match attack.then {
        Then::Leaves => return "-".into(),
        Then::Finishes if sent.is_ok() => end.finish().await,
        Then::Finishes | Then::Reads | Then::BreaksOff => {}
    }
    within(DEADLINE, attack.name, read(&mut end)).await
}

/// Reads the statuses of all answers. After the first one a last request shows what else stood before it.
pub(super) async fn statuses(end: &mut End) -> String {
    let mut statuses = Vec::new();
    while let Some(answer) = end.try_answer().await {
        if answer.text() == LAST {
            break;
        }
        statuses.push(answer.status.to_string());
        // A connection that has ended takes none, which is as good.
        let _ = end.try_send(format!("GET /{LAST} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
    }
    if statuses.is_empty() { "ended".into() } else { statuses.join(", ") }
}

/// A client that does nothing wrong, on one connection.
struct Witness {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Witness {
    fn start(world: &World) -> Witness {
        let address = world.proxy.address;
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (told, count) = (stop.clone(), served.clone());
        let task = tokio::spawn(async move {
            let mut end = End::connect(address).await;
            while !told.load(Ordering::SeqCst) {
                end.send("GET /witness HTTP/1.1\r\nHost: witness\r\n\r\n").await;
                let answer = end.answer().await;
                assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "the witness was harmed");
                count.fetch_add(1, Ordering::SeqCst);
                elapse(millis(1)).await;
            }
        });
        Witness { stop, served, task }
    }

    /// Waits for its next answer.
    async fn works_on(&self) {
        let before = self.served.load(Ordering::SeqCst);
        until("the client beside the attacks works on", || {
            assert!(!self.task.is_finished(), "the client beside the attacks was harmed");
            self.served.load(Ordering::SeqCst) > before
        })
        .await;
    }

    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the client beside the attacks was not harmed");
        self.served.load(Ordering::SeqCst)
    }
}
