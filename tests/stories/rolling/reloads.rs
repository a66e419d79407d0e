//! The configuration changes under clients at work, who notice nothing of it.

use std::os::unix::fs::symlink;
use std::time::Instant;

use jellyfin_sim::Generation;
use jellypin::leader::Mode;

use super::fleet::{Fleet, Pace, Work};
use super::{quick_starters, started};
use crate::stories::world::{ANY_PORT, Client, Program, Settings, World, millis, secs, story, until, until_so};

/// The admin API of a program.
fn operators(program: &Program) -> Client {
    Client::at_address(program.admin())
}

/// `POST /reload`: the status, and what is said.
async fn reload(program: &Program) -> (u16, String) {
    let answer = operators(program).post("/reload", serde_json::Value::Null).await;
    (answer.status, answer.text().to_owned())
}

async fn is_in_use(program: &Program) -> bool {
    operators(program).get("/metrics").await.text().contains("\njellypin_config_reload_success 1\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_good_and_bad_cost_no_client_anything() {
    let plan = quick_starters(World::plan(2).with_api_key()).hold(secs(20));
    story(started(plan).await, async |world| {
        let mut settings = world.settings().clone();
        settings.keys(&["the first key of the ring"]);
        let program = Program::start(&settings, world.folder()).await;
        let fleet = Fleet::start(12, Work::Everything, Pace::BRISK, &[program.client()]).await;
        let began = Instant::now();
        for turn in 0..12 {
            let mut other = settings.clone();
            match turn % 4 {
                0 => other.hold(secs(10)),
                1 => {
                    other.keys(&["the second key of the ring", "the first key of the ring"]);
                    other.requests(4000);
                    other.probe_interval(millis(150));
                }
                2 => other.remove_pod("b"),
                // Cut off in the middle, as by an editor that has not finished.
                _ => other.set("timeouts.first_byte", "\"1"),
            }
            program.rewrite(&other);
            let (status, said) = reload(&program).await;
            assert_eq!(status, if turn % 4 == 3 { 422 } else { 200 }, "{said}");
            assert_eq!(is_in_use(&program).await, turn % 4 != 3);
            fleet.until_all_went_on().await;
        }
        let saw = fleet.stop().await;
        println!("12 reloads in {:?} under 12 clients: {saw}", began.elapsed());
        saw.must_be_nothing();
        drop(program);
    })
    .await;
}

#[tokio::test]
async fn a_bad_file_is_refused_whole_with_its_line() {
    story(World::plan(2), async |world| {
        let mut settings = world.settings().clone();
        settings.set("reload.watch", "\"off\"");
        let program = Program::start(&settings, world.folder()).await;
        let mut bad = settings.clone();
        bad.remove_pod("b");
        bad.set("timeouts.hold", "\"often\"");
        program.rewrite(&bad);
        let (status, said) = reload(&program).await;
        let line = bad.text().lines().position(|line| line.starts_with("hold")).expect("a line") + 1;
        assert_eq!(status, 422);
        assert!(said.contains(&format!(".toml:{line}:8: [timeouts] hold: ")), "{said}");
        assert!(!is_in_use(&program).await);
        let pods = operators(&program).get("/pods").await.json();
        assert_eq!(pods.as_array().map(Vec::len), Some(2), "nothing of it is in use: {pods}");

        let mut good = settings.clone();
        good.hold(secs(7));
        program.rewrite(&good);
        let compared = Program::run(&["check", "--diff", "--config", &program.path().to_string_lossy()]);
        // The file names port 0 for the admin API, so this cannot find it.
        assert_eq!(compared.status.code(), Some(1));
        let difference = operators(&program).get("/reload").await;
        assert_eq!(difference.text(), "timeouts.hold: (default) → \"7000000us\"\n");
        let (status, said) = reload(&program).await;
        assert_eq!((status, said.as_str()), (200, "timeouts.hold: (default) → \"7000000us\"\n"));
        assert!(is_in_use(&program).await);
        assert_eq!(operators(&program).get("/reload").await.text(), "nothing differs\n");
        drop(program);
    })
    .await;
}

#[tokio::test]
async fn pools_routes_and_listeners_come_and_go() {
    story(World::plan(2), async |world| {
        let program = Program::start(world.settings(), world.folder()).await;
        let first = program.addresses()[0];
        let mut kept = Client::at_address(first);
        assert_eq!(kept.get("/System/Info/Public").await.status, 200);

        // Another listener, and pod b in a pool of its own, for one host.
        let mut settings = world.settings().clone();
        settings.remove_pod("b");
        settings.pod_of("other", "b", world.pod("b").address());
        settings.route_host("other.example.org", "other");
        settings.route_rest("main");
        settings.set("listen.http", "[\"127.0.0.1:0\", \"127.0.0.1:0\"]");
        program.rewrite(&settings);
        assert_eq!(reload(&program).await.0, 200);
        until("the second listener is told", || program.log().matches("serving clients\"").count() == 2).await;
        let serving = |line: &&serde_json::Value| line["message"] == "serving clients";
        let address = |line: &serde_json::Value| line["address"].as_str().and_then(|text| text.parse().ok());
        let lines: Vec<serde_json::Value> =
            program.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let second = lines.iter().filter(serving).filter_map(address).next_back().expect("an address");
        for address in [first, second] {
            for (host, home) in [("other.example.org", "b"), ("media.example.org", "a")] {
                let mut client = Client::at_address(address);
                client.host = host.to_owned();
                let answer = client.get("/System/Info/Public").await;
                assert_eq!((answer.status, world.home(&answer)), (200, home), "{address} {host}");
            }
        }

        // The first address goes, and a connection that it took stays.
        let mut settings = world.settings().clone();
        settings.http(second);
        program.rewrite(&settings);
        assert_eq!(reload(&program).await.0, 200);
        assert_eq!(kept.get("/System/Info/Public").await.status, 200, "a connection that is open stays");
        until_so("newcomers find nobody there", async || tokio::net::TcpStream::connect(first).await.is_err()).await;
        let mut client = Client::at_address(second);
        client.host = "other.example.org".to_owned();
        let answer = client.get("/System/Info/Public").await;
        assert_eq!(answer.status, 200, "every host is the one pool's again");
        assert_eq!(operators(&program).get("/ready").await.status, 200);
        drop(program);
    })
    .await;
}

#[tokio::test]
async fn a_swapped_link_is_loaded_without_being_asked() {
    story(World::plan(2), async |world| {
        // As Kubernetes mounts a ConfigMap.
        let at = |name: &str| world.folder().join(name);
        let write = |generation: &str, settings: &Settings| {
            std::fs::create_dir(at(generation)).expect("a folder");
            std::fs::write(at(generation).join("jellypin.toml"), settings.text()).expect("a file");
        };
        write("one", world.settings());
        symlink("one", at("..data")).expect("a link");
        symlink("..data/jellypin.toml", at("jellypin.toml")).expect("a link");
        let program = Program::start_with(&at("jellypin.toml")).await;

        let mut settings = world.settings().clone();
        settings.remove_pod("b");
        settings.log_level("debug");
        write("two", &settings);
        symlink("two", at("..new")).expect("a link");
        std::fs::rename(at("..new"), at("..data")).expect("a swap");
        until("it is loaded", || program.log().contains("the configuration was reloaded")).await;
        let state_of_b = async || {
            let pods = operators(&program).get("/pods").await.json();
            let b = pods.as_array().into_iter().flatten().find(|pod| pod["name"] == "b").cloned();
            b.map(|pod| pod["state"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
        };
        until_so("b drains", async || state_of_b().await == "draining").await;

        // A bad one waits until it is good.
        write("three", &settings);
        std::fs::write(at("three").join("jellypin.toml"), "[listen").expect("a file");
        symlink("three", at("..new")).expect("a link");
        std::fs::rename(at("..new"), at("..data")).expect("a swap");
        until("it is refused", || program.log().contains("could not be reloaded")).await;
        std::fs::write(at("three").join("jellypin.toml"), world.settings().text()).expect("a file");
        until_so("b is back", async || state_of_b().await == "ready").await;
        drop(program);
    })
    .await;
}

#[tokio::test]
async fn who_writes_who_leads_and_the_form_of_the_log_follow_a_reload() {
    let plan = World::plan(2).with_api_key().build(|pod| pod.generation(Generation::V10_11).single_writer(true));
    story(plan, async |world| {
        let mut settings = world.settings().clone();
        settings.set("reload.watch", "\"off\"");
        settings.writer("off");
        let program = Program::start(&settings, world.folder()).await;
        let metric = async |name: &str| {
            let page = operators(&program).get("/metrics").await;
            let line = page.text().lines().find(|line| line.starts_with(name) && line.ends_with(" 1"));
            line.unwrap_or_default().to_owned()
        };
        let of = |name: &str, pod: &str| format!("{name}{{pool=\"main\",pod=\"{pod}\"}} 1");
        assert_eq!(metric("jellypin_writer{").await, "");

        let writer = world.cluster.writer().expect("a writer");
        let other = world.pods.iter().find(|pod| pod.name() != writer).expect("another pod").name();
        for (named, writes) in [(other, other), ("auto", &*writer)] {
            settings.writer(named);
            settings.leader_mode(Mode::Probe);
            program.rewrite(&settings);
            assert_eq!(reload(&program).await.0, 200);
            for name in ["jellypin_writer", "jellypin_leader"] {
                let wanted = of(name, writes);
                until_so("the metrics name it", async || metric(&format!("{name}{{")).await == wanted).await;
            }
        }

        settings.set("log.format", "\"text\"");
        program.rewrite(&settings);
        let (status, said) = reload(&program).await;
        assert_eq!(status, 200, "{said}");
        until("a line is plain text", || {
            program.log().lines().any(|line| !line.starts_with('{') && line.contains("the configuration was reloaded"))
        })
        .await;
        drop(program);
    })
    .await;
}

#[tokio::test]
async fn keys_that_wait_are_named_and_the_others_apply() {
    story(World::plan(1), async |world| {
        let mut settings = world.settings().clone();
        settings.state_path("state");
        settings.set("reload.watch", "\"off\"");
        let program = Program::start(&settings, world.folder()).await;
        settings.pins(500);
        settings.state_path("elsewhere");
        settings.admin_token("a token of sixteen bytes or more");
        settings.https(ANY_PORT);
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(world.folder().join("chain.pem"), certificate.cert.pem()).expect("a file");
        std::fs::write(world.folder().join("key.pem"), certificate.signing_key.serialize_pem()).expect("a file");
        settings.set("listen.certificates", "[{ chain = \"chain.pem\", key = \"key.pem\" }]");
        program.rewrite(&settings);
        let (status, said) = reload(&program).await;
        assert_eq!(status, 200, "{said}");
        assert!(said.contains("limits.pins: (default) → 500 (at the next start: "), "{said}");
        assert!(said.contains("state.path: \"state\" → \"elsewhere\" (at the next start: "), "{said}");
        assert!(said.contains("admin.token: (default) → (secret)\n"), "{said}");
        assert!(!world.folder().join("elsewhere").exists());
        assert_eq!(operators(&program).get("/pods").await.status, 401, "the token is asked for at once");
        until("the TLS listener is told", || program.log().matches("serving clients\"").count() == 2).await;
        until("what waits is told", || program.log().contains("wait for the next start")).await;
        drop(program);
    })
    .await;
}
