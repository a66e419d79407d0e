//! An evening with jellypin: three simulated Jellyfin pods, two clients, and a pod killed under each of them.
//!
//! `cargo run --release --example demo` plays it in a few seconds and prints what the clients saw, all of it measured;
//! with `--stay` everything keeps running until Ctrl-C. The exit code is 1 if a client was left without its film, or had to sign in
//! again.

mod account;
mod client;
mod socket;
mod stage;
mod viewer;

use std::{error::Error, process::ExitCode, time::Duration};

use clap::Parser;
use tokio::time::{Instant, sleep};

use account::{Account, After};
use stage::Stage;
use viewer::{Kind, Viewer};

/// Plays an evening with jellypin before three simulated Jellyfin pods, and kills pods meanwhile.
#[derive(Parser)]
struct Options {
    /// Keep the pods and jellypin running until Ctrl-C.
    #[arg(long)]
    stay: bool,
}

/// Steps of the players before a kill and after it; each fetches a segment.
const BEFORE: u32 = 4;
const AFTER: u32 = 14;
const PACE: Duration = Duration::from_millis(100);

/// What happens to a pod that is killed.
#[derive(Clone, Copy)]
enum Fate {
    /// It is started again a moment later, while the clients play.
    SoonBack,
    /// It stays away until the clients have gone on without it.
    Away,
}

/// How long a pod is away that is soon back.
const MOMENT: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match play(&options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("A client was left without its film, or had to sign in again.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("The demo cannot be played: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives whether every client had its film in the end.
async fn play(options: &Options) -> Result<bool, Box<dyn Error>> {
    let stage = Stage::raise().await?;
    println!("Three simulated Jellyfin pods, each with its own memory, and jellypin in front of them:\n");
    println!("  clients    {}", stage.url());
    println!("  operators  {0}/pods, {0}/metrics, {0}/ready\n", stage.admin_url());
    println!(
        "jellypin has an API key of theirs, so that it can carry a session over to a pod that does not know it.\n"
    );

    let mut viewers = [Viewer::new(Kind::Browser, stage.address()), Viewer::new(Kind::Television, stage.address())];
    println!("Alice signs in on a browser, which keeps cookies, and on a TV app, which keeps none.");
    println!("Both look around, open their WebSocket and start the film.\n");
    let began = Instant::now();
    let [browser, television] = &mut viewers;
    tokio::join!(settle_in(browser), settle_in(television));
    for viewer in &viewers {
        println!("{}\n", Account::of(viewer, began).of_quiet_time(&stage.homes(viewer.device())));
    }

    for (victim, fate) in [(0, Fate::SoonBack), (0, Fate::Away), (1, Fate::Away)] {
        if let Some(pod) = stage.homes(viewers[victim].device()).last().cloned() {
            kill_under(&stage, &mut viewers, victim, &pod, fate).await?;
        }
    }
    println!(
        "jellypin's own count of requests that left a dying pod, and of migrated sessions, from {}/metrics:\n",
        stage.admin_url()
    );
    println!("{}\n", stage.moves());
    let all_well = viewers.iter().all(|viewer| viewer.has_film() && viewer.log_ins_since(began) <= 1);
    for viewer in viewers {
        viewer.leave().await;
    }
    if options.stay {
        println!("Everything keeps running until Ctrl-C. Sign in with any Jellyfin app at {}:", stage.url());
        println!(
            "user alice, password alice-pw. (The pods are simulated: their web page is empty, their film is real.)"
        );
        tokio::signal::ctrl_c().await?;
    }
    stage.strike().await;
    Ok(all_well)
}

async fn settle_in(viewer: &mut Viewer) {
    viewer.arrive().await;
    viewer.watch(BEFORE, PACE).await;
}

/// Both clients play; the pod under one of them is killed in the middle.
async fn kill_under(
    stage: &Stage,
    viewers: &mut [Viewer; 2],
    victim: usize,
    pod: &str,
    fate: Fate,
) -> Result<(), Box<dyn Error>> {
    let then = match fate {
        Fate::SoonBack => format!("in mid-request, and started again {} ms later", MOMENT.as_millis()),
        Fate::Away => "in mid-request, and stays away".to_owned(),
    };
    println!("Both play on. Pod {pod}, where the {} is at home, is killed {then}.\n", viewers[victim].name());
    let before: Vec<_> = viewers.iter().map(|viewer| stage.homes(viewer.device())).collect();
    let kill = async {
        // Between two steps of the players the pod becomes slow, so that the next step's request meets its end.
        sleep(PACE * BEFORE - PACE / 2).await;
        stage.slow(pod, PACE);
        sleep(PACE).await;
        let killed = stage.kill(pod).await;
        if let Fate::SoonBack = fate {
            sleep(MOMENT).await;
            stage.start_again(pod).await?;
        }
        Ok::<_, Box<dyn Error>>(killed)
    };
    let [browser, television] = viewers;
    let (killed, (), ()) =
        tokio::join!(kill, browser.watch(BEFORE + AFTER, PACE), television.watch(BEFORE + AFTER, PACE));
    let killed = killed?;
    for (viewer, before) in viewers.iter_mut().zip(before) {
        viewer.wait_for_socket().await;
        let (now, knows) = (stage.homes(viewer.device()), stage.knowing(viewer.token()));
        let after = After { killed: pod, before: &before, now: &now, knows: &knows };
        println!("{}\n", Account::of(viewer, killed).of_kill(&after));
    }
    if let Fate::Away = fate {
        stage.start_again(pod).await?;
        println!("Pod {pod} is started again.\n");
    }
    Ok(())
}
