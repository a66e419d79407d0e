//! What the ledger plans while a dead pod's acts are done again.

use tokio::time;

use super::{id, model::Model, run, user, write_of};
use crate::{
    jellyfin::user_data::Act,
    proxy::user_data_state::ledger::{Access, Admission, Ledger, Plan, PodView, TellOutcome, TellPermit},
};

#[test]
fn what_is_done_again_while_a_client_writes_is_told_once() {
    run(async {
        let model = Model::new(1, 3);
        let [a, b, c] = [0, 1, 2].map(|pod| model.lock().instance(pod));
        let (mut ledger, item, now) = (Ledger::default(), id(0), time::Instant::now());
        let begin = |ledger: &mut Ledger, pod| match ledger.admit(user(), pod, Access::Write(Some(item)), now, false) {
            Admission::Granted(ticket) => (user(), pod, ticket.expect("a ticket")),
            Admission::Wait(_) => panic!("nothing is to be told yet"),
        };
        let end = |ledger: &mut Ledger, write, act| {
            ledger.end_write(write, Some(&write_of(item, act)), now, std::time::SystemTime::now());
        };
        let (on_c, on_a) = (begin(&mut ledger, c), begin(&mut ledger, a));
        end(&mut ledger, on_a, Act::Favorite(true));
        // Its pod is gone, so it is done again on the second one. Meanwhile the third one answers.
        let pods = [b, c].map(|instance| PodView { instance, is_alive: true, sleeps: false });
        let Plan::Work(rounds) = ledger.plan(user(), &pods, now, false) else { panic!("no work") };
        assert!(rounds[0].has_lost() && rounds[0].targets == [b]);
        assert!(ledger.begin_telling(user(), item, b, Some(rounds[0].generation)) != TellPermit::Stale);
        end(&mut ledger, on_c, Act::Likes(Some(true)));
        ledger.redone(user(), &rounds[0], b);
        ledger.end_telling(user(), item, b, None, now);
        let mut told = Vec::new();
        while let Plan::Work(rounds) = ledger.plan(user(), &pods, now, false) {
            for round in rounds {
                let pair = ledger.pair(user(), item).expect("the pair");
                match round.rewrites {
                    Some(doubts) => pair.rewritten(doubts),
                    None => pair.compared(&round, true),
                }
                for pod in round.targets {
                    assert!(ledger.begin_telling(user(), item, pod, Some(round.generation)) != TellPermit::Stale);
                    ledger.end_telling(user(), item, pod, Some((round.generation, TellOutcome::Done)), now);
                    told.push(pod);
                }
            }
            assert!(told.len() <= 2, "{told:?}");
        }
        assert!(told.contains(&b) && told.contains(&c), "{told:?}");
        assert_eq!(ledger.counts().1, 0);
    });
}
