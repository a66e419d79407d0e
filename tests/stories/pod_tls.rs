//! Pods behind https: all that jellypin says to a pod goes over TLS, to nobody but the pod that is meant.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt;
use jellyfin_sim::{BULK, bulk_bytes};
use jellypin::pod::{Fingerprint, State};
use rcgen::CertifiedKey;
use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::{
    migration::{minted, sockets::next_of},
    wire::{self, HandPod},
    world::{ANY_PORT, Client, Program, World, body_of, millis, story, until, until_so},
};

/// A certificate that is its own authority, and its file.
struct Identity {
    config: Arc<ServerConfig>,
    leaf: CertificateDer<'static>,
    file: PathBuf,
}

impl Identity {
    fn new(folder: &Path, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let file = folder.join(format!("{}.pem", names[0]));
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).expect("a certificate");
        std::fs::write(&file, cert.pem()).expect("written");
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .expect("a certificate");
        Identity { config: Arc::new(config), leaf: cert.der().clone(), file }
    }

    fn fingerprint(&self) -> String {
        format!("{:?}", Fingerprint::of(&self.leaf))
    }
}

/// What ends TLS before a pod, as a web server on its machine does.
struct Terminator {
    address: SocketAddr,
    shown: Arc<Mutex<Arc<ServerConfig>>>,
    accepting: JoinHandle<()>,
}

impl Terminator {
    async fn before(pod: SocketAddr, identity: &Identity) -> Terminator {
        let listener = TcpListener::bind(ANY_PORT).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shown = Arc::new(Mutex::new(identity.config.clone()));
        let now = shown.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(now.lock().expect("a lock").clone());
                tokio::spawn(async move {
                    let Ok(mut to_pod) = TcpStream::connect(pod).await else { return };
                    let Ok(mut from_proxy) = acceptor.accept(stream).await else { return };
                    let _ = copy_bidirectional(&mut from_proxy, &mut to_pod).await;
                });
            }
        });
        Terminator { address, shown, accepting }
    }

    fn show(&self, identity: &Identity) {
        *self.shown.lock().expect("a lock") = identity.config.clone();
    }

    /// A pod of the configuration, with these keys in its `tls`.
    fn pod(&self, tls: &str) -> String {
        format!("{{ url = \"https://{}\", tls = {{ {tls} }} }}", self.address)
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn trouble(pods: &Value, name: &str) -> String {
    let pod = pods.as_array().expect("pods").iter().find(|pod| pod["name"] == name).expect("the pod");
    pod["trouble"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_to_a_pod_over_tls() {
    const SIZE: usize = 4 << 20;
    let plan = World::plan(2).with_api_key().build(|pod| pod.bulk_size(SIZE as u64)).probe_interval(millis(100));
    story(plan.uncounted(), async |world| {
        let folder = world.folder().to_owned();
        let one = Identity::new(&folder, &["127.0.0.1"]);
        let terminators = [
            Terminator::before(world.pod("a").address(), &one).await,
            Terminator::before(world.pod("b").address(), &one).await,
        ];
        let pods = terminators.iter().map(|terminator| terminator.pod(&format!("ca = {:?}", one.file)));
        let pods: Vec<String> = pods.collect();
        world
            .restart(|settings| {
                settings.set("pools.main.pods.a", &pods[0]);
                settings.set("pools.main.pods.b", &pods[1]);
            })
            .await;
        for pod in ["a", "b"] {
            world.until_state(pod, State::Ready).await;
        }

        // A login, the client's socket, and the beginning of a film.
        let mut client = world.client().without_cookies().device("sofa");
        let log_in = client.log_in("alice").await;
        assert_eq!(log_in.status, 200);
        let home = world.home(&log_in).to_owned();
        let token = client.token.clone().expect("a token");
        let mut socket = client.socket(&format!("/socket?ApiKey={token}&deviceId=sofa")).await.expect("a socket");
        next_of(&mut socket, "ForceKeepAlive").await;
        let film = client.request(Method::GET, &format!("/Videos/{BULK}/stream?static=true&ApiKey={token}"));
        let mut film = client.twin().open(film, body_of("")).await.expect("an answer").into_body();
        let mut read = BytesMut::new();
        let mut more = async |read: &mut BytesMut, bytes: usize| {
            while read.len() < bytes {
                let frame = film.frame().await.expect("more").expect("a whole film");
                read.extend_from_slice(&frame.into_data().unwrap_or_default());
            }
        };
        more(&mut read, SIZE / 8).await;

        // The home is gone: session, socket and film are at the other pod.
        world.pod(&home).kill().await;
        let me = client.get("/Users/Me").await;
        assert_eq!((me.status, me.json()["Name"].as_str()), (200, Some("alice")));
        assert_ne!(world.home(&me), home);
        assert_eq!(minted(world), 1, "by calls of jellypin's own");
        more(&mut read, SIZE).await;
        assert!(read == bulk_bytes(0, SIZE), "not a byte is missing or wrong");
        let other = world.pods_but(&home).next().expect("another pod");
        other.until(|pod| pod.open_sockets() == 1).await;
        drop((socket, film));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_not_trusted_is_down_and_it_is_said_why() {
    story(World::plan(2).probe_interval(millis(100)).uncounted(), async |world| {
        let folder = world.folder().to_owned();
        let (own, other) = (Identity::new(&folder, &["127.0.0.1"]), Identity::new(&folder, &["pods.internal"]));
        let at_own = Terminator::before(world.pod("b").address(), &own).await;
        let at_other = Terminator::before(world.pod("b").address(), &other).await;
        let in_clear = world.pod("b").address();
        let wrong = "00".repeat(32);
        for (pod, words) in [
            (at_own.pod(""), "of no trusted authority".to_owned()),
            (at_own.pod(&format!("ca = {:?}", other.file)), "of no trusted authority".to_owned()),
            (at_other.pod(&format!("ca = {:?}", other.file)), "not for 127.0.0.1, but for".to_owned()),
            (at_own.pod(&format!("pin = {wrong:?}")), format!("its fingerprint is {}", own.fingerprint())),
            (format!("{{ url = \"https://{in_clear}\" }}"), "does not speak TLS".to_owned()),
        ] {
            let mut settings = world.settings().clone();
            settings.set("pools.main.pods.b", &pod);
            let proxy = world.replica(|there| *there = settings.clone()).await;
            proxy.until_state("b", State::Down).await;
            let said = trouble(&proxy.ask_admin("/pods").await.json(), "b");
            assert!(said.contains(&words), "{pod}: {said}");
            let shown = proxy.ask_admin("/overview").await.text().to_owned();
            assert!(shown.contains("Pod b is down") && shown.contains(&json!(said).to_string()[1..20]), "{shown}");
            for _ in 0..4 {
                let answer = proxy.client().get("/System/Info/Public").await;
                assert_eq!((answer.status, world.home(&answer)), (200, "a"));
            }
            proxy.stop().await;
            let (code, said) = Program::check(&settings, &folder);
            assert!(code == Some(2) && said.contains(&words), "{code:?} {said}");
        }
        for tls in [
            format!("pin = [{wrong:?}, {:?}]", other.fingerprint()),
            format!("ca = {:?}, server_name = \"pods.internal\"", other.file),
        ] {
            let proxy = world.replica(|settings| settings.set("pools.main.pods.b", &at_other.pod(&tls))).await;
            proxy.until_state("b", State::Ready).await;
            assert_eq!(trouble(&proxy.ask_admin("/pods").await.json(), "b"), "");
            proxy.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_whose_certificate_becomes_another_is_left_until_it_is_pinned() {
    story(World::plan(2).probe_interval(millis(100)).uncounted(), async |world| {
        let folder = world.folder().to_owned();
        let (first, second) = (Identity::new(&folder, &["first"]), Identity::new(&folder, &["second"]));
        let terminator = Terminator::before(world.pod("b").address(), &first).await;
        let mut settings = world.settings().clone();
        settings.set("reload.watch", "\"off\"");
        let pinned = |identity: &Identity| terminator.pod(&format!("pin = {:?}", identity.fingerprint()));
        settings.set("pools.main.pods.b", &pinned(&first));
        let program = Program::start(&settings, &folder).await;
        let operators = || Client::at_address(program.admin());
        let pod = async || {
            let pods = operators().get("/pods").await.json();
            pods.as_array().expect("pods").iter().find(|pod| pod["name"] == "b").expect("the pod").clone()
        };
        until_so("b is ready", async || pod().await["state"] == "ready").await;
        let epoch = pod().await["epoch"].clone();

        // What was connected before says nothing of whom the next connection reaches.
        terminator.show(&second);
        world.pod("b").kill().await;
        world.pod("b").start_again().await.expect("a start");
        until_so("b is not trusted", async || pod().await["trouble"].is_string()).await;
        until_so("b is down", async || pod().await["state"] == "down").await;
        until("the log says why", || program.log().contains(&second.fingerprint())).await;

        settings.set("pools.main.pods.b", &pinned(&second));
        program.rewrite(&settings);
        let answer = operators().post("/reload", Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        until_so("b is ready", async || pod().await["state"] == "ready").await;
        assert_eq!(pod().await["trouble"], Value::Null);
        assert_eq!(epoch, 1, "the pod is known from the start");
        drop(program);
    })
    .await;
}

#[tokio::test]
async fn a_pod_is_told_the_host_of_its_own() {
    let mut pod = HandPod::start().await;
    let plan = wire::before(&pod).changed(|settings| settings.set("pools.main.host", "\"jellyfin.internal\""));
    story(plan, async |world| {
        let mut end = wire::client(world).await;
        end.send("GET /x HTTP/1.1\r\nHost: media.example.org\r\n\r\n").await;
        let mut call = pod.call().await;
        assert_eq!(call.all("host"), ["jellyfin.internal"]);
        assert_eq!(call.all("x-forwarded-host"), ["media.example.org"]);
        call.reply("200 OK", "").await;
        assert_eq!(end.answer().await.status, 200);
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn pods_of_a_name_are_spoken_to_over_tls() {
    story(World::plan(1).uncounted(), async |world| {
        let own = Identity::new(world.folder(), &["localhost"]);
        let terminator = Terminator::before(world.pod("a").address(), &own).await;
        let port = terminator.address.port();
        let proxy = world
            .replica(|settings| {
                settings.remove_pod("a");
                let dns = format!("{{ name = \"localhost\", port = {port}, scheme = \"https\" }}");
                settings.set("pools.main.dns", &dns);
                settings.set("pools.main.tls", &format!("{{ ca = {:?} }}", own.file));
            })
            .await;
        proxy.until_state("127.0.0.1", State::Ready).await;
        assert_eq!(proxy.client().get("/System/Info/Public").await.status, 200);
        proxy.stop().await;
    })
    .await;
}
