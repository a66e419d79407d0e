//! An evening with jellypin: three simulated Jellyfin pods, two clients, and a pod killed under each of them.
//!
//! `cargo run --release --example demo` plays it in a few seconds and prints what the clients saw, all of it measured;
//! with `--stay` everything keeps running until Ctrl-C. The exit code is 1 if a client was left without its film.

mod account;
mod client;
mod socket;
mod stage;
mod viewer;

use std::{error::Error, process::ExitCode, time::Duration};

use clap::Parser;
use tokio::time::{Instant, sleep};

use account::Account;
use stage::Stage;
use viewer::{Kind, Viewer};

/// Plays an evening with jellypin before three simulated Jellyfin pods, and kills pods meanwhile.
#[derive(Parser)]
struct Options {
    /// Keep the pods and jellypin running until Ctrl-C.
    #[arg(long)]
    stay: bool,
}

/// What the clients fetch before the kill and after it, a segment for each step of the player.
const BEFORE: u32 = 4;
const AFTER: u32 = 14;
const PACE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match play(&options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("A client was left without its film.");
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

    let mut viewers = [Viewer::new(Kind::Browser, stage.address()), Viewer::new(Kind::Television, stage.address())];
    println!("Alice signs in on a browser, which keeps cookies, and on a TV app, which keeps none.");
    println!("Both look around, open their WebSocket and start the film.\n");
    let began = Instant::now();
    let [browser, television] = &mut viewers;
    tokio::join!(settle_in(browser), settle_in(television));
    for viewer in &viewers {
        println!("{}\n", Account::of(viewer, began).of_quiet_time(&stage.homes(viewer.device())));
    }

    for victim in 0..viewers.len() {
        if let Some(pod) = stage.homes(viewers[victim].device()).last().cloned() {
            kill_under(&stage, &mut viewers, victim, &pod).await?;
        }
    }
    println!(
        "jellypin's own count of requests that left a dying pod for another, from {}/metrics:\n",
        stage.admin_url()
    );
    println!("{}\n", stage.moves());
    let all_well = viewers.iter().all(Viewer::has_film);
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

/// Both clients play; the pod under one of them is killed in the middle; then it comes back.
async fn kill_under(stage: &Stage, viewers: &mut [Viewer; 2], victim: usize, pod: &str) -> Result<(), Box<dyn Error>> {
    println!("Both play on. Pod {pod}, where the {} is at home, is killed in mid-request.\n", viewers[victim].name());
    let homes: Vec<_> = viewers.iter().map(|viewer| stage.homes(viewer.device())).collect();
    let kill = async {
        // Between two steps of the players the pod becomes slow, so that the next step's request meets its end.
        sleep(PACE * BEFORE - PACE / 2).await;
        stage.slow(pod, PACE);
        sleep(PACE).await;
        stage.kill(pod).await
    };
    let [browser, television] = viewers;
    let (killed, (), ()) =
        tokio::join!(kill, browser.watch(BEFORE + AFTER, PACE), television.watch(BEFORE + AFTER, PACE));
    for (viewer, before) in viewers.iter_mut().zip(&homes) {
        viewer.wait_for_socket().await;
        let now = stage.homes(viewer.device());
        println!("{}\n", Account::of(viewer, killed).of_kill(before, &now, pod));
    }
    let back = stage.start_again(pod).await?;
    println!("Pod {pod} is started again; jellypin sends it requests after {} ms.\n", back.as_millis());
    Ok(())
}
