//! What an operator runs beside the proxy: a first configuration, a check of it, and how things stand.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::world::{ANY_PORT, Program, Settings, World, story, until, until_so};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("a text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_configuration_is_made_of_flags_and_serves() {
    story(World::plan(2).with_api_key(), async |world| {
        let path = |name: &str| world.folder().join(name).to_string_lossy().into_owned();
        let (output, key, state) = (path("first.toml"), path("api.key"), path("state"));
        fs::write(&key, world.cluster.api_key()).expect("a file");
        let pods = [0, 1].map(|index: usize| format!("http://{}", world.pods[index].address()));
        let listen = TcpListener::bind(ANY_PORT).and_then(|socket| socket.local_addr()).expect("a port").to_string();
        let flags = ["--listen", &listen, "--api-key-file", &key, "--state", &state, "--output", &output];
        let init = |pods: &[&str]| Program::run(&[&["init"], pods, &flags[..]].concat());

        let nobody = init(&[]);
        assert_eq!(nobody.status.code(), Some(2));
        assert!(text(&nobody.stderr).contains("--pod http://"), "{}", text(&nobody.stderr));
        let nonsense = init(&["--pod", "ftp://jellyfin"]);
        assert_eq!(nonsense.status.code(), Some(2));
        assert!(text(&nonsense.stderr).contains("[pools.main.pods] a: "), "{}", text(&nonsense.stderr));
        assert!(!fs::exists(&output).expect("a folder"), "nothing is written that would not start");

        let made = init(&["--pod", &pods[0], "--pod", &format!("films={}", pods[1])]);
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        assert!(text(&made.stdout).contains(&format!("jellypin --config {output}")), "{}", text(&made.stdout));
        let written = fs::read_to_string(&output).expect("a file");
        assert!(!written.contains(&world.cluster.api_key()), "the key stays in its file");
        let again = init(&["--pod", &pods[0]]);
        assert_eq!(again.status.code(), Some(2));
        assert!(text(&again.stderr).contains("--output"), "{}", text(&again.stderr));
        assert_eq!(fs::read_to_string(&output).expect("a file"), written, "a file that exists stays");

        // Tests run beside each other, so the admin API has another port.
        fs::write(&output, written + &format!("[admin]\nlisten = \"{ANY_PORT}\"\n")).expect("a file");
        let program = Program::start_with(output.as_ref()).await;
        let mut client = program.client();
        until_so("it serves", async || client.get("/System/Info/Public").await.status == 200).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_how_things_stand() {
    story(World::plan(2).with_api_key(), async |world| {
        let mut settings = world.settings().clone();
        let program = Program::start(&settings, world.folder()).await;
        settings.admin_listen(program.admin());
        let file = Program::file(&settings, world.folder());
        let status = || {
            let said = Program::run(&["status", "--config", &file.to_string_lossy()]);
            assert_eq!(said.status.code(), Some(0), "{}", text(&said.stderr));
            text(&said.stdout).to_owned()
        };
        until("all is well", || status().starts_with("All well.\n")).await;
        let said = status();
        let row = |pod: &str| said.lines().find(|line| line.starts_with(&format!("main  {pod} "))).map(str::to_owned);
        assert!(row("a").is_some_and(|row| row.contains("ready, leads")), "{said}");
        assert!(row("b").is_some_and(|row| row.contains("ready") && row.ends_with("12.0.0")), "{said}");
        // The file is wrong now, and jellypin goes on with the one before.
        let mut wrong = settings.clone();
        wrong.set("health.intervall", "\"1s\"");
        wrong.set("jellyfin.api_key", "{ file = \"/nowhere/key\" }");
        let wrong = Program::file(&wrong, world.folder());
        for arguments in [&["status"][..], &["health"], &["health", "--ready"], &["explain", "--user", "nobody"]] {
            let said = Program::run(&[arguments, &["--config", &wrong.to_string_lossy()]].concat());
            assert_eq!(said.status.code(), Some(0), "{arguments:?}: {}", text(&said.stderr));
        }
        world.pod("b").kill().await;
        until("b is down", || status().starts_with("Pod b is down for ")).await;
        assert!(status().contains("is down"), "the latest events are there");

        let mut elsewhere = settings.clone();
        elsewhere.admin_listen(ANY_PORT);
        let file = Program::file(&elsewhere, world.folder());
        assert_eq!(Program::run(&["status", "--config", &file.to_string_lossy()]).status.code(), Some(1));
        world.restart(|_| {}).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_pods_that_are_no_pods_of_their_own() {
    story(World::plan(2).with_api_key(), async |world| {
        let check = |change: &dyn Fn(&mut Settings)| {
            let mut settings = world.settings().clone();
            change(&mut settings);
            Program::check(&settings, world.folder())
        };
        let (code, said) = check(&|_| {});
        assert!(code == Some(0) && !said.contains("same server") && !said.contains("clock"), "{said}");

        let taken = TcpListener::bind(ANY_PORT).expect("a port");
        let address = format!("\"{}\"", taken.local_addr().expect("an address"));
        let (code, said) = check(&|settings| settings.set("listen.http", &address));
        assert!(code == Some(0) && said.contains(" is in use, and no jellypin answers"), "{said}");
        drop(taken);

        let same = format!("\"http://localhost:{}\"", world.pod("a").address().port());
        let (code, said) = check(&|settings| settings.set("pools.main.pods.b", &same));
        assert!(code == Some(2) && said.contains("pod b: it is the same server as pod a"), "{said}");

        world.pod("b").set_clock_ahead(90_000);
        let (code, said) = check(&|_| {});
        assert!(code == Some(0) && said.contains("pod b: its clock and this machine's are "), "{said}");
        assert_eq!(said.matches("clock").count(), 1, "{said}");
        world.pod("b").set_clock_ahead(0);

        let listener = TcpListener::bind(ANY_PORT).and_then(|socket| socket.local_addr()).expect("a port");
        let own = |settings: &mut Settings| {
            settings.http(listener);
            settings.pod("b", listener);
        };
        let (code, said) = check(&own);
        assert!(code == Some(2) && said.contains("[pools.main.pods] b: "), "{said}");
        assert!(said.contains("an address of this jellypin itself"), "{said}");
        let mut settings = world.settings().clone();
        own(&mut settings);
        let file = Program::file(&settings, world.folder());
        assert_eq!(Program::run(&["--config", &file.to_string_lossy()]).status.code(), Some(2), "nor does it start");

        let gone = [0, 1].map(|_| TcpListener::bind(ANY_PORT).and_then(|socket| socket.local_addr()).expect("a port"));
        let (code, said) = check(&|settings| {
            settings.pod("a", gone[0]);
            settings.pod("b", gone[1]);
        });
        assert_eq!((code, said.matches("does not answer").count()), (Some(1), 2), "{said}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_speaks_json_and_names_exposed_secrets() {
    story(World::plan(1), async |world| {
        let key = world.folder().join("api.key");
        fs::write(&key, world.cluster.api_key()).expect("a file");
        let mut settings = world.settings().clone();
        settings.set("jellyfin.api_key", &format!("{{ file = {key:?} }}"));
        let file = Program::file(&settings, world.folder());
        let check = |mode| {
            fs::set_permissions(&key, Permissions::from_mode(mode)).expect("a file");
            let checked = Program::run(&["check", "--json", "--config", &file.to_string_lossy()]);
            assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
            serde_json::from_slice::<serde_json::Value>(&checked.stdout).expect("JSON")
        };
        let said = check(0o644);
        assert_eq!(said["verdict"], "good");
        let sentences = said["findings"].as_array().expect("findings");
        let is_exposed = |finding: &&serde_json::Value| {
            finding["sentence"].as_str().is_some_and(|sentence| sentence.contains("api.key holds a secret"))
        };
        assert_eq!(sentences.iter().filter(is_exposed).count(), 1, "{said}");
        assert!(!check(0o600).to_string().contains("api.key"), "its owner alone may read it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_round_is_stopped() {
    story(World::plan(1), async |world| {
        // Each is a pod of the other, so that only what comes round shows it.
        let address = || TcpListener::bind(ANY_PORT).and_then(|socket| socket.local_addr()).expect("a port");
        let (one, other) = (address(), address());
        let plan = |own: SocketAddr, pod: SocketAddr| {
            let mut settings = world.settings().clone();
            settings.http(own);
            settings.pod("a", pod);
            settings
        };
        let programs = [plan(one, other), plan(other, one)];
        let programs = [0, 1].map(async |index: usize| Program::start(&programs[index], world.folder()).await);
        let [first, second] = programs;
        let (first, second) = tokio::join!(first, second);
        let is_found = || [&first, &second].iter().any(|program| program.log().contains("leads back to this jellypin"));
        until("it is found out", is_found).await;
        let began = Instant::now();
        let status = first.client().get("/System/Info/Public").await.status;
        assert!(status == 503 || status == 508, "{status}");
        assert!(began.elapsed() < Duration::from_secs(30), "nothing goes round for ever");
    })
    .await;
}
