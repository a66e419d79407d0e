//! Where a client without a known home goes.

use std::{collections::HashMap, hash::Hasher, sync::Arc};

use siphasher::sip::SipHasher13;

use crate::pod::{Pod, PodId, State};

/// A client's key as a number. It is the same in every replica and every release, since replicas
/// agree by it without talking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    pub fn of(text: &[u8]) -> Key {
        let mut hasher = SipHasher13::new();
        hasher.write(text);
        Key(hasher.finish())
    }
}

/// The pods among which a client may be placed: the best kind that there is.
///
/// First come ready pods, then draining ones. Then come pods that still accept connections, since a
/// database outage makes every pod unhealthy at once. The rest come last, since their known state
/// may be old. A pod that announced its end is none of them, though it still accepts connections.
pub fn candidates(
    pods: &[Arc<Pod>],
    excluded: impl Fn(&Pod) -> bool + Copy,
) -> impl Iterator<Item = &Arc<Pod>> + Clone {
    let rank = |pod: &Pod| {
        let status = pod.status();
        match status.state {
            State::Ready => 0_u8,
            State::Draining => 1,
            _ if status.accepts => 2,
            _ => 3,
        }
    };
    let excluded = move |pod: &Pod| excluded(pod) || pod.life.is_over();
    let best = pods.iter().filter(|pod| !excluded(pod)).map(|pod| rank(pod)).min();
    pods.iter().filter(move |pod| !excluded(pod) && Some(rank(pod)) == best)
}

/// Rendezvous hashing: the pod with the highest score for this key. When a pod leaves, only its own
/// clients move. A pod whose share is halved gets half as many of the keys, and the others keep
/// theirs.
pub fn rendezvous<'a>(key: Key, pods: impl Iterator<Item = &'a Arc<Pod>>) -> Option<&'a Arc<Pod>> {
    pods.map(|pod| (score(key.0, 0, pod), pod)).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, pod)| pod)
}

/// The load of each pod, all in one unit. A pod that is not named has none.
pub type Loads = HashMap<PodId, u64>;

/// A pod is full at so many hundredths of its even part of the load.
const FULL: u64 = 125;

/// Rendezvous hashing with bounded loads: the best pod for this key of those that are not full yet.
/// As long as none is full, all replicas agree by the key alone.
pub fn bounded<'a>(key: Key, loads: &Loads, pods: impl Iterator<Item = &'a Arc<Pod>> + Clone) -> Option<&'a Arc<Pod>> {
    let open = pods.clone().filter(|pod| !is_full(pod, loads, pods.clone()));
    // One pod has less than its part, so this always finds one.
    rendezvous(key, open).or_else(|| rendezvous(key, pods))
}

/// Whether a pod has more than its part among these, by their shares.
pub fn is_full<'a>(pod: &Pod, loads: &Loads, pods: impl Iterator<Item = &'a Arc<Pod>>) -> bool {
    // A whole share is 2^16 parts, since a halved one must not vanish.
    let share = |pod: &Pod| (1_u64 << 16) >> pod.vitals.halvings().min(16);
    let load = |pod: &Pod| loads.get(&pod.id).copied().unwrap_or(0);
    let (mut all, mut shares) = (1, 0);
    for other in pods {
        all += load(other);
        shares += share(other);
    }
    // Of what there is with one more, rounded up.
    load(pod) >= (all * FULL * share(pod)).div_ceil(100 * shares.max(1))
}

/// The pod with the fewest requests under way for its share. `turn` breaks ties, so that idle pods
/// share evenly.
pub fn least_loaded<'a>(turn: u64, pods: impl Iterator<Item = &'a Arc<Pod>>) -> Option<&'a Arc<Pod>> {
    let load = |pod: &Pod| pod.load.total() << pod.vitals.halvings();
    let rated = pods.map(|pod| (load(pod), score(turn, 1, pod), pod));
    rated.min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1))).map(|(_, _, pod)| pod)
}

/// The logarithm of a number between 0 and 1 that key and pod make, by the pod's share: of two pods,
/// one with half the share has the higher score for a third of the keys.
fn score(key: u64, kind: u64, pod: &Pod) -> f64 {
    let mut hasher = SipHasher13::new_with_keys(key, kind);
    hasher.write(pod.name.as_bytes());
    let even = (hasher.finish() as f64 + 1.0) / (u64::MAX as f64 + 2.0);
    even.ln() * f64::from(1_u32 << pod.vitals.halvings().min(31))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{LoadGuard, PodConfig, Status};

    fn pods(names: &[&str]) -> Vec<Arc<Pod>> {
        let pool: Arc<str> = "pool".into();
        let pods = names.iter().map(|name| {
            Pod::new(&pool, &PodConfig { name: (*name).into(), authority: "h:1".into(), ..Default::default() })
        });
        pods.inspect(|pod| turn(pod, State::Ready, true)).collect()
    }

    fn turn(pod: &Pod, state: State, accepts: bool) {
        pod.life.change(|status| Status { state, accepts, ..status });
    }

    fn names<'a>(pods: impl Iterator<Item = &'a Arc<Pod>>) -> Vec<&'a str> {
        pods.map(|pod| &*pod.name).collect()
    }

    #[test]
    fn a_pod_that_leaves_moves_only_its_own_clients() {
        let pods = pods(&["a", "b", "c", "d"]);
        let mut moved = 0;
        for client in 0..1000_u32 {
            let key = Key::of(&client.to_be_bytes());
            let home = rendezvous(key, pods.iter()).unwrap();
            let without_d = rendezvous(key, pods[..3].iter()).unwrap();
            if &*home.name == "d" {
                moved += 1;
            } else {
                assert_eq!(home.name, without_d.name);
            }
        }
        assert!((200..300).contains(&moved), "a quarter of the clients lives on one of four pods: {moved}");
    }

    #[test]
    fn a_pod_with_half_a_share_gets_half_as_many_and_the_others_keep_theirs() {
        let pods = pods(&["a", "b"]);
        let homes =
            || (0..3000_u32).map(|client| &*rendezvous(Key::of(&client.to_be_bytes()), pods.iter()).unwrap().name);
        let before: Vec<&str> = homes().collect();
        pods[0].vitals.set_halvings(1);
        let after: Vec<&str> = homes().collect();
        let on_a = after.iter().filter(|home| **home == "a").count();
        assert!((900..1100).contains(&on_a), "a third: {on_a}");
        assert!(before.iter().zip(&after).all(|(before, after)| *before == "a" || *after == "b"));
        let idle = (0..3000).filter(|turn| &*least_loaded(*turn, pods.iter()).unwrap().name == "a").count();
        assert!((900..1100).contains(&idle), "a third: {idle}");
    }

    /// Places users one after the other. Every so many of them begin to play. Gives each pod's load.
    fn placed(pods: &[Arc<Pod>], users: u32, plays: impl Fn(u32) -> bool) -> Vec<u64> {
        let mut loads = Loads::new();
        for user in 0..users {
            let pod = bounded(Key::of(&user.to_be_bytes()), &loads, pods.iter()).expect("a pod");
            *loads.entry(pod.id).or_default() += if plays(user) { 4 } else { 1 };
        }
        pods.iter().map(|pod| loads.get(&pod.id).copied().unwrap_or(0)).collect()
    }

    #[test]
    fn no_pod_gets_much_more_than_its_part_of_what_users_do() {
        let pods = pods(&["a", "b", "c"]);
        for every in [1, 2, 7, 1000] {
            let loads = placed(&pods, 200, |user| user % every == 3 % every);
            let (most, all) = (loads.iter().max().expect("a pod"), loads.iter().sum::<u64>());
            assert!(most * 3 * 100 <= all * FULL + 3 * 400, "{loads:?}");
        }
        for users in 1..=9 {
            let loads = placed(&pods, users, |_| false);
            let most = u64::from(users * 125).div_ceil(300);
            assert!(loads.iter().all(|load| *load <= most), "{users} users: {loads:?}");
        }
        pods[0].vitals.set_halvings(2);
        let loads = placed(&pods, 900, |_| false);
        assert!((80..=126).contains(&loads[0]), "a ninth: {loads:?}");
    }

    #[test]
    fn a_pod_that_comes_back_empty_gets_the_next_users() {
        let pods = pods(&["a", "b"]);
        let loads = Loads::from([(pods[0].id, 40)]);
        let to_b = (0..100_u32).all(|user| &*bounded(Key::of(&[user as u8]), &loads, pods.iter()).unwrap().name == "b");
        assert!(to_b && is_full(&pods[0], &loads, pods.iter()) && !is_full(&pods[1], &loads, pods.iter()));
        let even = Loads::from([(pods[0].id, 20), (pods[1].id, 20)]);
        for user in 0..100_u8 {
            let (bounded, hashed) =
                (bounded(Key::of(&[user]), &even, pods.iter()), rendezvous(Key::of(&[user]), pods.iter()));
            assert_eq!(bounded.map(|pod| pod.id), hashed.map(|pod| pod.id), "nobody is full: the key decides");
        }
    }

    #[test]
    fn replicas_of_any_release_agree() {
        let pods = pods(&["a", "b", "c"]);
        let homes: Vec<_> = (0..6_u8).map(|i| &*rendezvous(Key::of(&[i]), pods.iter()).unwrap().name).collect();
        assert_eq!(
            homes,
            ["a", "b", "a", "b", "b", "c"],
            "a change of this row moves every client of a running cluster"
        );
    }

    #[test]
    fn the_best_kind_of_pod_is_chosen_from() {
        let pods = pods(&["a", "b", "c", "d"]);
        let all = |pods: &[Arc<Pod>]| names(candidates(pods, |_| false)).join("");
        turn(&pods[0], State::Down, false);
        turn(&pods[1], State::Down, true);
        turn(&pods[2], State::Draining, true);
        assert_eq!(all(&pods), "d");
        turn(&pods[3], State::Down, false);
        assert_eq!(all(&pods), "c");
        turn(&pods[2], State::Down, false);
        assert_eq!(all(&pods), "b", "a pod that is down for its health and still accepts beats nobody");
        turn(&pods[1], State::Down, false);
        assert_eq!(all(&pods), "abcd", "what is known may be old: at last everybody is asked");
        assert_eq!(names(candidates(&pods, |pod| &*pod.name != "b")), ["b"]);
    }

    #[test]
    fn idle_pods_share_new_clients_and_busy_ones_get_none() {
        let pods = pods(&["a", "b"]);
        let on_a = (0..1000).filter(|turn| &*least_loaded(*turn, pods.iter()).unwrap().name == "a").count();
        assert!((400..600).contains(&on_a), "{on_a}");
        let _busy = LoadGuard::of_request(&pods[0]);
        assert!((0..1000).all(|turn| &*least_loaded(turn, pods.iter()).unwrap().name == "b"));
    }
}
