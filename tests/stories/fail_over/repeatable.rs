//! Reports of players are sent again though a pod may have had them: doing them twice does no harm.

use http::Method;
use jellyfin_sim::{FILM, Pod};
use jellypin::pod::State;

use crate::stories::world::{DEADLINE, World, body_of, story};

/// A client whose home is `a` and whose token `b` knows too, since `b` started after the log-in; `a` dies while it holds this
/// request. Gives the client's status and what pods were asked for then, one after the other.
async fn post_while_the_home_dies(path: &str) -> (u16, Vec<String>) {
    story(World::plan(2), async |world| {
        let mut number = 0;
        let mut client = loop {
            number += 1;
            let mut client = world.client().device(&format!("device {number}"));
            client.log_in("alice").await;
            if world.home(&client.get("/Users/Me").await) == "a" {
                break client;
            }
        };
        let b = world.pod("b");
        b.kill().await;
        world.until_state("b", State::Down).await;
        b.start_again().await.expect("a start");
        world.until_state("b", State::Ready).await;

        let a = world.pod("a");
        a.slow_first_byte(DEADLINE);
        let request = client.request(Method::POST, path).header("content-type", "application/json");
        let body = format!("{{\"ItemId\": \"{FILM}\", \"PositionTicks\": 70}}");
        let name = path.split('?').next().unwrap_or_default().to_owned();
        let times = |pod: &Pod| pod.seen().iter().filter(|seen| seen.path() == name).count();
        let killed = async {
            a.until(|pod| times(pod) == 1).await;
            a.kill().await;
        };
        let (answer, ()) = tokio::join!(client.send(request, body_of(body)), killed);
        let first = name.trim_start_matches('/').split('/').next().unwrap_or_default();
        let is_report = |path: &&str| path.trim_start_matches('/').starts_with(first);
        let seen = [a, b].map(|pod| pod.seen().iter().map(|seen| seen.path().to_owned()).collect::<Vec<_>>()).concat();
        let seen = seen.iter().map(String::as_str).filter(is_report).map(str::to_owned).collect();
        (answer.expect("an answer").status, seen)
    })
    .await
}

/// It is asked for twice, and the client hears of the second time.
async fn assert_taken_by_another(path: &str, status: u16) {
    assert_eq!(post_while_the_home_dies(path).await, (status, vec![path.to_owned(); 2]));
}

#[tokio::test]
async fn a_report_in_flight_is_taken_by_another_pod() {
    assert_taken_by_another("/Sessions/Playing/Progress", 204).await;
}

#[tokio::test]
async fn the_end_of_a_film_is_not_lost_with_its_pod() {
    assert_taken_by_another("/Sessions/Playing/Stopped", 204).await;
}

#[tokio::test]
async fn playback_info_is_answered_by_another_pod() {
    assert_taken_by_another(&format!("/Items/{FILM}/PlaybackInfo"), 200).await;
}

/// Kodi and mpv shim open a channel by a call of its own, and end where it fails.
#[tokio::test]
async fn a_channel_is_opened_by_another_pod() {
    assert_taken_by_another("/LiveStreams/Open", 200).await;
}

#[tokio::test]
async fn the_start_of_a_film_is_counted_once() {
    let seen = ["/Sessions/Playing", "/Sessions/Playing/Progress"].map(str::to_owned).to_vec();
    assert_eq!(post_while_the_home_dies("/Sessions/Playing").await, (204, seen));
}
