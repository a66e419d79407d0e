//! A pod sleeps when nobody uses it, and the first request that needs it wakes it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

use super::*;
use crate::stories::world::{DEADLINE, Proxy, elapse};

/// What hears the hooks in a story: an HTTP server that says yes.
struct Hooks {
    url: String,
    acts: UnboundedReceiver<String>,
}

impl Hooks {
    async fn start(pod: &'static str) -> Hooks {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let (told, acts) = unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut got = Vec::new();
                while !got.ends_with(b"}") && stream.read_buf(&mut got).await.expect("bytes") > 0 {}
                let body = got.split(|byte| *byte == b'\n').next_back().expect("a body");
                let said: Value = serde_json::from_slice(body).expect("JSON");
                assert_eq!((&said["pod"], &said["pool"]), (&pod.into(), &"main".into()));
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("written");
                if told.send(said["act"].as_str().expect("an act").to_owned()).is_err() {
                    return;
                }
            }
        });
        Hooks { url, acts }
    }

    async fn next(&mut self) -> String {
        // A pod counts as used until each replica has said once that it does not use it.
        let act = tokio::time::timeout(DEADLINE * 3, self.acts.recv()).await;
        act.ok().flatten().expect("a hook is called")
    }
}

/// A world of one pod that may sleep after this time.
async fn world(plan: Plan, hooks: &Hooks, idle_after: Duration) -> World {
    let phases = PhaseLengths::RECORDED.scaled(0.2);
    let plan = plan.build(move |pod| pod.start_up(StartUp::Phased(phases))).probe_interval(millis(200));
    let mut world = started(plan.with_api_key()).await;
    let (address, url) = (world.pod("a").address(), hooks.url.clone());
    world.restart(|settings: &mut Settings| settings.pod_sleeps("a", address, &url, idle_after)).await;
    world.until_state("a", State::Ready).await;
    world
}

async fn until_shown(proxy: &Proxy, state: &str) {
    until_so(&format!("the pod is shown as {state}"), async || {
        let shown = proxy.ask_admin("/pods").await.json()[0]["state"] == state;
        shown && proxy.metric("jellypin_pod_state", &[("state", state)]).await == 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_wake_a_pod_once() {
    let mut hooks = Hooks::start("a").await;
    let plan =
        World::plan(1).holds_per_address(2000).requests_per_address(2000).connections_per_address(2000).queue(2000);
    story(world(plan, &hooks, millis(800)).await, async |world| {
        let mut alice = world.client().without_cookies().device("sofa");
        alice.log_in("alice").await;
        assert_eq!(hooks.next().await, "sleep");
        until_shown(&world.proxy, "asleep").await;
        assert_eq!(world.proxy.ask_admin("/ready").await.status, 200, "clients must come, to wake it");
        // Nothing that jellypin does keeps the machine awake.
        let pod = world.pod("a");
        pod.clear_seen();
        elapse(secs(1)).await;
        assert!(pod.seen().is_empty(), "{:?}", pod.seen());
        pod.kill().await;

        let mut clients: Vec<_> = (0..1000).map(|_| world.client().without_cookies()).collect();
        let began = Instant::now();
        let crowd = join_all(clients.iter_mut().map(async |client| client.get("/Branding/Configuration").await.status));
        let machine = async {
            assert_eq!(hooks.next().await, "wake");
            let (called, starts) = (began.elapsed(), Instant::now());
            until("all wait", || world.proxy.shared().held() >= 900).await;
            assert_eq!(world.proxy.ask_admin("/pods").await.json()[0]["state"], "waking");
            pod.start_again().await.expect("its own port");
            pod.until(jellyfin_sim::Pod::is_ready).await;
            (called, starts.elapsed(), began.elapsed())
        };
        let (statuses, me, (called, start, ready)) = tokio::join!(crowd, alice.get("/Users/Me"), machine);
        let answered = began.elapsed();
        let other: Vec<u16> = statuses.into_iter().filter(|status| *status != 200).collect();
        assert!(other.is_empty() && me.status == 200, "{other:?} {}", me.status);
        assert!(hooks.acts.try_recv().is_err(), "one hook for all");
        assert_eq!(world.proxy.metric("jellypin_wake_hooks_total", &[("act", "wake"), ("outcome", "done")]).await, 1.0);
        println!(
            "a sleeping pod and 1001 requests: hook after {called:?}, hooks 1, the pod took {start:?} to start; the last \
             answer {answered:?} after the first request, {:?} after the pod was ready",
            answered.saturating_sub(ready)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_sleeps_makes_no_request_to_another_one_a_second_attempt() {
    let mut hooks = Hooks::start("b").await;
    let mut world = started(quick_starters(World::plan(2).with_api_key())).await;
    let (address, url) = (world.pod("b").address(), hooks.url.clone());
    world.restart(|settings: &mut Settings| settings.pod_sleeps("b", address, &url, millis(300))).await;
    story(world, async |world| {
        assert_eq!(hooks.next().await, "sleep");
        let (a, b) = (world.proxy.pod("a"), world.proxy.pod("b"));
        until("it sleeps", || b.shown_state() == "asleep").await;
        world.until_state("a", State::Ready).await;
        let before = a.extra_calls.waited();
        while a.extra_calls.try_draw() {}
        let mut clients: Vec<_> = (0..60).map(|_| world.client()).collect();
        let asked = clients.iter_mut().map(async |client| client.get("/Branding/Configuration").await.status);
        assert!(join_all(asked).await.iter().all(|status| *status == 200));
        assert_eq!(a.extra_calls.waited(), before, "nobody has drawn on what is for second attempts");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_used_stays_awake() {
    let mut hooks = Hooks::start("a").await;
    story(world(World::plan(1), &hooks, millis(600)).await, async |world| {
        let mut alice = world.client().without_cookies().device("sofa");
        alice.log_in("alice").await;
        let socket = alice.socket("/socket").await.expect("a socket");
        elapse(secs(2)).await;
        assert!(hooks.acts.try_recv().is_err(), "a socket is open");
        drop(socket);
        assert_eq!(hooks.next().await, "sleep");
        // It did not sleep after all: the hook may decide so.
        until_shown(&world.proxy, "asleep").await;
        assert_eq!(alice.get("/Users/Me").await.status, 200);
        assert_eq!(hooks.next().await, "wake");
        until_shown(&world.proxy, "ready").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_call_one_hook_and_one_keeps_awake_what_another_does_not_use() {
    let redis = RedisServer::start();
    let mut hooks = Hooks::start("a").await;
    story(world(replicas::plan(1, &redis), &hooks, secs(2)).await, async |world| {
        let other = replicas::known_replica(world, |_| {}).await;
        // Only one of them has a client.
        let mut alice = other.client().without_cookies().device("sofa");
        alice.log_in("alice").await;
        let used = Instant::now();
        while used.elapsed() < secs(5) {
            assert_eq!(alice.get("/Users/Me").await.status, 200);
            elapse(millis(200)).await;
        }
        assert!(hooks.acts.try_recv().is_err(), "a replica uses it");
        assert_eq!(hooks.next().await, "sleep");
        world.pod("a").kill().await;
        for proxy in [&world.proxy, &other] {
            proxy.until_state("a", State::Down).await;
        }
        let mut bob = world.client().without_cookies().device("desk");
        let machine = async {
            assert_eq!(hooks.next().await, "wake");
            world.pod("a").start_again().await.expect("its own port");
        };
        let (one, two, ()) = tokio::join!(alice.get("/Users/Me"), bob.get("/Branding/Configuration"), machine);
        assert_eq!((one.status, two.status), (200, 200));
        // Two requests at two replicas need one hook. While its machine seems to fall asleep again, one
        // replica may call it once more. On a slow machine the pod may sleep again by now.
        let further = std::iter::from_fn(|| hooks.acts.try_recv().ok()).filter(|act| act == "wake").count();
        assert!(further <= 1, "one hook for both, and {further} more");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_and_a_program_wake_a_pod_and_the_program_sees_nothing_of_the_proxys_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let (script, said) = (folder.path().join("hook"), folder.path().join("said"));
    // What it writes appears whole.
    std::fs::write(&script, "env > \"$1.new\"; mv \"$1.new\" \"$1.$2\"").expect("written");
    let network = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let phases = PhaseLengths::RECORDED.scaled(0.1);
    let plan = World::plan(1).build(move |pod| pod.start_up(StartUp::Phased(phases))).probe_interval(millis(200));
    let mut prepared = started(plan.with_api_key()).await;
    let (address, to) = (prepared.pod("a").address(), network.local_addr().expect("an address"));
    let wake = format!(
        "{{ mac = \"02:00:5e:10:00:07\", broadcast = \"{to}\", command = [\"/bin/sh\", {script:?}, {said:?}] }}"
    );
    let pod = format!("{{ url = \"http://{address}\", idle_after = \"800ms\", wake = {wake} }}");
    prepared.restart(|settings: &mut Settings| settings.set("pools.main.pods.a", &pod)).await;
    prepared.until_state("a", State::Ready).await;
    story(prepared, async |world| {
        let mut alice = world.client().without_cookies().device("sofa");
        alice.log_in("alice").await;
        let read = |act: &str| std::fs::read_to_string(folder.path().join(format!("said.{act}"))).ok();
        until("the program lets it sleep", || read("sleep").is_some()).await;
        until_shown(&world.proxy, "asleep").await;
        let mut packet = [0; 128];
        assert!(network.try_recv(&mut packet).is_err(), "a packet wakes alone");
        world.pod("a").kill().await;
        let machine = async {
            let length =
                tokio::time::timeout(DEADLINE, network.recv(&mut packet)).await.expect("in time").expect("a packet");
            let mac = [0x02, 0x00, 0x5e, 0x10, 0x00, 0x07];
            assert_eq!(packet[..length], [[0xff; 6].as_slice(), &mac.repeat(16)].concat());
            until("the program was called", || read("wake").is_some()).await;
            world.pod("a").start_again().await.expect("its own port");
        };
        let (answer, ()) = tokio::join!(alice.get("/Users/Me"), machine);
        assert_eq!(answer.status, 200);
        for act in ["sleep", "wake"] {
            let environment = read(act).expect("it was called");
            for told in [format!("JELLYPIN_ACT={act}"), "JELLYPIN_POD=a".to_owned(), "JELLYPIN_POOL=main".to_owned()] {
                assert!(environment.lines().any(|line| line == told), "{environment}");
            }
            // The last are the shell's own.
            let known = ["JELLYPIN_ACT", "JELLYPIN_POD", "JELLYPIN_POOL", "PATH", "PWD", "OLDPWD", "SHLVL", "_"];
            let names = environment.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
            let unknown: Vec<&str> = names.filter(|name| !known.contains(name)).collect();
            assert!(unknown.is_empty(), "{unknown:?}");
        }
    })
    .await;
}
