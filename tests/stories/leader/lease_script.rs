//! The script that the replicas agree by, on a real Redis: each of its words by itself.

use super::*;
use jellypin::{
    observe::metrics::Metrics,
    shutdown::Shutdown,
    store::redis_store::{
        Config, Url,
        ledger::{Claim, Held, Lease, Ledger},
    },
};

const LIFE: Duration = Duration::from_secs(5);

/// A claim of one of these: who, what it knows, what it wants, who is fit, who is not.
fn claim(claimant: &str, known: (u64, &str), wanted: &str, fit: &str, unfit: &str) -> Claim {
    let names = |text: &str| text.chars().map(String::from).collect();
    Claim {
        claimant: claimant.into(),
        known: (known.0, known.1.into()),
        wanted: (!wanted.is_empty()).then(|| wanted.into()),
        fit: names(fit),
        unfit: names(unfit),
        renews: false,
    }
}

fn held(term: u64, value: &str, holder: &str, is_renewed: bool) -> Option<Held> {
    Some(Held { term, value: value.into(), holder: holder.into(), is_renewed })
}

async fn ledger(redis: &RedisServer) -> Ledger {
    let config = Config {
        url: Url::parse(&redis.url()).expect("a URL"),
        sentinels: Vec::new(),
        ca: None,
        deadline: LIFE,
        prefix: "p".into(),
        ttl: LIFE,
        bounds: jellypin::store::redis_store::Bounds::default(),
    };
    let ledger = Ledger::start(&config, Metrics::new(), &Shutdown::new()).expect("a ledger");
    let mut answers = ledger.answers();
    while answers.now() != Some(true) {
        answers.changed().await;
    }
    ledger
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_taken_renewed_repaired_and_released() {
    let redis = RedisServer::start();
    let ledger = ledger(&redis).await;
    let lease = Lease::new("k", LIFE);
    let say = async |claim: Claim| ledger.claim(&lease, &claim).await.expect("an answer");

    assert_eq!(say(claim("X", (0, ""), "", "", "ab")).await, None, "nobody is fit");
    assert_eq!(say(claim("X", (0, ""), "a", "ab", "")).await, held(1, "a", "X", true), "it is taken");
    assert_eq!(say(claim("Y", (0, ""), "b", "ab", "")).await, held(1, "a", "X", false), "the other one follows");
    redis.command(&["PEXPIRE", "k", "1000"]);
    assert_eq!(say(claim("X", (1, "a"), "a", "ab", "")).await, held(1, "a", "X", false), "a look renews nothing");
    let renewal = Claim { renews: true, ..claim("X", (1, "a"), "a", "ab", "") };
    assert_eq!(say(renewal).await, held(1, "a", "X", true));
    assert!(redis.life("k") > 4000, "the lease lives on");

    let stale = claim("X", (1, "a"), "b", "b", "a");
    assert_eq!(say(claim("Y", (1, "a"), "b", "b", "a")).await, held(2, "b", "Y", true), "it is taken over");
    assert_eq!(say(claim("X", (1, "a"), "a", "a", "b")).await, held(2, "b", "Y", false), "not of an unknown term");
    assert_eq!(say(claim("X", (2, "b"), "a", "a", "")).await, held(2, "b", "Y", false), "nor what is only unknown");
    assert_eq!(say(claim("X", (2, "b"), "", "", "b")).await, held(2, "b", "Y", false), "nor for nobody");
    assert_eq!(say(claim("Y", (2, "b"), "a", "a", "")).await, held(3, "a", "Y", true), "the holder may");
    assert_eq!(say(stale).await, held(3, "a", "Y", false), "what comes late ends nothing");

    assert_eq!(say(claim("X", (7, "b"), "b", "ab", "")).await, held(8, "a", "Y", false), "a greater term was known");
    assert_eq!(say(claim("X", (8, "b"), "b", "ab", "")).await, held(9, "a", "Y", false), "another pod was known by it");
    assert_eq!(say(claim("X", (12, "b"), "b", "b", "a")).await, held(13, "b", "X", true), "and its own pod is down");

    ledger.release(&lease, "Y").await;
    assert_eq!(say(claim("Y", (13, "b"), "b", "ab", "")).await, held(13, "b", "X", false), "it was not Y's to give");
    ledger.release(&lease, "X").await;
    assert_eq!(redis.life("k"), -2, "nobody holds it");
    assert_eq!(say(claim("Y", (0, ""), "a", "ab", "")).await, held(13, "b", "Y", true), "who led goes on in its term");
    redis.command(&["DEL", "k"]);
    assert_eq!(say(claim("Z", (13, "b"), "a", "a", "b")).await, held(14, "a", "Z", true), "if it is fit");
    redis.flush();
    assert_eq!(say(claim("Z", (14, "a"), "a", "ab", "")).await, held(15, "a", "Z", true), "a history that was lost");
    assert!(redis.life("k:term") > 29 * 86_400_000, "the record stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_takes_the_lease() {
    let redis = RedisServer::start();
    let lease = Lease::new("k", LIFE);
    for round in 0..20 {
        redis.flush();
        let mut claimants = Vec::new();
        for number in 0..4 {
            let (ledger, lease) = (ledger(&redis).await, lease.clone());
            let claim = claim(&format!("claimant {number}"), (round, "a"), &format!("{number}"), "0123", "a");
            claimants.push(tokio::spawn(async move { ledger.claim(&lease, &claim).await.expect("an answer") }));
        }
        let mut answers = Vec::new();
        for claimant in claimants {
            answers.push(claimant.await.expect("an answer").expect("a holder"));
        }
        assert!(answers.iter().all(|held| (held.term, &held.value) == (round + 1, &answers[0].value)), "{answers:?}");
        assert_eq!(answers.iter().filter(|held| held.is_renewed).count(), 1, "{answers:?}");
    }
}
