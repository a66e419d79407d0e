//! TLS: the certificate that the client asks for, the protocol that both speak, and no harm from those who speak none.

use std::{path::Path, sync::Arc};

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jellyfin_sim::{BULK, bulk_bytes};
use rcgen::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    sockets::greeting_over,
    wire::{self, End, HandPod, SOON},
    world::{ANY_PORT, Certificate, Plan, World, secs, story},
};

/// Writes a certificate for these names.
fn certificate(folder: &Path, names: &[&str]) -> (Certificate, CertificateDer<'static>) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let (chain, key) = (folder.join(format!("{}.pem", names[0])), folder.join(format!("{}.key", names[0])));
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).expect("a certificate");
    std::fs::write(&chain, cert.pem()).expect("written");
    std::fs::write(&key, signing_key.serialize_pem()).expect("written");
    (Certificate { chain, key }, cert.der().clone())
}

/// Certificates of two sites, and a client that trusts both.
struct Sites {
    _folder: tempfile::TempDir,
    certificates: [Certificate; 2],
    first: CertificateDer<'static>,
    second: CertificateDer<'static>,
}

impl Sites {
    fn new() -> Sites {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, first) = certificate(folder.path(), &["media.example.org", "localhost"]);
        let (two, second) = certificate(folder.path(), &["other.example.net", "*.wild.example.net"]);
        Sites { _folder: folder, certificates: [one, two], first, second }
    }

    fn of(&self, plan: Plan) -> Plan {
        plan.https(ANY_PORT).certificates(&self.certificates)
    }

    fn client(&self, protocols: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.first.clone()).expect("a root");
        roots.add(self.second.clone()).expect("a root");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    async fn connect(&self, world: &World, name: &str, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address(world)).await?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        TlsConnector::from(Arc::new(self.client(protocols))).connect(name, stream).await
    }
}

fn address(world: &World) -> std::net::SocketAddr {
    world.proxy.addresses[1]
}

/// The certificate that was shown, and the protocol agreed on.
fn agreed(stream: &TlsStream<TcpStream>) -> (Option<CertificateDer<'static>>, Option<String>) {
    let (_, session) = stream.get_ref();
    let shown = session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.clone().into_owned());
    (shown, session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()))
}

#[tokio::test]
async fn the_name_that_the_client_asks_for_picks_the_certificate() {
    let sites = Sites::new();
    story(sites.of(World::plan(1)).uncounted(), async |world| {
        for (name, expected) in [
            ("media.example.org", &sites.first),
            ("other.example.net", &sites.second),
            ("OTHER.example.net", &sites.second),
            ("a.wild.example.net", &sites.second),
            ("localhost", &sites.first),
        ] {
            let stream = sites.connect(world, name, &[]).await.expect("a handshake");
            assert_eq!(agreed(&stream).0.as_ref(), Some(expected), "{name}");
        }
        // An unknown name is shown the first one, which the client then refuses.
        let error = sites.connect(world, "unknown.example.com", &[]).await.expect_err("a certificate of another name");
        assert!(error.to_string().contains("media.example.org"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn http_2_is_spoken_where_the_client_offers_it() {
    let sites = Sites::new();
    story(sites.of(World::plan(1)).uncounted(), async |world| {
        for (offered, expected) in [
            (&["h2", "http/1.1"][..], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&["http/1.0"], Some("http/1.0")),
            (&["http/1.1", "h2"], Some("h2")),
            (&[], None),
        ] {
            let stream = sites.connect(world, "localhost", offered).await.expect("a handshake");
            assert_eq!(agreed(&stream).1.as_deref(), expected, "{offered:?}");
        }
        let refused = sites.connect(world, "localhost", &["spdy/3"]).await;
        assert!(refused.is_err(), "there is no protocol in common");

        let stream = sites.connect(world, "localhost", &["h2"]).await.expect("a handshake");
        let (mut requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("a handshake");
        tokio::spawn(async move { drop(connection.await) });
        let uri = format!("https://localhost/Videos/{BULK}/stream?static=true");
        let request = http::Request::get(uri)
            .header("range", "bytes=0-299999")
            .body(Empty::<bytes::Bytes>::new())
            .expect("a request");
        let answer = requests.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), 206);
        assert!(answer.into_body().collect().await.expect("whole").to_bytes() == bulk_bytes(0, 300_000));
        drop(requests);
    })
    .await;
}

#[tokio::test]
async fn pod_and_cookie_know_of_tls() {
    let sites = Sites::new();
    let mut pod = HandPod::start().await;
    story(sites.of(wire::before(&pod)), async |world| {
        let request = "GET /x HTTP/1.1\r\nHost: media.example.org\r\nX-Forwarded-Proto: http\r\n\r\n";
        let mut end = End::over(sites.connect(world, "media.example.org", &["http/1.1"]).await.expect("a handshake"));
        end.send(request).await;
        let mut call = pod.call().await;
        assert_eq!(call.field("x-forwarded-proto"), Some("https"));
        call.reply("200 OK", "").await;
        let answer = end.answer().await;
        let cookie = answer.field("set-cookie").expect("a cookie");
        assert!(cookie.split("; ").any(|part| part == "Secure"), "{cookie}");

        drop((end, call));

        let mut plain = wire::client(world).await;
        plain.send(request.replace("Proto: http", "Proto: https")).await;
        // Another worker may serve this one, over a connection of its own to the pod.
        let mut call = pod.call().await;
        assert_eq!(call.all("x-forwarded-proto"), ["http"], "a stranger is not believed");
        call.reply("200 OK", "").await;
        let answer = plain.answer().await;
        let cookie = answer.field("set-cookie").expect("a cookie");
        assert!(!cookie.contains("Secure"), "{cookie}");
        drop((plain, call));
    })
    .await;
}

#[tokio::test]
async fn addresses_shown_over_tls_are_https() {
    let sites = Sites::new();
    story(sites.of(World::plan(1)).uncounted(), async |world| {
        let mut end = End::over(sites.connect(world, "media.example.org", &["http/1.1"]).await.expect("a handshake"));
        end.send("GET /System/Info/Public HTTP/1.1\r\nHost: media.example.org:8920\r\n\r\n").await;
        let answer = end.answer().await.text();
        assert!(answer.contains("\"LocalAddress\":\"https://media.example.org:8920\""), "{answer}");
        drop(end);
    })
    .await;
}

#[tokio::test]
async fn a_socket_opens_over_tls() {
    let sites = Sites::new();
    story(sites.of(World::plan(1)).uncounted(), async |world| {
        let mut client = world.client();
        assert_eq!(client.log_in("user1").await.status, 200);
        let stream = sites.connect(world, "localhost", &["http/1.1"]).await.expect("a handshake");
        let greeting = greeting_over(stream, &client.token.clone().expect("a token")).await;
        assert!(greeting.contains("ForceKeepAlive"), "{greeting}");
        drop(client);
    })
    .await;
}

#[tokio::test]
async fn clients_without_tls_do_no_harm() {
    let sites = Sites::new();
    let plan = sites.of(World::plan(1)).client_header(secs(1));
    story(plan.uncounted(), async |world| {
        let hello =
            [&b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03"[..], &[7; 32], b"\0\0\x02\x13\x01\x01\0\0\0"].concat();
        let shouts: [(&str, &[u8]); 7] = [
            ("cleartext", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
            ("HTTP/2 in cleartext", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            ("nothing", b""),
            ("half a hello", &hello[..20]),
            ("a hello that is nonsense", &hello),
            ("a record that is too long", b"\x16\x03\x01\xff\xff\x01\x02"),
            ("random bytes", b"\xde\xad\xbe\xef\x00\x01\x02"),
        ];
        for (what, bytes) in shouts {
            let mut end = End::connect(address(world)).await;
            end.send(bytes).await;
            println!("{what}: {:?}", end.ended(SOON * 3).await);
        }
        assert!(
            world.pods[0].seen().iter().all(|seen| seen.path() == "/health" || seen.path() == "/System/Info/Public")
        );
        sites.connect(world, "localhost", &[]).await.expect("others are served");
    })
    .await;
}

#[tokio::test]
async fn clear_http_on_the_tls_port_gets_a_hint() {
    let sites = Sites::new();
    story(sites.of(World::plan(1)).uncounted(), async |world| {
        for request in [
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(1_000_000)),
        ] {
            let mut end = End::connect(address(world)).await;
            end.send(request).await;
            let answer = end.answer().await;
            assert_eq!((answer.status, answer.is_whole), (400, true));
            assert!(answer.text().contains("HTTPS"), "{}", answer.text());
            end.finish().await;
            assert_eq!(end.ended(SOON).await, wire::Ended::Closed);
        }
        assert_eq!(world.proxy.metric("jellypin_rejected_total", &[("why", "clear_http")]).await, 2.0);
    })
    .await;
}

#[tokio::test]
async fn requests_in_clear_are_sent_to_https() {
    let sites = Sites::new();
    let plan = sites.of(World::plan(1)).redirect("on").changed(|settings| settings.set("tls.redirect_port", "443"));
    story(plan.uncounted(), async |world| {
        let mut end = wire::client(world).await;
        for (request, location) in [
            ("GET /web/?a=1&b=%20x HTTP/1.1\r\n", "https://media.example.org/web/?a=1&b=%20x"),
            ("POST /Users/AuthenticateByName HTTP/1.1\r\n", "https://media.example.org/Users/AuthenticateByName"),
            ("GET /System/Info/Public HTTP/1.1\r\n", "https://media.example.org/System/Info/Public"),
            ("GET / HTTP/1.1\r\nX-Forwarded-Proto: https\r\n", "https://media.example.org/"),
        ] {
            end.send(format!("{request}Host: media.example.org:8096\r\nContent-Length: 0\r\n\r\n")).await;
            let answer = end.answer().await;
            assert_eq!((answer.status, answer.field("location")), (308, Some(location)), "{request}");
            assert_eq!(answer.field("strict-transport-security"), None);
        }
        end.send("GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: media.example.org\r\n\r\n").await;
        assert_eq!(end.answer().await.status, 404, "an authority asks in clear");
        assert!(world.pods[0].seen().iter().all(|seen| !seen.path().starts_with("/web")));
        drop(end);

        let mut end = End::over(sites.connect(world, "media.example.org", &["http/1.1"]).await.expect("a handshake"));
        end.send("GET /System/Info/Public HTTP/1.1\r\nHost: media.example.org\r\n\r\n").await;
        assert_eq!(end.answer().await.status, 200);
        drop(end);
    })
    .await;
}

#[tokio::test]
async fn apps_may_look_for_the_server_in_clear_and_browsers_stay_at_https() {
    let sites = Sites::new();
    let plan = sites.of(World::plan(1)).redirect("except-discovery").hsts("180days");
    story(plan.uncounted(), async |world| {
        let mut end = wire::client(world).await;
        for (path, status) in [("/System/Info/Public", 200), ("/web/", 308)] {
            end.send(format!("GET {path} HTTP/1.1\r\nHost: media.example.org\r\n\r\n")).await;
            let answer = end.answer().await;
            assert_eq!((answer.status, answer.field("strict-transport-security")), (status, None), "{path}");
        }
        drop(end);
        let mut end = End::over(sites.connect(world, "media.example.org", &["http/1.1"]).await.expect("a handshake"));
        end.send("GET /nowhere HTTP/1.1\r\nHost: media.example.org\r\n\r\n").await;
        assert_eq!(end.answer().await.field("strict-transport-security"), Some("max-age=15552000"));
        drop(end);
    })
    .await;
}
