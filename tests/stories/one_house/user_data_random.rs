//! Many writes of many users through three pods that are killed and drained meanwhile: none is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::Method;
use jellyfin_sim::UserData;
use jellypin::pod::State;
use serde_json::json;

use super::{house, one_device_on_each};
use crate::stories::world::{Client, World, body_of, elapse, story, until};

const FILMS: usize = 6;
const TWO_HOURS: Duration = Duration::from_secs(7200);
const MINUTE_IN_TICKS: i64 = 600_000_000;

/// How many users write how often, and how many pods are killed or drained meanwhile.
///
/// `STORY_WRITES=2000` for the figures: 20 users, 100 writes of each. `STORY_SEED` for other numbers.
struct Load {
    users: usize,
    writes_of_each: usize,
    kills: usize,
    seed: u64,
}

impl Load {
    fn read() -> Load {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let writes = number("STORY_WRITES").unwrap_or(400) as usize;
        let users = if writes < 1000 { 8 } else { 20 };
        let seed = number("STORY_SEED").unwrap_or(0x1234_5678_9abc_def1);
        Load { users, writes_of_each: writes / users, kills: if writes < 1000 { 4 } else { 10 }, seed }
    }
}

/// A repeatable row of numbers (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// One user writes through its devices, and repeats what was not answered. Returns the row of each
/// film as it should be.
async fn user_writes(
    mut devices: Vec<Client>,
    films: Arc<Vec<String>>,
    (mut numbers, writes): (Numbers, usize),
    repeated: Arc<AtomicUsize>,
) -> Vec<UserData> {
    let mut rows = vec![UserData::default(); films.len()];
    for _ in 0..writes {
        let (place, at) = (numbers.below(films.len()), numbers.below(devices.len()));
        let (film, row, device) = (&films[place], &mut rows[place], &mut devices[at]);
        // Between the beginning and the end, so that it is a position.
        let position = MINUTE_IN_TICKS * (10 + numbers.below(80) as i64);
        let report = json!({"ItemId": film, "PositionTicks": position}).to_string();
        let is_yes = numbers.below(2) == 0;
        let method = if is_yes { Method::POST } else { Method::DELETE };
        let (method, path, body) = match numbers.below(6) {
            0 => {
                row.favorite = is_yes;
                (method, format!("/UserFavoriteItems/{film}"), String::new())
            }
            1 => {
                row.rating = Some(if is_yes { 10.0 } else { 1.0 });
                (Method::POST, format!("/UserItems/{film}/Rating?likes={is_yes}"), String::new())
            }
            2 => {
                (row.played, row.position) = (is_yes, 0);
                (method, format!("/UserPlayedItems/{film}"), String::new())
            }
            3 | 4 => {
                row.position = position;
                (Method::POST, "/Sessions/Playing/Progress".to_owned(), report)
            }
            _ => {
                row.position = position;
                (Method::POST, "/Sessions/Playing/Stopped".to_owned(), report)
            }
        };
        loop {
            let mut request = device.request(method.clone(), &path);
            if !body.is_empty() {
                request = request.header("content-type", "application/json");
            }
            match device.send(request, body_of(body.clone())).await {
                Ok(answer) if (200..300).contains(&answer.status) => break,
                _ => repeated.fetch_add(1, Ordering::Relaxed),
            };
            tokio::task::yield_now().await;
        }
    }
    rows
}

/// What must be equal: the count and the time of plays differ where a write was repeated.
fn compared(row: Option<UserData>) -> UserData {
    UserData { play_count: 0, last_played: None, ..row.unwrap_or_default() }
}

/// Kills one pod, drains the next and takes that back, kills the next. Gives how often it did each.
async fn disturb_in_turn(world: &World, (most, drains_too): (usize, bool), is_over: &AtomicBool) -> (usize, usize) {
    let (mut kills, mut drains) = (0, 0);
    for (turn, pod) in world.pods.iter().cycle().take(most).enumerate() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        if turn % 2 == 0 || !drains_too {
            pod.kill().await;
            world.until_state(pod.name(), State::Down).await;
            pod.start_again().await.expect("a pod starts again");
            kills += 1;
        } else {
            assert_eq!(world.proxy.post_admin(&format!("/pods/main/{}/drain", pod.name())).await.status, 202);
            let there = || world.proxy.shared().clients_of(&world.proxy.pod(pod.name())).len();
            // The rest leaves while the pod takes clients again, or stays.
            let half = there() / 2;
            until("half of them have left", || is_over.load(Ordering::Relaxed) || there() <= half).await;
            assert_eq!(world.proxy.post_admin(&format!("/pods/main/{}/undrain", pod.name())).await.status, 202);
            drains += 1;
        }
        world.until_state(pod.name(), State::Ready).await;
    }
    (kills, drains)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writes_none_is_lost_while_pods_are_killed() {
    none_is_lost(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writes_none_is_lost_while_pods_are_killed_and_drained() {
    none_is_lost(true).await;
}

async fn none_is_lost(drains_too: bool) {
    let load = Load::read();
    story(house(), async |world| {
        let films: Vec<String> =
            (0..FILMS).map(|number| world.cluster.add_film(&format!("film {number}"), TWO_HOURS)).collect();
        let films = Arc::new(films);
        let (repeated, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut users = Vec::new();
        for number in 0..load.users {
            let mut devices = one_device_on_each(world, &format!("user{number}")).await;
            for device in &mut devices {
                for film in films.iter() {
                    device.get(&format!("/Items/{film}")).await;
                }
            }
            let numbers = Numbers(load.seed.wrapping_add(number as u64 * 0x9e37_79b9).max(1));
            users.push(tokio::spawn(user_writes(
                devices,
                films.clone(),
                (numbers, load.writes_of_each),
                repeated.clone(),
            )));
        }
        let writers = async {
            let mut rows = Vec::new();
            for user in users {
                rows.push(user.await.expect("a user"));
            }
            is_over.store(true, Ordering::Relaxed);
            rows
        };
        let (rows, (kills, drains)) = tokio::join!(writers, disturb_in_turn(world, (load.kills, drains_too), &is_over));
        let told = world.proxy.metric("jellypin_user_data_told_total", &[("outcome", "told")]).await;
        let late = world.proxy.metric("jellypin_user_data_waits_total", &[("outcome", "timed_out")]).await;
        // A read of each film on each pod tells what only progress reports have changed.
        for number in 0..load.users {
            for mut device in one_device_on_each(world, &format!("user{number}")).await {
                for film in films.iter() {
                    device.get(&format!("/Items/{film}")).await;
                }
            }
        }
        let differing = || {
            let mut differing = Vec::new();
            for (number, rows) in rows.iter().enumerate() {
                let user = format!("user{number}");
                for (film, row) in films.iter().zip(rows) {
                    let stored = compared(world.cluster.user_data(&user, film));
                    let cached = world.pods.iter().filter_map(|pod| pod.cached_user_data(&user, film));
                    let cached: Vec<UserData> = cached.map(|row| compared(Some(row))).collect();
                    if stored != *row || cached.iter().any(|cached| *cached != stored) {
                        differing.push(format!("{user}: wrote {row:?}; stored {stored:?}; in memory {cached:?}"));
                    }
                }
            }
            differing
        };
        let writes = load.users * load.writes_of_each;
        println!(
            "{writes} writes of {} users on {FILMS} films, {kills} kills, {drains} drains, {} repeated; \
             {told} rows told ({:.2} for each write), {late} waits in vain",
            load.users,
            repeated.load(Ordering::Relaxed),
            told / writes as f64,
        );
        let end = Instant::now() + Duration::from_secs(20);
        while !differing().is_empty() && Instant::now() < end {
            elapse(Duration::from_millis(100)).await;
        }
        let differing = differing();
        assert!(differing.is_empty(), "{} rows differ: {differing:#?}", differing.len());
        println!("rows that differ from what was written last: {} of {}", differing.len(), load.users * FILMS);
    })
    .await;
}
