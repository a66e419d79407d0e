//! Certificates come from an authority by themselves, and nothing that goes wrong with that ends what is served.

mod authority;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use authority::{Authority, Manner, until_so};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, ring},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;

use super::{
    redis_server::RedisServer,
    replicas,
    world::{ANY_PORT, Certificate, Proxy, Settings, World, story},
};

const NAMES: [&str; 2] = ["media.example.org", "www.example.org"];

fn orders(settings: &mut Settings, authority: &Authority) {
    settings.https(authority.https);
    settings.set("tls.acme.email", "\"me@example.org\"");
    settings.set("tls.acme.domains", &format!("{NAMES:?}"));
    settings.set("tls.acme.directory", &format!("{:?}", authority.url()));
    settings.set("tls.acme.ca", &format!("{:?}", authority.ca().to_str().expect("a path")));
}

/// A proxy that has its certificate from this authority.
async fn world(authority: &Authority, change: impl FnOnce(&mut Settings)) -> World {
    let state = authority.folder().join("state");
    let plan = World::plan(1).uncounted().http(authority.http).state_path(state.to_str().expect("a path"));
    let plan = plan.changed(|settings| {
        orders(settings, authority);
        change(settings);
    });
    plan.start().await
}

/// Takes any certificate, and lets the story look at it.
#[derive(Debug)]
struct Anything(crypto::CryptoProvider);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that a client of this name is shown; `None` if there is none.
async fn shown(address: std::net::SocketAddr, name: &str) -> Option<CertificateDer<'static>> {
    shown_to(address, name, &[]).await
}

/// The same for one that speaks these protocols.
async fn shown_to(address: std::net::SocketAddr, name: &str, protocols: &[&[u8]]) -> Option<CertificateDer<'static>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(ring::default_provider())))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(address).await.ok()?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    stream.get_ref().1.peer_certificates()?.first().cloned().map(CertificateDer::into_owned)
}

/// Whether the authority has issued this certificate, for all names.
fn is_issued(certificate: &CertificateDer<'_>) -> bool {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
    let names = parsed.subject_alternative_name().ok().flatten().map(|names| format!("{:?}", names.value));
    let has = |name: &&str| names.as_deref().unwrap_or_default().contains(name);
    parsed.issuer().to_string().contains("Pebble") && NAMES.iter().all(has)
}

/// Waits for an issued certificate other than `before`.
async fn until_issued(
    address: std::net::SocketAddr,
    before: Option<&CertificateDer<'static>>,
) -> CertificateDer<'static> {
    let (began, mut issued) = (Instant::now(), None);
    until_so("a certificate is issued", async || {
        let shown = shown(address, NAMES[1]).await;
        issued = shown.filter(|certificate| is_issued(certificate) && before != Some(certificate));
        issued.is_some()
    })
    .await;
    println!("issued after {:?}", began.elapsed());
    issued.expect("it was just seen")
}

async fn ended(proxy: &Proxy, outcome: &str) -> f64 {
    proxy.metric("jellypin_acme_orders_total", &[("outcome", outcome)]).await
}

#[tokio::test]
async fn the_first_certificate_is_ordered_kept_for_its_owner_alone_and_used_after_a_restart() {
    let authority = Authority::started(Manner::default()).await;
    story(world(&authority, |_| ()).await, async |world| {
        let first = until_issued(authority.https, None).await;
        until_so("it is counted", async || ended(&world.proxy, "issued").await == 1.0).await;
        let expiry = async || world.proxy.metric("jellypin_certificate_expiry_timestamp_seconds", &[]).await;
        until_so("its end is shown", async || expiry().await > 1.7e9).await;
        let rights = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        let folder = authority.folder().join("state/acme");
        assert_eq!(rights(&folder), 0o700);
        for name in ["account.json", "certificate.pem"] {
            assert_eq!(rights(&folder.join(name)), 0o600, "{name}");
        }
        world.restart(|_| ()).await;
        world.proxy.has_uncounted_requests();
        assert_eq!(shown(authority.https, NAMES[0]).await, Some(first), "at once, and without another order");
        assert_eq!(ended(&world.proxy, "issued").await, 0.0);
    })
    .await;
}

#[tokio::test]
async fn an_authority_may_ask_over_tls() {
    let authority = Authority::started(Manner::default()).await;
    let by_tls = |settings: &mut Settings| settings.set("tls.acme.challenges", "[\"tls-alpn-01\"]");
    story(world(&authority, by_tls).await, async |_| {
        until_issued(authority.https, None).await;
    })
    .await;
}

#[tokio::test]
async fn a_certificate_is_renewed_while_clients_come_and_go() {
    let authority = Authority::started(Manner::default()).await;
    story(world(&authority, |_| ()).await, async |world| {
        let first = until_issued(authority.https, None).await;
        // The authority's certificates last for five years.
        world.restart(|settings| settings.set("tls.acme.renew_before", "\"9years\"")).await;
        world.proxy.has_uncounted_requests();
        let (is_over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..4).map(|_| {
            let (is_over, done, address) = (is_over.clone(), done.clone(), authority.https);
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    assert!(shown(address, NAMES[0]).await.is_some(), "a handshake failed");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        let (began, second) = (Instant::now(), until_issued(authority.https, Some(&first)).await);
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.expect("no handshake failed");
        }
        let per_second = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        println!("{} handshakes, {per_second:.0} a second, none failed", done.load(Ordering::Relaxed));
        assert_ne!(first, second);
        assert_eq!(ended(&world.proxy, "issued").await, 1.0, "once, whatever the configuration says");
    })
    .await;
}

#[tokio::test]
async fn a_refused_order_leaves_the_certificate_in_use() {
    let authority = Authority::started(Manner { asks_elsewhere: true, slow: 0 }).await;
    let (chain, key) = (authority.folder().join("own.pem"), authority.folder().join("own.key"));
    let own = rcgen::generate_simple_self_signed(["media.example.org".to_owned()]).expect("a certificate");
    fs::write(&chain, own.cert.pem()).expect("written");
    fs::write(&key, own.signing_key.serialize_pem()).expect("written");
    let has_own = |settings: &mut Settings| settings.certificates(&[Certificate { chain, key }]);
    story(world(&authority, has_own).await, async |world| {
        let began = Instant::now();
        until_so("the order is refused", async || ended(&world.proxy, "refused").await == 1.0).await;
        println!("refused after {:?}", began.elapsed());
        assert_eq!(shown(authority.https, NAMES[0]).await.as_ref(), Some(own.cert.der()));
        assert_eq!(world.client().get("/System/Info/Public").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn an_authority_that_was_away_is_asked_again() {
    let mut authority = Authority::absent();
    let world = world(&authority, |_| ()).await;
    story(world, async |world| {
        until_so("it is away", async || ended(&world.proxy, "away").await >= 1.0).await;
        assert_eq!(world.client().get("/System/Info/Public").await.status, 200);
        authority.start(Manner::default()).await;
        until_issued(authority.https, None).await;
    })
    .await;
}

#[tokio::test]
async fn a_restart_in_the_middle_of_an_order_goes_on_with_the_same_account() {
    let authority = Authority::started(Manner { asks_elsewhere: false, slow: 3 }).await;
    story(world(&authority, |_| ()).await, async |world| {
        let file = authority.folder().join("state/acme/account.json");
        until_so("there is an account", async || file.exists()).await;
        let account = fs::read(&file).expect("an account");
        assert!(shown(authority.https, NAMES[0]).await.is_none(), "the order is under way");
        world.restart(|_| ()).await;
        world.proxy.has_uncounted_requests();
        until_issued(authority.https, None).await;
        assert_eq!(fs::read(&file).expect("an account"), account);
    })
    .await;
}

#[tokio::test]
async fn of_two_replicas_one_orders_for_both() {
    let (redis, authority) = (RedisServer::start(), Authority::started(Manner::default()).await);
    let plan = replicas::plan(1, &redis).uncounted().http(authority.http);
    let plan = plan.changed(|settings| orders(settings, &authority));
    story(plan, async |world| {
        let other = world.replica(|settings| {
            settings.http(ANY_PORT);
            settings.https(ANY_PORT);
        });
        let other = other.await;
        other.has_uncounted_requests();
        let one = until_issued(authority.https, None).await;
        assert_eq!(until_issued(other.addresses[1], None).await, one, "both show the same one");
        let both = async || ended(&world.proxy, "issued").await + ended(&other, "issued").await;
        until_so("one of them has ordered", async || both().await == 1.0).await;
        drop(other);
    })
    .await;
    drop(redis);
}

#[tokio::test]
async fn what_others_write_into_redis_answers_no_authority() {
    let (redis, authority) = (RedisServer::start(), Authority::absent());
    let token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    redis.command(&["SET", &format!("jellypin:acme:http:{token}"), &format!("{token}.thumbprint")]);
    redis.command(&["SET", "jellypin:acme:tls", &format!("{} {}", NAMES[0], "ab".repeat(32))]);
    let plan = replicas::plan(1, &redis).uncounted().http(authority.http);
    let plan = plan.changed(|settings| orders(settings, &authority));
    story(plan, async |world| {
        replicas::until_up(&world.proxy).await;
        let asked = world.client().get(&format!("/.well-known/acme-challenge/{token}")).await;
        assert_eq!((asked.status, asked.text().contains("thumbprint")), (404, false));
        // After the first attempt another look at what replicas have to answer.
        until_so("the authority is away", async || ended(&world.proxy, "away").await >= 1.0).await;
        let reads = || {
            let all = redis.text(&["INFO", "commandstats"]);
            let of_get = all.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
            of_get.and_then(|rest| rest.split(',').next()?.parse::<usize>().ok()).unwrap_or_default()
        };
        let before = reads();
        until_so("it has looked again", async || reads() >= before + 2).await;
        assert_eq!(shown_to(authority.https, NAMES[0], &[b"acme-tls/1"]).await, None);
    })
    .await;
    drop(redis);
}
