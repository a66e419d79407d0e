//! Each way, before something that takes it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

use super::*;

fn machine() -> Machine {
    Machine { pool: "main".into(), pod: "nas".into() }
}

#[test]
fn a_mac_is_read_in_both_forms_and_nothing_else_is() {
    let mac = Some(Mac([2, 0, 0x5e, 0x10, 0, 0xab]));
    for text in ["02:00:5e:10:00:ab", "02-00-5E-10-00-AB"] {
        assert_eq!(Mac::parse(text), mac, "{text}");
    }
    for text in
        ["", "02:00:5e:10:00", "02:00:5e:10:00:ab:00", "02:00:5e:10:00:a", "02:00-5e:10:00:ab", "0g:00:5e:10:00:ab"]
    {
        assert_eq!(Mac::parse(text), None, "{text}");
    }
}

#[tokio::test]
async fn a_magic_packet_is_six_ones_and_the_address_sixteen_times() {
    let listener = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mac = Mac([2, 0, 0, 0, 0, 7]);
    let packet = Packet { mac, to: listener.local_addr().expect("an address") };
    let config = Config { packet: Some(packet), ..Config::default() };
    assert_eq!(run(&config, Act::Sleep, &machine()).await, Ok(()), "it puts nothing to sleep");
    assert_eq!(run(&config, Act::Wake, &machine()).await, Ok(()));
    let mut got = [0; 200];
    let length = listener.recv(&mut got).await.expect("a datagram");
    assert_eq!((length, &got[..6]), (102, &[0xff; 6][..]));
    assert!(got[6..102].chunks(6).all(|part| part == mac.0));
}

#[tokio::test]
async fn a_command_is_told_the_act_and_its_failure_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("said");
    let script = format!("echo $JELLYPIN_ACT $JELLYPIN_POD $JELLYPIN_POOL $0 > {}", file.display());
    let command =
        |words: &[&str]| Config { command: words.iter().map(|word| (*word).to_owned()).collect(), ..Config::default() };
    assert_eq!(run(&command(&["sh", "-c", &script]), Act::Sleep, &machine()).await, Ok(()));
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "sleep nas main sleep\n");
    let failed = run(&command(&["sh", "-c", "exit 3"]), Act::Wake, &machine()).await;
    assert_eq!(failed, Err("command: exit status: 3".to_owned()));
    assert!(run(&command(&["/nowhere/at/all"]), Act::Wake, &machine()).await.is_err());
}

#[tokio::test]
async fn a_webhook_gets_the_act_and_the_authorization() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let uri = format!("http://{}/wake?x=1", listener.local_addr().expect("an address")).parse().expect("a URI");
    let mut authorization = HeaderValue::from_static("Bearer something long");
    authorization.set_sensitive(true);
    let webhook = Webhook { method: Method::PUT, uri, authorization: Some(authorization) };
    let config = Config { webhook: Some(webhook), ..Config::default() };
    assert!(!format!("{config:?}").contains("something long"));
    for (answer, expected) in [("204 No Content", Ok(())), ("500 Oh", Err("webhook: it answered 500".to_owned()))] {
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (mut got, mut part) = (Vec::new(), [0; 1024]);
            while !got.ends_with(b"}") {
                let length = stream.read(&mut part).await.expect("bytes");
                got.extend_from_slice(&part[..length]);
            }
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("written");
            String::from_utf8(got).expect("text")
        };
        let machine = machine();
        let (done, got) = tokio::join!(run(&config, Act::Wake, &machine), serve);
        assert_eq!(done, expected);
        assert!(got.starts_with("PUT /wake?x=1 HTTP/1.1\r\n"), "{got}");
        assert!(got.contains("authorization: Bearer something long\r\n"), "{got}");
        assert!(got.ends_with(r#"{"act":"wake","pod":"nas","pool":"main"}"#), "{got}");
    }
}
