//! Real clients, which nobody of this project wrote, work through the proxy, and each stays on one of three pods.
//!
//! `tests/install` installs them; `tests/clients/README.md` says what each does.

#[path = "clients/client.rs"]
mod client;
#[path = "clients/landing.rs"]
mod landing;
#[path = "clients/tap.rs"]
mod tap;
#[path = "clients/world.rs"]
mod world;

use std::time::Duration;

use client::{AIOJELLYFIN, APICLIENT_PYTHON, CHROMIUM, Client, DASHBOARD, MPV, MPV_LIVE, MPV_SHIM, Report, SDK};
use jellyfin_sim::{Generation, Pod};
use jellypin::observe;
use landing::Landing;
use tokio::task::block_in_place;
use world::{Ids, World};

/// Keeps cookies for some of its calls only, names itself by header, erases its token at the first 401.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apiclient_python() {
    let landing = stays_on_one_pod(APICLIENT_PYTHON, Generation::V12).await;
    must_have(&landing, &["GET /socket", "GET /system/info", "POST /Sessions/Playing/Progress"]);
}

/// Without cookies, because its server's name is an address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aiojellyfin_by_address() {
    let landing = stays_on_one_pod(AIOJELLYFIN, Generation::V12).await;
    must_have(&landing, &["GET /Items", "POST /Sessions/Playing/Progress"]);
}

/// The same library with cookies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aiojellyfin_by_name() {
    let mut world = World::start(Generation::V12).await;
    world.url = world.url.replace("127.0.0.1", "localhost");
    let landing = run_story(world, AIOJELLYFIN).await;
    must_have(&landing, &["GET /Items", "POST /Sessions/Playing/Progress"]);
}

/// The API client and the player have nothing in common but what stands in the address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mpv() {
    let landing = stays_on_one_pod(MPV, Generation::V12).await;
    must_have(&landing, &["/stream", "/master.m3u8", "/main.m3u8", "/hls1/main/", "DELETE /Videos/ActiveEncodings"]);
}

/// A whole application; its player's requests bear a token and no DeviceId.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mpv_shim() {
    let landing = stays_on_one_pod(MPV_SHIM, Generation::V12).await;
    must_have(&landing, &["GET /socket", "/stream", "/Playing/Seek"]);
}

/// No cookie at all, and nothing but the token on the socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sdk() {
    let landing = stays_on_one_pod(SDK, Generation::V12).await;
    must_have(&landing, &["GET /socket", "GET /System/Info", "POST /Sessions/Playing/Progress"]);
}

/// The one client that keeps the cookie and sends it with everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium() {
    let landing = stays_on_one_pod(CHROMIUM, Generation::V12).await;
    must_have(&landing, &["GET /socket", "/hls1/main/", "GET /System/Info", "POST /Sessions/Playing/Progress"]);
}

/// As jellyfin-web 10.11 does it: the token of the socket is called `api_key`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_with_10_11() {
    let landing = stays_on_one_pod(CHROMIUM, Generation::V10_11).await;
    must_have(&landing, &["GET /socket", "/hls1/main/"]);
}

/// A pod dies and comes back while a client of another one works: calls and socket go on as if nothing was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apiclient_python_while_another_pod_dies() {
    notices_nothing(APICLIENT_PYTHON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sdk_while_another_pod_dies() {
    notices_nothing(SDK).await;
}

/// The film goes on too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mpv_while_another_pod_dies() {
    notices_nothing(MPV).await;
}

/// The pod that plays a film of unknown length is killed, and the film does not stand still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mpv_while_the_pod_of_its_live_film_dies() {
    plays_on(MPV_LIVE, &[]).await;
}

/// The same for a channel, whose list goes on behind a discontinuity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mpv_while_the_pod_of_its_channel_dies() {
    plays_on(MPV_LIVE, &["--channel"]).await;
}

/// hls.js as jellyfin-web uses it: the first error that a pod or the proxy answered would end the film.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_while_the_pod_of_its_live_film_dies() {
    plays_on(CHROMIUM, &["--live"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_while_the_pod_of_its_channel_dies() {
    plays_on(CHROMIUM, &["--channel"]).await;
}

async fn plays_on(client: Client, options: &[&str]) {
    let world = World::with_api_key(Generation::V12, Ids::One).await;
    let mut running = client.start(&world.url, &[&["--hold"], options].concat());
    block_in_place(|| running.until_holding());
    let segments = |pod: &Pod| {
        pod.seen().iter().filter(|seen| seen.path().contains("/hls/") && matches!(seen.status, 200 | 206)).count()
    };
    let home = world.pods.iter().max_by_key(|pod| segments(pod)).expect("a pod");
    let had = segments(home);
    home.kill().await;
    let more = || world.pods.iter().filter(|pod| pod.name() != home.name()).map(segments).sum::<usize>();
    let come = world.until(Duration::from_secs(30), || more() >= 4).await;
    assert!(come, "after {had} segments of the dead pod only {} came", more());
    let report = block_in_place(|| running.release());
    report.must_have_worked();
    println!("{:?}: stalls of {} ms", options, report.held("stalls_ms"));
    assert!(report.held("film_ended").as_array().is_some_and(Vec::is_empty), "{report:?}");
    assert!(report.held("played_s").as_f64() > Some(6.0), "{report:?}");
}

/// The client's own pod dies: the session migrates to another one, and the client notices nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apiclient_python_while_its_pod_dies() {
    migrates(APICLIENT_PYTHON, "--hold", Generation::V12, Ids::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aiojellyfin_while_its_pod_dies() {
    migrates(AIOJELLYFIN, "--hold", Generation::V12, Ids::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sdk_while_its_pod_dies() {
    migrates(SDK, "--hold", Generation::V12, Ids::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mpv_hls_while_its_pod_dies() {
    migrates(MPV, "--hold", Generation::V12, Ids::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mpv_file_while_its_pod_dies() {
    let world = World::with_api_key(Generation::V12, Ids::One).await;
    // Three times as fast as it plays, so that no buffer holds the film before its pod is dead.
    world.pods.iter().for_each(|pod| pod.limit_rate(Some(FILM_RATE * 3)));
    let resumed = migrates_in(world, MPV, "--hold-file", Generation::V12, Ids::One).await;
    println!("the file went on on another pod {resumed} times");
    assert!(resumed > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mpv_shim_while_its_pod_dies() {
    migrates(MPV_SHIM, "--hold", Generation::V12, Ids::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_while_its_pod_dies() {
    migrates(CHROMIUM, "--hold", Generation::V12, Ids::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_with_10_11_while_its_pod_dies() {
    migrates(CHROMIUM, "--hold", Generation::V10_11, Ids::One).await;
}

/// The same where each pod has a server id of its own: the client never sees one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apiclient_python_among_pods_of_different_ids() {
    migrates(APICLIENT_PYTHON, "--hold", Generation::V12, Ids::Each).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aiojellyfin_among_pods_of_different_ids() {
    migrates(AIOJELLYFIN, "--hold", Generation::V12, Ids::Each).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sdk_among_pods_of_different_ids() {
    migrates(SDK, "--hold", Generation::V12, Ids::Each).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mpv_shim_among_pods_of_different_ids() {
    migrates(MPV_SHIM, "--hold", Generation::V12, Ids::Each).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_among_pods_of_different_ids() {
    migrates(CHROMIUM, "--hold", Generation::V12, Ids::Each).await;
}

/// A film that stands still for longer has stalled for its viewer too; a busy machine alone may take half a second.
const LONGEST_STALL: Duration = Duration::from_secs(2);

/// The film's bytes a second.
const FILM_RATE: u64 = 496_636 / 60;

async fn migrates(client: Client, hold_by: &str, generation: Generation, ids: Ids) {
    let world = World::with_api_key(generation, ids).await;
    migrates_in(world, client, hold_by, generation, ids).await;
}

/// Kills the client's pod, starts it again, and kills all others, so that the client must go there and back. Says how often a
/// file went on.
async fn migrates_in(world: World, client: Client, hold_by: &str, generation: Generation, ids: Ids) -> u64 {
    let mut running = client.start(&world.url, &[hold_by]);
    let home = until_holding(&mut running, &world);
    let (home, others): (Vec<_>, Vec<_>) = world.pods.iter().partition(|pod| pod.name() == home);
    for victims in [home, others] {
        for pod in &victims {
            pod.kill().await;
        }
        works_on(&world, client).await;
        for pod in &victims {
            pod.start_again().await.expect("the pod starts again");
        }
        works_on(&world, client).await;
    }
    let report = block_in_place(|| running.release());
    let tap = world.tap();
    // mpv-shim asks for media segments, of which the simulated pods know nothing.
    let allowed = if client == MPV_SHIM { 404 } else { 0 };
    let refusals: Vec<_> =
        tap.statuses().into_iter().filter(|(status, _)| *status >= 400 && *status != allowed).collect();
    println!(
        "{} {hold_by}, {generation:?}, ids {ids:?}, its pod killed and then the others: {} calls, failed {}, logged out {}, socket closed {}, \
         answers of 400 and more {refusals:?}, film: played {} s, stalls {}, longest still {} ms",
        client.name,
        report.held("calls"),
        report.held("failed_calls"),
        report.held("token_lost"),
        report.held("socket_closed"),
        report.held("played_s"),
        report.held("stalls_ms"),
        report.held("longest_still_ms"),
    );
    report.must_have_worked();
    report.must_have_noticed_nothing();
    assert!(refusals.is_empty(), "{refusals:?}");
    let stalls = report.held("stalls_ms").as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64);
    assert!(stalls.max().unwrap_or(0) < LONGEST_STALL.as_millis() as u64, "{report:?}");
    assert!(report.held("film_moved") != false, "{report:?}");
    assert!(tap.count(world::SERVER_ID) > 0, "the id that is shown was never seen: nothing was looked at");
    if ids == Ids::Each {
        let shown: Vec<_> = world.pods.iter().map(|pod| (pod.name(), tap.count(pod.server_id()))).collect();
        println!(
            "{}: the pods' own ids seen by the client: {shown:?}, the shown one {} times",
            client.name,
            tap.count(world::SERVER_ID)
        );
        assert!(shown.iter().all(|(_, times)| *times == 0), "{shown:?}");
        assert_eq!(tap.compressed_json(), Vec::<String>::new(), "in what is compressed nothing can be found");
    }
    let resumed = world.resumed();
    world.end().await;
    resumed
}

async fn notices_nothing(client: Client) {
    let world = World::start(Generation::V12).await;
    let report = hold(&world, client, |home, pod| home != pod.name()).await;
    report.must_have_worked();
    report.must_have_noticed_nothing();
    world.end().await;
}

/// Kills one of the pods that `victim` picks while the client is at work, lets the client work on, starts the pod again,
/// and lets the client work on once more.
async fn hold(world: &World, client: Client, victim: impl Fn(&str, &Pod) -> bool) -> Report {
    let mut running = client.start(&world.url, &["--hold"]);
    let home = until_holding(&mut running, world);
    let victim = world.pods.iter().find(|pod| victim(&home, pod)).expect("there is such a pod");
    victim.kill().await;
    works_on(world, client).await;
    victim.start_again().await.expect("the pod starts again");
    works_on(world, client).await;
    block_in_place(|| running.release())
}

/// Waits until the client is at work, and tells its pod.
fn until_holding(running: &mut client::Running, world: &World) -> String {
    block_in_place(|| running.until_holding());
    let landing = Landing::of(&world.pods);
    landing.home().expect("the client stayed on one pod before anything happened").to_owned()
}

/// Waits until ten more of the client's requests were answered, wherever that is, and, if it plays a film, two more about that
/// and, if it comes in pieces, two more of these.
async fn works_on(world: &World, client: Client) {
    let answered = || -> [usize; 3] {
        let seen: Vec<_> = world.pods.iter().flat_map(Pod::seen).filter(|seen| seen.status < 400).collect();
        let count = |is_one: &dyn Fn(&jellyfin_sim::Seen) -> bool| seen.iter().filter(|seen| is_one(seen)).count();
        [
            // With an API key jellypin's own calls to pods have tokens too.
            world.answers().unwrap_or_else(|| count(&|seen| seen.header("authorization").is_some())),
            count(&|seen| seen.path().ends_with("/Playing/Progress")),
            count(&|seen| seen.path().contains("/hls1/")),
        ]
    };
    let before = answered();
    let plays_pieces = before[2] > 0;
    let more = [10, if client == AIOJELLYFIN { 0 } else { 2 }, if plays_pieces { 2 } else { 0 }];
    let all = || answered().iter().zip(before.iter().zip(more)).all(|(now, (before, more))| *now >= before + more);
    let works = world.until(Duration::from_secs(60), all).await;
    assert!(works, "the client no longer works: {before:?}, then {:?}", answered());
}

/// An operator in a browser: every act, live updates, hostile names, and what axe-core says of it. A pod dies at the end.
///
/// `DASHBOARD_SESSIONS` sets the number of sessions, and `DASHBOARD_SHOTS` the folder for pictures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_uses_the_dashboard() {
    // The page shows the log of its process.
    observe::start_log(&observe::Config {
        level: "error".into(),
        format: observe::Format::Text,
        access: observe::AccessLog::Off,
        server_timing: false,
    });
    let world = World::with_api_key(Generation::V12, Ids::One).await;
    let admin = world.admin();
    let set = |name: &str| std::env::var(name).ok();
    let (sessions, shots) = (set("DASHBOARD_SESSIONS"), set("DASHBOARD_SHOTS"));
    let mut options = vec!["--hold", "--admin", &admin];
    options.extend(sessions.as_deref().into_iter().flat_map(|number| ["--sessions", number]));
    options.extend(shots.as_deref().into_iter().flat_map(|folder| ["--shots", folder]));
    let mut running = DASHBOARD.start(&world.url, &options);
    block_in_place(|| running.until_holding());
    world.pods[0].kill().await;
    let report = block_in_place(|| running.report());
    println!("{}", report.line);
    report.must_have_worked();
    world.end().await;
}

/// The stories can fail: where connections are dealt out to the pods in turn, a client meets a pod that does not know it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_affinity_a_client_fails() {
    let world = World::without_affinity().await;
    let report = block_in_place(|| APICLIENT_PYTHON.run(&world.url, &[]));
    assert!(report.failed().is_some_and(|why| why.starts_with("validate the token")), "{report:?}");
}

async fn stays_on_one_pod(client: Client, generation: Generation) -> Landing {
    run_story(World::start(generation).await, client).await
}

/// The client's whole story; every step must work and every token must have reached one pod.
async fn run_story(world: World, client: Client) -> Landing {
    block_in_place(|| client.run(&world.url, &[])).must_have_worked();
    let landing = Landing::of(&world.pods);
    landing.must_be_one_pod_a_token();
    world.end().await;
    landing
}

/// What was looked at held the requests that matter.
#[track_caller]
fn must_have(landing: &Landing, requests: &[&str]) {
    for wanted in requests {
        let any = landing.requests().any(|request| request.contains(wanted));
        assert!(any, "no request with a token had {wanted}: {:#?}", landing.requests().collect::<Vec<_>>());
    }
}
