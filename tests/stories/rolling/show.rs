//! Reloads and hand-overs by the hundred, under sockets, films and requests; for a run by hand.
//!
//! `SHOW_TIMES` (10) of each, `SHOW_SOCKETS` (100) clients with a socket, of which `SHOW_FILMS` (10) play a film, and
//! `SHOW_RATE` (50) requests a second of all of them together.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::fleet::{Fleet, Pace, Work};
use super::{quick_starters, started};
use crate::stories::world::{Client, Program, Settings, World, millis, secs, story, until, until_so, until_within};

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// A configuration below a link that is swapped, as Kubernetes mounts a ConfigMap.
struct Mounted {
    folder: PathBuf,
    generation: usize,
}

impl Mounted {
    fn new(folder: &Path, settings: &Settings) -> Mounted {
        let mut mounted = Mounted { folder: folder.to_owned(), generation: 0 };
        mounted.swap(settings);
        symlink("..data/jellypin.toml", mounted.path()).expect("a link");
        mounted
    }

    fn path(&self) -> PathBuf {
        self.folder.join("jellypin.toml")
    }

    /// Another folder takes the place of the one before, by one rename.
    fn swap(&mut self, settings: &Settings) {
        self.generation += 1;
        let name = format!("..{}", self.generation);
        let at = |name: &str| self.folder.join(name);
        std::fs::create_dir(at(&name)).expect("a folder");
        std::fs::write(at(&name).join("jellypin.toml"), settings.text()).expect("a file");
        symlink(&name, at("..new")).expect("a link");
        std::fs::rename(at("..new"), at("..data")).expect("a swap");
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).expect("a file");
    }
}

async fn reload(program: &Program) -> u16 {
    Client::at_address(program.admin()).post("/reload", serde_json::Value::Null).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn reloads_and_hand_overs_by_the_hundred() {
    let (times, sockets) = (number("SHOW_TIMES", 10), number("SHOW_SOCKETS", 100));
    let (films, rate) = (number("SHOW_FILMS", 10), number("SHOW_RATE", 50));
    let plan = quick_starters(World::plan(2).with_api_key()).hold(secs(20));
    story(started(plan).await, async |world| {
        let mut settings = world.settings().clone();
        settings.keys(&["the first key of the ring"]);
        settings.state_path("state");
        let limit = 4 * sockets as u32 + 1000;
        settings.connections_per_address(limit);
        settings.sockets_per_address(limit);
        settings.requests_per_address(limit);
        settings.brakes_log_ins(false);
        let folder = world.folder().join("mounted");
        std::fs::create_dir(&folder).expect("a folder");
        let mut mounted = Mounted::new(&folder, &settings);
        let program = Program::start_with(&mounted.path()).await;

        let pace = Pace::of_calls(Duration::from_secs_f64(sockets as f64 / rate as f64));
        let watching = Fleet::start(films, Work::Everything, pace, &[program.client()]).await;
        let others = Fleet::start_from(films, sockets - films, Work::CallsAndSocket, pace, &[program.client()]).await;
        let began = Instant::now();
        let (mut good, mut refused, mut swapped) = (0, 0, 0);
        let mut longest = Duration::ZERO;
        for turn in 0..times {
            let mut other = settings.clone();
            other.hold(secs(10 + turn as u64 % 7));
            other.probe_interval(millis(150 + 10 * (turn as u64 % 5)));
            let loaded = || program.log().matches("the configuration was reloaded").count();
            match turn % 4 {
                0 => {
                    mounted.write(&other.text());
                    assert_eq!(reload(&program).await, 200);
                    good += 1;
                }
                1 => {
                    let before = loaded();
                    mounted.swap(&other);
                    until("the swap is loaded", || loaded() > before).await;
                    swapped += 1;
                }
                2 => {
                    other.set("timeouts.first_byte", "\"often\"");
                    mounted.write(&other.text());
                    assert_eq!(reload(&program).await, 422);
                    refused += 1;
                }
                _ => {
                    // Cut off within a value.
                    let text = other.text();
                    let cut = text[..text.len() / 2].rfind("= \"").expect("a value");
                    mounted.write(&text[..cut + 3]);
                    assert_eq!(reload(&program).await, 422);
                    refused += 1;
                }
            }
            // A new process needs a good file.
            mounted.write(&other_good(&settings, turn).text());
            until_so("it is good again", async || reload(&program).await == 200).await;

            let before = program.hand_overs();
            let asked = Instant::now();
            program.signal_last("USR2");
            until_within(secs(60), "another process serves", || program.hand_overs() > before).await;
            longest = longest.max(asked.elapsed());
            assert!(!program.log().contains("this one goes on"), "{}", program.log());
        }
        let time = began.elapsed();
        others.until_all_went_on().await;
        watching.until_all_went_on().await;
        let (saw_others, saw_watching) = (others.stop().await, watching.stop().await);
        println!(
            "{times} hand-overs (the longest {longest:?}) and {times} reloads ({good} good, {swapped} by a swapped link, \
             {refused} refused) in {time:?} under {sockets} sockets, {films} films and {rate} requests a second:\n  \
             sockets: {saw_others}\n  films: {saw_watching}"
        );
        saw_others.must_be_nothing();
        saw_watching.must_be_nothing();
        drop(program);
    })
    .await;
}

fn other_good(settings: &Settings, turn: usize) -> Settings {
    let mut other = settings.clone();
    other.hold(secs(20 + turn as u64 % 3));
    other
}
