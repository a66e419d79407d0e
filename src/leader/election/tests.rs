//! Simulates replicas and a book that stands for Redis, with the same rules as the script. Claims
//! and answers get lost or come late, some replicas do not see some pods, and the book may forget.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::leader::rule::{Fitness, tests::field};

const LEASE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(1);

/// What Redis keeps.
#[derive(Clone, Debug, Default)]
struct Book {
    lease: Option<(Held, Instant)>,
    record: Option<(String, u64)>,
}

impl Book {
    /// The script, in Rust.
    fn claim(&mut self, now: Instant, claim: &Claim) -> Option<Held> {
        let lease = self.lease.clone().filter(|(_, until)| now < *until);
        let (known, known_value) = &claim.known;
        let (last, last_term) = self.record.clone().unzip();
        let last_term = last_term.unwrap_or(0);
        let after = 1 + last_term.max(*known).max(lease.as_ref().map_or(0, |(held, _)| held.term));
        let is_fit = |value: &String| claim.fit.contains(value);
        let taken = |value: &String, term| Held {
            term,
            value: value.clone(),
            holder: claim.claimant.clone(),
            is_renewed: true,
        };
        let (held, until) = match lease {
            None => {
                let wanted = claim.wanted.as_ref()?;
                let held = match last.filter(|last| is_fit(last)) {
                    Some(last) if *known < last_term || (*known == last_term && *known_value == last) => {
                        taken(&last, last_term)
                    }
                    Some(last) => taken(&last, after),
                    None => taken(wanted, after),
                };
                (held, now + LEASE)
            }
            Some((held, until)) => {
                let mine = held.holder == claim.claimant;
                let may_end =
                    held.term <= *known && (claim.unfit.contains(&held.value) || (mine && !is_fit(&held.value)));
                match claim.wanted.as_ref().filter(|wanted| may_end && **wanted != held.value) {
                    Some(wanted) => (taken(wanted, after), now + LEASE),
                    None if held.term < *known || (held.term == *known && *known_value != held.value) => {
                        let until = if mine { now + LEASE } else { until };
                        (Held { term: after, is_renewed: mine, ..held }, until)
                    }
                    None => {
                        let renews = mine && claim.renews;
                        (Held { is_renewed: renews, ..held }, if renews { now + LEASE } else { until })
                    }
                }
            }
        };
        self.lease = Some((held.clone(), until));
        self.record = Some((held.value.clone(), held.term));
        Some(held)
    }

    fn forget(&mut self) {
        *self = Book::default();
    }
}

/// Three replicas, what each sees, and the book.
struct World {
    now: Instant,
    book: Book,
    replicas: Vec<Election>,
    views: Vec<Vec<Candidate>>,
    late: Vec<Claim>,
    /// The value that each term had in the book since the book last forgot.
    terms: HashMap<u64, String>,
    /// The pod that any replica named for each term.
    named: HashMap<(usize, u64), Arc<str>>,
    /// A book that forgot, or late answers, may give the lease to another replica at once.
    forgot_at: Option<Instant>,
}

impl World {
    fn new(standings: &str) -> World {
        let now = Instant::now();
        let replica = |number: usize| {
            let mut replica = Election::new(format!("replica {number}"), LEASE, LOOK, now);
            replica.set_candidates(field(standings));
            replica.set_redis_answers(Some(true));
            replica
        };
        World {
            now,
            book: Book::default(),
            replicas: (0..3).map(replica).collect(),
            views: vec![field(standings); 3],
            late: Vec::new(),
            terms: HashMap::new(),
            named: HashMap::new(),
            forgot_at: None,
        }
    }

    /// Sends a replica's claim, if it has one, and checks the invariants.
    fn send_claim(&mut self, number: usize, fate: Fate) {
        let now = self.now;
        let replica = &mut self.replicas[number];
        replica.lease.has_run_out(now);
        let Some(claim) = replica.claim(now) else { return };
        let before = replica.incumbency.term;
        match fate {
            Fate::Answered => replica.on_answer(now, self.book.claim(now, &claim)),
            Fate::AnswerLost => {
                self.book.claim(now, &claim);
                replica.on_no_answer(now);
            }
            Fate::Late => {
                self.late.push(claim);
                replica.on_no_answer(now);
            }
        }
        assert!(replica.incumbency.term >= before, "a term shrank");
        self.check();
    }

    fn check(&mut self) {
        if let Some((value, term)) = &self.book.record {
            let known = self.terms.entry(*term).or_insert_with(|| value.clone());
            assert_eq!(known, value, "term {term} has two values");
        }
        for (number, replica) in self.replicas.iter().enumerate() {
            let Incumbency { term, pod: Some(pod) } = &replica.incumbency else { continue };
            let named = self.named.entry((number, *term)).or_insert_with(|| pod.clone());
            assert_eq!(named, pod, "replica {number} names two pods for term {term}");
        }
        let mut holders: Vec<u64> =
            self.replicas.iter().filter(|r| r.lease.holds(self.now)).map(|r| r.incumbency.term).collect();
        let held = holders.len();
        holders.sort_unstable();
        holders.dedup();
        let has_forgotten = self.forgot_at.is_some_and(|at| self.now < at + LEASE);
        assert!(holders.len() == held || has_forgotten, "two replicas hold one term");
    }

    fn see(&mut self, number: usize, pod: usize, fitness: Fitness) {
        let before = self.replicas[number].incumbency.term;
        self.views[number][pod].fitness = fitness;
        self.replicas[number].set_candidates(self.views[number].clone());
        assert!(self.replicas[number].incumbency.term >= before);
        self.check();
    }

    /// Lets all replicas ask for this long, every fifth of a second.
    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for number in 0..3 {
                self.send_claim(number, Fate::Answered);
            }
            self.now += LOOK / 5;
        }
    }

    fn leaders(&self) -> Vec<(u64, Option<char>)> {
        self.replicas
            .iter()
            .map(|replica| (replica.incumbency.term, replica.leads().and_then(|pod| pod.chars().next())))
            .collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    AnswerLost,
    /// The book applies it some time later, if ever.
    Late,
}

#[derive(Clone, Debug)]
enum Event {
    Ask(usize, Fate),
    /// A pod changes for all replicas, or for one.
    Pod(usize, Fitness, Option<usize>),
    Redis(usize, bool),
    CarryOut(prop::sample::Index),
    Pass(u64),
    Forget,
}

fn event() -> impl Strategy<Value = Event> {
    use Fitness::*;
    let fitness = prop_oneof![4 => Just(Ready), 1 => Just(Draining), 1 => Just(Yielding), 4 => Just(Away)];
    let fate = prop_oneof![6 => Just(Fate::Answered), 1 => Just(Fate::AnswerLost), 1 => Just(Fate::Late)];
    prop_oneof![
        12 => (0..3_usize, fate).prop_map(|(replica, fate)| Event::Ask(replica, fate)),
        3 => (0..3_usize, fitness, prop::option::of(0..3_usize)).prop_map(|(pod, now, who)| Event::Pod(pod, now, who)),
        2 => (0..3_usize, any::<bool>()).prop_map(|(replica, up)| Event::Redis(replica, up)),
        1 => any::<prop::sample::Index>().prop_map(Event::CarryOut),
        4 => prop_oneof![0..500_u64, 500..40_000_u64].prop_map(Event::Pass),
        1 => Just(Event::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn terms_never_shrink_a_term_has_one_pod_and_in_the_end_all_agree(
        events in prop::collection::vec(event(), 1..120),
        first in prop_oneof![Just(Fitness::Away), Just(Fitness::Yielding)],
    ) {
        let mut world = World::new("RRR");
        for event in events {
            match event {
                Event::Ask(replica, fate) => world.send_claim(replica, fate),
                Event::Pod(pod, fitness, who) => {
                    for number in (0..3).filter(|number| who.is_none_or(|who| who == *number)) {
                        world.see(number, pod, fitness);
                    }
                }
                Event::Redis(replica, up) => {
                    let before = world.replicas[replica].incumbency.term;
                    world.replicas[replica].set_redis_answers(Some(up));
                    prop_assert!(world.replicas[replica].incumbency.term >= before);
                    world.check();
                }
                Event::CarryOut(index) if !world.late.is_empty() => {
                    let claim = world.late.swap_remove(index.index(world.late.len()));
                    world.book.claim(world.now, &claim);
                    world.check();
                }
                Event::CarryOut(_) => {}
                Event::Pass(ms) => world.now += Duration::from_millis(ms),
                Event::Forget => {
                    world.book.forget();
                    world.terms.clear();
                    world.forgot_at = Some(world.now);
                }
            }
        }
        world.check();
        // The failures end, and all replicas see the same two pods.
        for number in 0..3 {
            world.replicas[number].set_redis_answers(Some(true));
            world.see(number, 0, first);
            world.see(number, 1, Fitness::Ready);
            world.see(number, 2, Fitness::Ready);
        }
        world.run_for(LEASE + 3 * LOOK);
        let leaders = world.leaders();
        prop_assert!(leaders.iter().all(|leader| *leader == leaders[0]), "{leaders:?}");
        prop_assert!(matches!(leaders[0].1, Some('b' | 'c')), "{leaders:?}");
        prop_assert_eq!(world.replicas.iter().filter(|replica| replica.lease.holds(world.now)).count(), 1);
        // The leaders no longer change.
        world.run_for(LEASE * 2);
        prop_assert_eq!(world.leaders(), leaders);
    }
}

#[test]
fn one_pod_is_elected_and_stays() {
    let mut world = World::new("-RR");
    world.run_for(LOOK);
    assert_eq!(world.leaders(), [(1, Some('b')); 3]);
    (0..3).for_each(|number| world.see(number, 0, Fitness::Ready));
    world.run_for(LEASE * 3);
    assert_eq!(world.leaders(), [(1, Some('b')); 3], "a pod that comes takes nothing away");
    assert_eq!(world.replicas.iter().filter(|replica| replica.lease.holds(world.now)).count(), 1, "it is renewed");
}

#[test]
fn a_leader_that_is_gone_is_replaced_in_the_same_moment() {
    let mut world = World::new("RRR");
    world.run_for(LOOK);
    (0..3).for_each(|number| world.see(number, 0, Fitness::Away));
    (0..3).rev().for_each(|number| world.send_claim(number, Fate::Answered));
    assert_eq!(world.replicas[2].incumbency, Incumbency { term: 2, pod: Some("b".into()) });
    world.run_for(LOOK);
    assert_eq!(world.leaders(), [(2, Some('b')); 3]);
}

#[test]
fn a_leader_that_yields_is_replaced_though_one_replica_alone_knows_that_it_does() {
    for who in 0..3 {
        let mut world = World::new("RRR");
        world.run_for(LOOK);
        world.see(who, 0, Fitness::Draining);
        world.run_for(LOOK);
        assert_eq!(world.leaders(), [(1, Some('a')); 3], "it has groups");
        world.see(who, 0, Fitness::Yielding);
        world.run_for(LEASE * 3);
        assert_eq!(world.leaders(), [(2, Some('b')); 3]);
        // It leads again while no other pod can.
        for number in 0..3 {
            world.see(number, 1, Fitness::Away);
            world.see(number, 2, Fitness::Away);
        }
        world.run_for(LOOK * 2);
        assert_eq!(world.leaders(), [(3, Some('a')); 3]);
        (0..3).for_each(|number| world.see(number, 2, Fitness::Ready));
        world.run_for(LOOK * 2);
        assert_eq!(world.leaders(), [(4, Some('c')); 3]);
    }
}

#[test]
fn a_claim_that_comes_late_ends_no_newer_term() {
    let mut world = World::new("RRR");
    world.run_for(LOOK);
    world.see(0, 0, Fitness::Away);
    world.send_claim(0, Fate::Late);
    (1..3).for_each(|number| world.see(number, 0, Fitness::Away));
    world.run_for(LOOK);
    (0..3).for_each(|number| world.see(number, 0, Fitness::Ready));
    (0..3).for_each(|number| world.see(number, 1, Fitness::Away));
    world.run_for(LOOK);
    let settled = world.leaders();
    assert_eq!(settled, [(3, Some('a')); 3]);
    let late = world.late.pop().expect("a claim against `a`, for `b`");
    world.book.claim(world.now, &late);
    world.run_for(LOOK);
    assert_eq!(world.leaders(), settled);
}

#[test]
fn replicas_that_see_different_pods_do_not_vote_for_ever() {
    let mut world = World::new("RR");
    world.run_for(LOOK);
    // The first replica does not see `a`, the second not `b`.
    world.see(0, 0, Fitness::Away);
    world.see(1, 1, Fitness::Away);
    world.run_for(LEASE);
    let settled = world.leaders();
    assert!(settled[0].0 <= 4, "{settled:?}");
    world.run_for(LEASE * 3);
    assert_eq!(world.leaders(), settled);
}

#[test]
fn a_holder_whose_renewal_is_not_answered_knows_that_it_has_lost_the_lease_before_another_can_have_it() {
    let mut world = World::new("R");
    world.replicas.truncate(1);
    let sent = world.now;
    let claim = world.replicas[0].claim(world.now).expect("a question");
    // The answer comes late; the lease counts from when the claim was sent.
    let answer = world.book.claim(world.now + LOOK, &claim);
    world.replicas[0].on_answer(sent, answer);
    world.now = sent + LEASE / 2;
    assert!(world.replicas[0].claim(world.now).expect("a renewal").renews);
    world.replicas[0].on_no_answer(world.now);
    world.now = sent + LEASE - Duration::from_millis(1);
    assert!(world.replicas[0].lease.holds(world.now) && !world.replicas[0].lease.has_run_out(world.now));
    world.now = sent + LEASE;
    assert!(!world.replicas[0].lease.holds(world.now) && world.replicas[0].lease.has_run_out(world.now));
    assert!(world.book.lease.as_ref().is_some_and(|(_, until)| world.now < *until), "Redis has it for longer");
    assert_eq!(world.leaders(), [(1, Some('a'))], "the pod leads all the same");
}

#[test]
fn without_redis_each_goes_on_and_afterwards_all_agree_on_a_greater_term() {
    let mut world = World::new("RRR");
    world.run_for(LOOK);
    (0..3).for_each(|number| world.replicas[number].set_redis_answers(Some(false)));
    (0..3).for_each(|number| world.see(number, 0, Fitness::Away));
    assert_eq!(world.leaders(), [(2, Some('b')); 3], "the same on every replica");
    assert!(world.replicas.iter().all(|replica| replica.claim(world.now).is_none()), "nobody asks");
    world.book.forget();
    world.terms.clear();
    (0..3).for_each(|number| world.replicas[number].set_redis_answers(Some(true)));
    world.run_for(LOOK);
    assert_eq!(world.leaders(), [(3, Some('b')); 3]);
}

#[test]
fn a_pod_that_a_replica_does_not_know_is_left_to_those_who_do() {
    let mut world = World::new("RRR");
    (0..3).for_each(|number| world.see(number, 0, Fitness::Away));
    (0..3).for_each(|number| world.see(number, 1, Fitness::Away));
    world.run_for(LOOK);
    world.views[2].truncate(2);
    world.see(2, 0, Fitness::Ready);
    world.run_for(LOOK * 3);
    assert_eq!(world.leaders(), [(1, Some('c')), (1, Some('c')), (1, Some('a'))]);
}
