//! The program itself: its flags, its exit codes, its signals.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Method;
use jellyfin_sim::BULK;
use rcgen::{CertifiedKey, KeyPair};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::world::{ANY_PORT, Certificate, Client, Program, Settings, World, body_of, story, until};

const PUBLIC: &str = "/System/Info/Public";

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("a text")
}

#[test]
fn it_prints_version_and_usage() {
    let version = Program::run(&["--version"]);
    assert_eq!((version.status.code(), text(&version.stdout)), (Some(0), "jellypin 0.1.0\n"));
    let help = Program::run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("--config") && text(&help.stdout).contains("check"));
    assert_eq!(Program::run(&["--unknown"]).status.code(), Some(2));
}

#[test]
fn it_prints_completions_and_manual() {
    for (shell, line) in
        [("bash", "complete -F _jellypin"), ("zsh", "#compdef jellypin"), ("fish", "complete -c jellypin")]
    {
        let printed = Program::run(&["completions", shell]);
        assert!(printed.status.success() && text(&printed.stdout).contains(line), "{shell}: {printed:?}");
    }
    let manual = Program::run(&["man"]);
    assert!(manual.status.success() && text(&manual.stdout).contains(".TH jellypin 1"), "{manual:?}");
    assert_eq!(Program::run(&["completions", "tcsh"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_a_good_configuration_from_a_bad_one() {
    story(World::plan(1), async |world| {
        let good = Program::file(world.settings(), world.folder());
        let checked = Program::run(&["check", "--config", &good.to_string_lossy()]);
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
        assert!(text(&checked.stdout).ends_with(": the configuration is good\n"));

        let mut settings = world.settings().clone();
        settings.set("health.intervall", "\"1s\"");
        let bad = Program::file(&settings, world.folder());
        let line = settings.text().lines().position(|line| line.starts_with("intervall")).expect("a line") + 1;
        for arguments in [&["check", "--config", &bad.to_string_lossy()][..], &["--config", &bad.to_string_lossy()]] {
            let checked = Program::run(arguments);
            let errors = text(&checked.stderr);
            assert_eq!((checked.status.code(), text(&checked.stdout)), (Some(2), ""), "{errors}");
            let file = bad.file_name().expect("a name").to_string_lossy();
            assert!(errors.starts_with(&format!("{file}:{line}:1: [health] intervall: ")), "{errors}");
            assert!(errors.contains("`interval`"), "{errors}");
        }

        let missing = Program::run(&["check", "--config", "/nowhere/jellypin.toml"]);
        assert_eq!(missing.status.code(), Some(2));
        assert!(text(&missing.stderr).starts_with("/nowhere/jellypin.toml: "), "{}", text(&missing.stderr));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_pods_lack_for_migrations() {
    story(World::plan(3).with_api_key().build_one("b", |pod| pod.quick_connect_enabled(false)), async |world| {
        let check = |settings: &Settings, folder: &Path| {
            let file = Program::file(settings, folder);
            let checked = Program::run(&["check", "--config", &file.to_string_lossy()]);
            (checked.status.code(), text(&checked.stdout).to_owned(), text(&checked.stderr).to_owned())
        };
        world.pod("c").kill().await;
        let (code, output, errors) = check(world.settings(), world.folder());
        assert_eq!((code, output.as_str()), (Some(2), ""), "{errors}");
        assert_eq!(errors.matches(": error: ").count(), 1, "{errors}");
        assert!(errors.contains("Connection refused"), "why it does not answer: {errors}");
        assert!(errors.contains("pod b: Quick Connect is disabled") && errors.contains("enable it in"), "{errors}");
        assert!(errors.contains(": note: [pools.main] pod c: it does not answer"), "{errors}");

        let mut without_b = world.settings().clone();
        without_b.remove_pod("b");
        let (code, output, errors) = check(&without_b, world.folder());
        assert_eq!(code, Some(0), "a pod that is away is no error: {errors}");
        assert!(
            output.ends_with(": the configuration is good\n") && errors.contains("pod c: it does not answer"),
            "{errors}"
        );

        let mut wrong = without_b.clone();
        wrong.api_key("00000000000000000000000000000000");
        let (code, output, errors) = check(&wrong, world.folder());
        assert_eq!((code, output.as_str()), (Some(2), ""));
        assert!(errors.contains("pod a: it refuses the API key") && errors.contains("make a key in"), "{errors}");
        assert!(!errors.contains(&world.cluster.api_key()) && !errors.contains("00000000"), "no key is said");

        world.pod("a").database_down(true);
        let (code, _, errors) = check(&without_b, world.folder());
        assert!(code == Some(1) && errors.contains("pod a: it answers, but its health check fails"), "{errors}");
        assert!(errors.contains("a pool has no pod that can serve"), "{errors}");
        world.pod("a").database_down(false);

        world.pod("a").hang(true);
        let began = std::time::Instant::now();
        let (code, _, errors) = check(&without_b, world.folder());
        assert_eq!((code, errors.matches("does not answer").count()), (Some(1), 2), "nobody answers: {errors}");
        assert!(began.elapsed() < std::time::Duration::from_secs(8), "all are asked at once: {:?}", began.elapsed());
        world.pod("a").hang(false);
        world.restart(|_| {}).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_explains_common_mistakes() {
    story(World::plan(2).build_one("b", |pod| pod.known_proxies(true)).with_api_key(), async |world| {
        let other = jellyfin_sim::Pod::builder(&jellyfin_sim::Cluster::new()).start().await.expect("a pod starts");
        let check = |change: &dyn Fn(&mut Settings)| {
            let mut settings = world.settings().clone();
            change(&mut settings);
            Program::check(&settings, world.folder())
        };

        let (code, said) = check(&|_| {});
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("pod a: it does not believe what it is told of clients"), "{said}");
        assert!(!said.contains("pod b: "), "{said}");
        assert!(said.contains("note: the API key stands in the configuration file itself"), "{said}");
        assert!(said.contains("different server ids") && said.contains(world.pod("a").server_id()), "{said}");

        let stranger = other.address();
        let (code, said) = check(&|settings| settings.pod("b", stranger));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("error: [pools.main] pod b: it refuses the API key that pod a takes"), "{said}");

        let (code, said) = check(&|settings| settings.base_path("/jf"));
        assert_eq!((code, said.matches("base URL is not \"/jf\"").count()), (Some(2), 2), "{said}");

        let (code, said) = check(&|settings| settings.redis_url("redis://:hunter2@127.0.0.1:1"));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("note: [redis]: Redis does not answer") && !said.contains("hunter2"), "{said}");
        assert!(said.contains("note: no [affinity] keys beside [redis]"), "{said}");

        let (code, said) = check(&|settings| settings.trusted_proxies(&["0.0.0.0/0"]));
        assert!(code == Some(0) && said.contains("trusted_proxies names everybody"), "{said}");

        let (code, said) = check(&|settings| settings.access_log("nowhere/access.log"));
        assert!(
            code == Some(2) && said.contains("[log] access: ") && said.contains("nowhere/access.log: No such"),
            "{said}"
        );
        let (code, said) = check(&|settings| settings.access_log("access.log"));
        assert!(code == Some(0) && !world.folder().join("access.log").exists(), "{said}");

        let state = world.folder().join("state");
        let with_state = |settings: &mut Settings| settings.state_path("state");
        let (code, said) = check(&with_state);
        assert!(code == Some(0) && !state.exists(), "what is not there is not made: {said}");
        std::fs::create_dir(&state).expect("a folder");
        std::fs::write(state.join("cookie.key"), "short").expect("a file");
        let (code, said) = check(&with_state);
        assert!(code == Some(2) && said.contains("state directory") && said.contains("too short for a key"), "{said}");
        std::fs::remove_file(state.join("cookie.key")).expect("a file");
        assert_eq!(check(&with_state).0, Some(0));
        assert_eq!(std::fs::read_dir(&state).expect("a folder").count(), 0, "nothing is left there");
        std::fs::remove_dir(&state).expect("a folder");
        std::fs::write(&state, "a file").expect("a file");
        let (code, said) = check(&with_state);
        assert!(code == Some(2) && said.contains("cannot use the state directory"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn a_start_warns_of_doubtful_settings() {
    story(World::plan(1).with_api_key(), async |world| {
        let program = Program::start(world.settings(), world.folder()).await;
        let log = program.log();
        assert!(log.contains("the API key stands in the configuration file itself"), "{log}");
        assert!(log.contains("a restart of the proxy forgets the sessions that migrated"), "{log}");
        until("the pod is told of", || program.log().contains("every client counts as local")).await;
        drop(program);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_whether_it_serves() {
    story(World::plan(1), async |world| {
        let program = Program::start(world.settings(), world.folder()).await;
        let mut settings = world.settings().clone();
        settings.set("admin.listen", &format!("\"{}\"", program.addresses()[1]));
        // Nobody asks with a token here: the pages for orchestrators need none.
        settings.set("admin.token", "\"sixteen characters or more\"");
        let file = Program::file(&settings, world.folder()).to_string_lossy().into_owned();
        let health = |more: &[&str]| {
            let asked = Program::run(&[&["health", "--config", &file][..], more].concat());
            (asked.status.code(), text(&asked.stderr).to_owned())
        };
        until("a pod is ready", || health(&["--ready"]).0 == Some(0)).await;
        assert_eq!(health(&[]), (Some(0), String::new()));

        world.pod("a").kill().await;
        until("no pod is ready", || health(&["--ready"]).0 == Some(1)).await;
        assert!(health(&["--ready"]).1.contains("503"), "{:?}", health(&["--ready"]));
        assert_eq!(health(&[]).0, Some(0), "it lives without its pods");

        drop(program);
        until("nobody answers", || health(&[]).0 == Some(1)).await;
        assert!(health(&[]).1.contains("no jellypin answers"), "{:?}", health(&[]));

        settings.set("admin.listen", "\"off\"");
        let off = Program::file(&settings, world.folder());
        let asked = Program::run(&["health", "--config", &off.to_string_lossy()]);
        assert!(asked.status.code() == Some(1) && text(&asked.stderr).contains("is off"), "{asked:?}");
    })
    .await;
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_line() {
    story(World::plan(1), async |world| {
        // The one who listens there already is another proxy, whose sockets could share the port unseen.
        let first = Program::start(world.settings(), world.folder()).await;
        let [clients, operators] = first.addresses()[..] else { panic!("two addresses: {:?}", first.addresses()) };
        for (key, table, address) in [("listen.http", "listen", clients), ("admin.listen", "admin", operators)] {
            let mut settings = world.settings().clone();
            settings.set(key, &format!("\"{address}\""));
            let second = Program::file(&settings, world.folder());
            let line =
                settings.text().lines().position(|line| line.contains(&address.to_string())).expect("a line") + 1;
            let ended = Program::run(&["--config", &second.to_string_lossy()]);
            let errors = text(&ended.stderr);
            let name = second.file_name().expect("a name").to_string_lossy();
            let key = key.rsplit('.').next().expect("a key");
            assert_eq!(ended.status.code(), Some(2), "{errors}");
            let wanted =
                format!("{name}:{line}:8: [{table}] {key}: cannot listen on {address}: Address already in use");
            assert!(errors.contains(&wanted) || errors.contains(&wanted.replacen(":8:", ":10:", 1)), "{errors}");
        }
        assert_eq!(first.client().get(PUBLIC).await.status, 200, "the first one is untouched");
        drop(first);
    })
    .await;
}

#[tokio::test]
async fn a_second_signal_stops_it_at_once() {
    story(World::plan(1), async |world| {
        for signal in ["TERM", "INT"] {
            let mut program = Program::start(world.settings(), world.folder()).await;
            assert_eq!(program.client().get(PUBLIC).await.status, 200);
            program.signal(signal);
            assert_eq!(program.ended().await.code(), Some(0), "{signal}");
            assert_eq!(program.output().lines().count(), 1, "the access line is written before the end");
        }

        let mut program = Program::start(world.settings(), world.folder()).await;
        let mut client = program.client();
        let request = client.request(Method::GET, &format!("/Videos/{BULK}/stream?static=true"));
        let endless = client.open(request, body_of("")).await.expect("an answer");
        program.signal("TERM");
        until("it stops", || program.log().contains("\"stopping\"")).await;
        program.signal("TERM");
        assert_eq!(program.ended().await.code(), Some(1));
        drop(endless);
    })
    .await;
}

/// Writes a fresh certificate for `localhost` and its key, and gives the certificate.
fn write_certificate(folder: &Path) -> CertificateDer<'static> {
    let made = new_certificate();
    put_certificate(folder, &made);
    made.cert.der().clone()
}

fn new_certificate() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate")
}

fn put_certificate(folder: &Path, made: &CertifiedKey<KeyPair>) {
    std::fs::write(folder.join("chain.pem"), made.cert.pem()).expect("a file");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("a file");
}

/// Whether a TLS client that trusts this certificate alone gets a connection.
async fn is_shown(program: &Program, certificate: &CertificateDer<'static>) -> bool {
    handshake(program, std::slice::from_ref(certificate)).await
}

/// Whether a TLS client that trusts these certificates gets a connection.
async fn handshake(program: &Program, trusted: &[CertificateDer<'static>]) -> bool {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|certificate| roots.add(certificate.clone()).expect("a certificate"));
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(program.addresses()[1]).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.is_ok()
}

#[tokio::test]
async fn a_hangup_reloads_good_certificates_only() {
    story(World::plan(1), async |world| {
        let old = write_certificate(world.folder());
        let mut settings = world.settings().clone();
        settings.https(ANY_PORT);
        settings.certificates(&[Certificate { chain: "chain.pem".into(), key: "key.pem".into() }]);
        let mut program = Program::start(&settings, world.folder()).await;
        assert!(is_shown(&program, &old).await);

        std::fs::write(world.folder().join("chain.pem"), "junk").expect("a file");
        program.signal("HUP");
        until("the failure is told", || program.log().contains("could not be reloaded")).await;
        assert!(program.log().contains("chain.pem"), "the file is named");
        assert!(is_shown(&program, &old).await, "the old one is still shown");
        assert_eq!(program.client().get(PUBLIC).await.status, 200);

        let new = write_certificate(world.folder());
        program.signal("HUP");
        until("the success is told", || program.log().contains("the configuration was reloaded")).await;
        assert!(is_shown(&program, &new).await && !is_shown(&program, &old).await);
        program.signal("TERM");
        assert_eq!(program.ended().await.code(), Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_swapped_under_handshakes_and_none_fails() {
    story(World::plan(1), async |world| {
        let made: Vec<_> = (0..6).map(|_| new_certificate()).collect();
        put_certificate(world.folder(), &made[0]);
        let mut settings = world.settings().clone();
        settings.https(ANY_PORT);
        settings.certificates(&[Certificate { chain: "chain.pem".into(), key: "key.pem".into() }]);
        settings.set("reload.watch", "\"off\"");
        let program = Arc::new(Program::start(&settings, world.folder()).await);
        let trusted: Arc<[_]> = made.iter().map(|made| made.cert.der().clone()).collect();
        let (done, failed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let ends = Arc::<AtomicBool>::default();
        let dials = (0..4).map(|_| {
            let (program, trusted) = (program.clone(), trusted.clone());
            let (done, failed, ends) = (done.clone(), failed.clone(), ends.clone());
            tokio::spawn(async move {
                while !ends.load(Ordering::Relaxed) {
                    let is_good = handshake(&program, &trusted).await;
                    done.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(usize::from(!is_good), Ordering::Relaxed);
                }
            })
        });
        let dials: Vec<_> = dials.collect();
        for new in &made[1..] {
            let before = done.load(Ordering::Relaxed);
            put_certificate(world.folder(), new);
            let answer = Client::at_address(program.admin()).post("/reload", serde_json::Value::Null).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(is_shown(&program, new.cert.der()).await, "from the reload on");
            until("handshakes went on", || done.load(Ordering::Relaxed) > before + 20).await;
        }
        ends.store(true, Ordering::Relaxed);
        for dial in dials {
            dial.await.expect("it ends");
        }
        println!("{} handshakes under 5 swaps", done.load(Ordering::Relaxed));
        assert_eq!(failed.load(Ordering::Relaxed), 0);
        let overview = Client::at_address(program.admin()).get("/overview").await.json();
        let row = &overview["overview"]["certificates"][0];
        assert_eq!(row["names"][0], "localhost");
        assert!(row["days"].as_i64().is_some_and(|days| days > 21), "{row}");
        assert!(row["from"].as_str().is_some_and(|from| from.ends_with("chain.pem")), "{row}");
    })
    .await;
}

#[tokio::test]
async fn a_hangup_reopens_the_access_log() {
    story(World::plan(1), async |world| {
        let mut settings = world.settings().clone();
        settings.access_log("rotated.log");
        let mut program = Program::start(&settings, world.folder()).await;
        let (log, old) = (world.folder().join("rotated.log"), world.folder().join("rotated.log.1"));
        let lines = |path: &Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
        program.client().get(PUBLIC).await;
        until("the first line is written", || lines(&log) == 1).await;
        std::fs::rename(&log, &old).expect("a rotation");
        program.signal("HUP");
        until("the signal has come", || program.log().contains("was reloaded")).await;
        program.client().get(PUBLIC).await;
        until("the second line stands in the new file", || lines(&log) == 1).await;
        assert_eq!(lines(&old), 1);
        program.signal("TERM");
        assert_eq!(program.ended().await.code(), Some(0));
    })
    .await;
}

#[tokio::test]
async fn the_log_says_when_connections_run_out() {
    story(World::plan(1), async |world| {
        let mut settings = world.settings().clone();
        settings.max_connections(1);
        let program = Program::start(&settings, world.folder()).await;
        let mut first = program.client();
        assert_eq!(first.get(PUBLIC).await.status, 200);
        for _ in 0..3 {
            drop(TcpStream::connect(program.addresses()[0]).await);
        }
        until("it is told", || program.log().contains("max_connections allows")).await;
        assert_eq!(first.get(PUBLIC).await.status, 200);
        drop((first, program));
    })
    .await;
}
