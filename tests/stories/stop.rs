//! The proxy stops without harm to what is under way.

use jellypin::websocket::CloseStyle;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use jellyfin_sim::BULK;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError, protocol::frame::coding::CloseCode};

use super::world::{Socket, World, body_of, millis, secs, story, until, until_so};

/// Bytes of the download that is under way while the proxy stops: far more than all buffers between hold.
const LENGTH: usize = 30_000_000;

#[tokio::test]
async fn a_download_under_way_ends_whole() {
    story(World::plan(1).build(|pod| pod.bulk_size(LENGTH as u64)), async |world| {
        let (address, admin) = (world.proxy.address, world.proxy.admin);
        let mut client = world.client();
        let request = client.request(Method::GET, &format!("/Videos/{BULK}/stream?static=true"));
        let mut body = client.open(request, body_of("")).await.expect("an answer").into_body();
        let mut received = 0;
        let mut operators = world.proxy.operators();
        let downloaded = async {
            // The proxy is told to stop while the client has read next to nothing.
            until_so("newcomers are refused", async || TcpStream::connect(address).await.is_err()).await;
            let ready = operators.get("/ready").await;
            assert_eq!((ready.status, ready.text()), (503, "stopping\n"), "{admin} still answers");
            while let Some(frame) = body.frame().await {
                received += frame.expect("nothing breaks").into_data().map_or(0, |data| data.len());
            }
            assert_eq!(received, LENGTH);
        };
        let began = Instant::now();
        tokio::join!(world.proxy.stop(), downloaded);
        assert!(began.elapsed() < Duration::from_secs(8), "it does not wait for the time-out once all is ended");
    })
    .await;
}

#[tokio::test]
async fn a_kept_connection_ends_at_once() {
    story(World::plan(1), async |world| {
        let mut clients: Vec<_> = (0..10).map(|_| world.client()).collect();
        join_all(clients.iter_mut().map(|client| client.get("/System/Info/Public"))).await;
        let began = Instant::now();
        world.proxy.stop().await;
        assert!(began.elapsed() < Duration::from_secs(2), "idle connections hold nobody up: {:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn late_answers_are_cut_at_the_drain_timeout() {
    story(World::plan(1).drain_timeout(millis(300)), async |world| {
        let mut client = world.client();
        let request = client.request(Method::GET, &format!("/Videos/{BULK}/stream?static=true"));
        let mut body = client.open(request, body_of("")).await.expect("an answer").into_body();
        let began = Instant::now();
        world.proxy.stop().await;
        let took = began.elapsed();
        assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&took), "{took:?}");
        let end = async {
            loop {
                match body.frame().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => return,
                    None => panic!("ten gigabytes did not come in {took:?}"),
                }
            }
        };
        end.await;
    })
    .await;
}

/// Opens sockets, stops the proxy, and gives the time and the last word of each.
async fn stop_with_sockets(close: CloseStyle) -> Vec<(Duration, Result<Message, Error>)> {
    let plan = World::plan(2).close_style(close).stop_stagger(secs(1));
    story(plan, async |world| {
        let mut sockets: Vec<Socket> = Vec::new();
        for number in 0..12 {
            let mut client = world.client();
            client.log_in(&format!("user{number}")).await;
            sockets.push(client.socket("/socket").await.expect("a socket"));
        }
        let open = || world.pods.iter().map(jellyfin_sim::Pod::open_sockets).sum::<usize>();
        until("all sockets are open", || open() == 12).await;
        let began = Instant::now();
        let ends = sockets.iter_mut().map(async |socket| {
            loop {
                match socket.next().await.expect("a last word") {
                    Ok(Message::Text(_) | Message::Ping(_)) => {}
                    last => return (began.elapsed(), last),
                }
            }
        });
        let (ends, ()) = tokio::join!(join_all(ends), world.proxy.stop());
        ends
    })
    .await
}

fn is_staggered(ends: &[(Duration, Result<Message, Error>)]) {
    let times: Vec<_> = ends.iter().map(|(time, _)| *time).collect();
    println!("sockets ended after {times:?}");
    assert!(times.iter().all(|time| *time < Duration::from_millis(2500)), "{times:?}");
    let distinct: BTreeSet<_> = times.iter().map(|time| time.as_millis() / 20).collect();
    assert!(distinct.len() >= 5, "not all at once: {times:?}");
}

#[tokio::test]
async fn sockets_end_one_by_one_without_a_close_frame() {
    let ends = stop_with_sockets(CloseStyle::Abrupt).await;
    is_staggered(&ends);
    for (_, last) in &ends {
        let is_abrupt =
            matches!(last, Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_)));
        assert!(is_abrupt, "{last:?}");
    }
}

#[tokio::test]
async fn sockets_end_with_a_close_frame_if_configured() {
    let ends = stop_with_sockets(CloseStyle::Clean).await;
    is_staggered(&ends);
    for (_, last) in &ends {
        let Ok(Message::Close(Some(frame))) = last else { panic!("{last:?}") };
        assert_eq!(frame.code, CloseCode::Away);
    }
}
