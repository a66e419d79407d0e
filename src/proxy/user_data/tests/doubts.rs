//! What the ledger plans when a row in the database, or in a pod's memory, is in doubt.

use std::time::SystemTime;

use tokio::time::Instant;

use super::{id, model::Model, run, user, write_of};
use crate::{
    jellyfin::user_data::{Act, Id},
    pod::PodInstance,
    proxy::user_data_state::{
        ledger::{Access, Admission, Ledger, Plan, PodView, TellOutcome, TellPermit, Ticket, lose_write},
        round::Round,
    },
};

fn item() -> Id {
    id(0)
}

fn three_pods() -> [PodInstance; 3] {
    let model = Model::new(1, 3);
    [0, 1, 2].map(|pod| model.lock().instance(pod))
}

fn begin(ledger: &mut Ledger, pod: PodInstance) -> Ticket {
    match ledger.admit(user(), pod, Access::Write(Some(item())), Instant::now(), false) {
        Admission::Granted(ticket) => ticket.expect("a ticket"),
        Admission::Wait(_) => panic!("the pod has heard of everything"),
    }
}

/// A favourite that was written through the first pod, and of which all others have heard.
fn all_told(ledger: &mut Ledger, pods: &[PodInstance]) {
    let ticket = begin(ledger, pods[0]);
    let write = write_of(item(), Act::Favorite(true));
    ledger.end_write((user(), pods[0], ticket), Some(&write), Instant::now(), SystemTime::now());
    for round in plan(ledger, pods) {
        for pod in &round.targets {
            assert!(ledger.begin_telling(user(), item(), *pod, Some(round.generation)) != TellPermit::Stale);
            let told = Some((round.generation, TellOutcome::Done));
            ledger.end_telling(user(), item(), *pod, told, Instant::now());
        }
    }
}

fn plan(ledger: &mut Ledger, pods: &[PodInstance]) -> Vec<Round> {
    let view = |instance: &PodInstance| PodView { instance: *instance, is_alive: true, sleeps: false };
    let views: Vec<PodView> = pods.iter().map(view).collect();
    match ledger.plan(user(), &views, Instant::now(), false) {
        Plan::Work(rounds) => rounds,
        Plan::Wait(_) | Plan::Done => Vec::new(),
    }
}

/// Does what is planned. Returns what it was: whether the row was written once more, or compared.
fn carry(ledger: &mut Ledger, pods: &[PodInstance]) -> Vec<&'static str> {
    let mut done = Vec::new();
    while let [round] = &plan(ledger, pods)[..] {
        assert!(round.targets.is_empty() && done.len() < 9, "{round:?} after {done:?}");
        let pair = ledger.pair(user(), item()).expect("the pair");
        match round.rewrites {
            Some(doubts) => {
                pair.rewritten(doubts);
                done.push("rewritten");
            }
            None => {
                pair.compared(round, true);
                done.push("compared");
            }
        }
    }
    done
}

#[test]
fn a_pod_that_dies_while_it_may_write_has_overwritten_what_it_had_heard_of() {
    run(async {
        let (mut ledger, pods) = (Ledger::default(), three_pods());
        all_told(&mut ledger, &pods);
        // A report is replayed to it.
        assert!(ledger.begin_telling(user(), item(), pods[1], None) != TellPermit::Stale);
        assert_eq!(carry(&mut ledger, &[pods[0], pods[2]]), ["rewritten", "compared"]);
        assert_eq!(ledger.counts().1, 1, "an older row may be on its way");
        ledger.end_telling(user(), item(), pods[1], None, Instant::now());
        assert!(carry(&mut ledger, &[pods[0], pods[2]]).is_empty());
        assert_eq!(ledger.counts().1, 0);
    });
}

#[test]
fn what_was_written_is_known_until_the_last_write_has_ended() {
    run(async {
        let (mut ledger, pods) = (Ledger::default(), three_pods());
        all_told(&mut ledger, &pods);
        let ticket = begin(&mut ledger, pods[1]);
        assert!(carry(&mut ledger, &pods).is_empty());
        // Nobody knows what became of it.
        lose_write(&mut ledger, user(), ticket);
        ledger.end_write((user(), pods[1], ticket), None, Instant::now(), SystemTime::now());
        assert_eq!(carry(&mut ledger, &pods), ["rewritten", "compared"]);
        assert_eq!(ledger.counts().1, 0);
    });
}

#[test]
fn what_becomes_doubtful_during_a_comparison_is_compared_again() {
    run(async {
        let (mut ledger, pods) = (Ledger::default(), three_pods());
        all_told(&mut ledger, &pods);
        ledger.pair(user(), item()).expect("the pair").unsettle();
        let rounds = plan(&mut ledger, &pods);
        // While the rows are compared, a pod dies with a write.
        ledger.pair(user(), item()).expect("the pair").overwrite();
        ledger.pair(user(), item()).expect("the pair").compared(&rounds[0], true);
        assert_eq!(carry(&mut ledger, &pods), ["rewritten", "compared"]);
        // The same while it is written once more.
        all_told(&mut ledger, &pods);
        ledger.pair(user(), item()).expect("the pair").overwrite();
        let rounds = plan(&mut ledger, &pods);
        let doubts = rounds[0].rewrites.expect("a row that was overwritten");
        ledger.pair(user(), item()).expect("the pair").overwrite();
        ledger.pair(user(), item()).expect("the pair").rewritten(doubts);
        assert_eq!(carry(&mut ledger, &pods), ["rewritten", "compared"]);
    });
}
