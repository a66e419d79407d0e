//! Reports of players are sent again though a pod may have had them: doing them twice does no harm.

use http::Method;
use jellyfin_sim::{FILM, Pod};
use jellypin::pod::State;

use crate::stories::world::{DEADLINE, World, body_of};

/// A client whose home is `a` and whose token `b` knows too, since `b` started after the log-in; `a` dies while it holds this
/// request. Gives the client's status and how often pods had the request.
async fn post_while_the_home_dies(path: &str) -> (u16, usize) {
    let world = World::of(2).await;
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
    let seen = times(a) + times(b);
    world.stop().await;
    (answer.expect("an answer").status, seen)
}

#[tokio::test]
async fn a_report_in_flight_is_taken_by_another_pod() {
    assert_eq!(post_while_the_home_dies("/Sessions/Playing/Progress").await, (204, 2));
}

#[tokio::test]
async fn the_end_of_a_film_is_not_lost_with_its_pod() {
    assert_eq!(post_while_the_home_dies("/Sessions/Playing/Stopped").await, (204, 2));
}

#[tokio::test]
async fn a_player_that_asks_how_to_play_is_answered_by_another_pod() {
    assert_eq!(post_while_the_home_dies(&format!("/Items/{FILM}/PlaybackInfo")).await, (200, 2));
}

#[tokio::test]
async fn the_beginning_of_a_film_is_not_counted_twice() {
    assert_eq!(post_while_the_home_dies("/Sessions/Playing").await, (502, 1));
}
