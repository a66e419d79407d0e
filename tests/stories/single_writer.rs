//! The build in which one pod writes the catalogue: clients of any pod see a single server.

mod hls;
mod lead;

use futures_util::future::join_all;
use http::{Method, header};
use jellyfin_sim::{FILM, Generation, Pod};
use jellypin::pod::State;
use serde_json::{Value, json};

use super::world::{Answer, Client, Plan, World, body_of, millis, secs, story, until, until_so};

/// A world of pods of that build, whose proxy has their API key. The first pod writes.
fn build(pods: usize) -> Plan {
    World::plan(pods)
        .with_api_key()
        .build(|pod| pod.generation(Generation::V10_11).single_writer(true).fail_over(millis(300)))
}

/// A client that is signed in and whose home follows.
async fn of_follower(world: &World, user: &str) -> (Client, String) {
    let mut client = world.client().without_cookies().device("desk");
    let home = world.home(&client.log_in(user).await).to_owned();
    if world.cluster.writer().as_ref() == Some(&home) {
        let other = world.pods.iter().find(|pod| pod.name() != home).expect("another pod");
        world.cluster.move_writer(other.name());
    }
    (client, home)
}

fn writer(world: &World) -> String {
    world.cluster.writer().expect("a writer")
}

async fn send(client: &mut Client, method: Method, path: &str, kind: &'static str, body: &str) -> Answer {
    let request = client.request(method, path).header(header::CONTENT_TYPE, kind);
    client.send(request, body_of(body.to_owned())).await.expect("an answer")
}

/// The document of an item with another overview, as an editor sends it.
async fn edited(client: &mut Client, world: &World, overview: &str) -> Value {
    let root = world.cluster.user_id("root").expect("root");
    let mut film = client.get(&format!("/Items/{FILM}?userId={root}")).await.json();
    film["Overview"] = overview.into();
    film
}

fn overview(world: &World) -> Value {
    world.cluster.item(FILM).expect("the film")["Overview"].clone()
}

/// A picture of one point.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// One act of each kind that a follower cannot do.
struct Writes {
    round: &'static str,
    /// Method, path, kind of body, body. None depends on another.
    rows: Vec<(Method, String, &'static str, String)>,
    doomed: String,
    libraries: usize,
}

impl Writes {
    /// Reads and makes what they need.
    async fn new(world: &World, root: &mut Client, round: &'static str) -> Writes {
        let json = "application/json";
        let updates = r#"{"Updates":[{"Path":"/jellyfin/media","UpdateType":"Modified"}]}"#;
        let document = edited(root, world, round).await.to_string();
        let doomed = world.cluster.add_film(&format!("Doomed {round}"), secs(60));
        let subtitle = json!({"Language": round, "Format": "srt", "IsForced": false, "Data": "eA=="}).to_string();
        let thumb = format!("/Items/{FILM}/Images/Thumb");
        assert_eq!(send(root, Method::POST, &thumb, "image/png", PICTURE).await.status, 204);
        let mut system = root.get("/System/Configuration").await.json();
        system["ServerName"] = format!("Home {round}").into();
        let post = |path: String, body: String| (Method::POST, path, json, body);
        let rows = vec![
            post("/Library/Refresh".into(), String::new()),
            post("/ScheduledTasks/Running/7738148ffcd07979c7ceb148e06b3aed".into(), String::new()),
            post(format!("/Items/{FILM}/Refresh"), String::new()),
            post("/Library/Media/Updated".into(), updates.into()),
            (Method::POST, format!("/Items/{FILM}/Images/Logo"), "image/png", PICTURE.into()),
            (Method::DELETE, thumb, json, String::new()),
            post(format!("/Items/{FILM}"), document),
            (Method::DELETE, format!("/Items/{doomed}"), json, String::new()),
            post(format!("/Library/VirtualFolders?name=Shows{round}&paths=/shows"), String::new()),
            post(format!("/Playlists?name={round}"), String::new()),
            post(format!("/Collections?name={round}"), String::new()),
            post(format!("/Videos/{FILM}/Subtitles"), subtitle),
            post("/System/Configuration".into(), system.to_string()),
            post("/System/Configuration/branding".into(), json!({"LoginDisclaimer": round}).to_string()),
        ];
        Writes { round, rows, doomed, libraries: world.pods[0].libraries().len() }
    }

    /// What they say stands in the database and in the settings, once.
    async fn are_done(&self, world: &World) {
        let film = world.cluster.item(FILM).expect("the film");
        assert_eq!(film["Overview"], self.round);
        let subtitles = film["Subtitles"].as_array().cloned().unwrap_or_default();
        assert_eq!(subtitles.iter().filter(|language| **language == self.round).count(), 1, "once: {subtitles:?}");
        assert!(world.cluster.item(&self.doomed).is_none());
        let (now, shows) = (world.pods[0].libraries(), format!("Shows{}", self.round));
        assert!(now.contains(&shows) && now.len() == self.libraries + 1, "once: {now:?}");
        let name = format!("Home {}", self.round);
        let has_settings = |pod: &&Pod| {
            let (system, branding) = (pod.document("system"), pod.document("branding"));
            system.is_some_and(|system| system["ServerName"] == name)
                && branding.is_some_and(|branding| branding["LoginDisclaimer"] == self.round)
        };
        let living = || world.pods.iter().filter(|pod| pod.is_running());
        until("every living pod has the settings", || living().all(|pod| has_settings(&pod))).await;
    }
}

/// Asks for each write of the catalogue once, and wants it done by the writer alone.
async fn write_all(world: &World, root: &mut Client, round: &'static str) {
    let writes = Writes::new(world, root, round).await;
    for (method, path, kind, body) in &writes.rows {
        let answer = send(root, method.clone(), path, kind, body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        assert_eq!(world.saw(&answer), [writer(world)], "{method} {path}");
    }
    writes.are_done(world).await;
    let repositories = json!([{"Name": round, "Url": "http://h/manifest.json", "Enabled": true}]);
    let answer = root.post("/Repositories", repositories.clone()).await;
    assert_eq!((answer.status, world.saw(&answer)), (204, vec![&*writer(world)]));
    let has = |pod: &Pod| pod.document("system").is_some_and(|system| system["PluginRepositories"] == repositories);
    until("every living pod has them", || world.pods.iter().filter(|pod| pod.is_running()).all(has)).await;
}

#[tokio::test]
async fn an_administrator_of_a_follower_writes_as_on_a_single_server() {
    story(build(3), async |world| {
        let (mut root, _) = of_follower(world, "root").await;
        write_all(world, &mut root, "one").await;
        // Another pod has got the lock, and nobody says so.
        let other = world.pods.iter().map(|pod| pod.name().to_owned()).find(|name| *name != writer(world));
        world.cluster.move_writer(&other.expect("another pod"));
        write_all(world, &mut root, "two").await;
    })
    .await;
}

#[tokio::test]
async fn while_the_writer_is_gone_a_write_waits_for_the_next_one_and_is_done_once() {
    story(build(3).build(|pod| pod.fail_over(millis(1500))), async |world| {
        let (mut root, home) = of_follower(world, "root").await;
        assert_eq!(
            root.post(&format!("/Items/{FILM}"), edited(&mut root.twin(), world, "before").await).await.status,
            204
        );
        let old = writer(world);
        let document = edited(&mut root, world, "while").await;
        world.pod(&old).kill().await;
        let mut twin = root.twin();
        let library = async { twin.post("/Library/VirtualFolders?name=Shows&paths=/shows", json!({})).await };
        let path = format!("/Items/{FILM}");
        let (edit, library) = tokio::join!(root.post(&path, document), library);
        assert_eq!((edit.status, library.status), (204, 204), "{}", library.text());
        assert_ne!(writer(world), old);
        for answer in [&edit, &library] {
            assert_eq!(world.saw(answer), [writer(world)], "the home is {home}");
        }
        assert_eq!(overview(world), "while");
        assert_eq!(world.pod(&home).libraries(), ["Movies", "Shows"]);
        world.pod(&old).start_again().await.expect("its own port");
        world.until_state(&old, State::Ready).await;
        write_all(world, &mut root, "after").await;
    })
    .await;
}

#[tokio::test]
async fn each_write_that_is_asked_for_while_no_pod_writes_is_done_once_by_the_next_writer() {
    story(build(3).build(|pod| pod.fail_over(millis(1500))), async |world| {
        let (mut root, _) = of_follower(world, "root").await;
        let writes = Writes::new(world, &mut root, "gap").await;
        let old = writer(world);
        world.pod(&old).kill().await;
        let asked = writes.rows.iter().map(|(method, path, kind, body)| {
            let mut twin = root.twin();
            async move { (format!("{method} {path}"), send(&mut twin, method.clone(), path, kind, body).await) }
        });
        let answers = join_all(asked).await;
        assert_ne!(writer(world), old);
        for (what, answer) in &answers {
            assert!((200..300).contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
            assert_eq!(world.saw(answer), [writer(world)], "{what}");
        }
        writes.are_done(world).await;
        println!("{} kinds of writes while no pod writes: all 2xx, each done once", answers.len());
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_is_slow_still_writes() {
    story(build(2), async |world| {
        let (mut root, home) = of_follower(world, "root").await;
        // The writer knows her, and jellypin knows who writes.
        assert_eq!(root.post("/Library/Media/Updated", json!({"Updates": []})).await.status, 204);
        let document = edited(&mut root, world, "slow").await;
        // As a pod that is cold, or starved by a transcode. Its health check answers.
        world.pod(&writer(world)).slow_first_byte(millis(2_200));
        let answer = root.post(&format!("/Items/{FILM}"), document).await;
        assert_eq!((answer.status, world.saw(&answer)), (204, vec![&*writer(world)]));
        assert_eq!(overview(world), "slow");
        world.pod(&writer(world)).slow_first_byte(secs(0));
        let answer = root.get("/Genres/X").await;
        assert_eq!((answer.status, world.saw(&answer).last().copied()), (200, Some(&*home)));
    })
    .await;
}

#[tokio::test]
async fn what_shows_a_new_library_only_after_a_restart_is_named() {
    story(build(3), async |world| {
        let (mut root, _) = of_follower(world, "root").await;
        assert_eq!(root.post("/Library/VirtualFolders?name=Shows&paths=/shows", json!({})).await.status, 204);
        let of_library = |line: &Value| line["http.path"] == "/Library/VirtualFolders";
        let line = || world.proxy.lines().into_iter().find(of_library);
        until("the access line is written", || line().is_some()).await;
        let told = line().expect("a line")["fan_out"].as_str().unwrap_or_default().to_owned();
        for pod in &world.pods {
            let follows = pod.name() != writer(world);
            assert_eq!(told.contains(&format!("{}=needs_restart", pod.name())), follows, "{told}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_write_that_no_pod_can_do_is_refused_in_time_and_no_follower_sees_it() {
    story(build(2).hold(millis(400)).build(|pod| pod.fail_over(secs(600))), async |world| {
        let (mut root, home) = of_follower(world, "root").await;
        let document = edited(&mut root, world, "never").await;
        world.pod(&writer(world)).kill().await;
        let answer = root.post(&format!("/Items/{FILM}"), document).await;
        assert_eq!(answer.status, 503);
        assert!(answer.headers.contains_key(header::RETRY_AFTER));
        assert!(world.saw(&answer).is_empty(), "{home} follows");
        assert_eq!(overview(world), Value::Null);
        assert_eq!(root.get("/Users/Me").await.status, 200, "the follower serves what it can");
    })
    .await;
}

#[tokio::test]
async fn an_edit_is_done_though_the_seat_moved_to_a_pod_that_was_not_asked_yet() {
    story(build(2), async |world| {
        world.cluster.move_writer("a");
        world.pod("b").kill().await;
        world.pod("a").clear_seen();
        // jellypin begins while the writer is alone.
        world.restart(|_| {}).await;
        until("it was asked", || questions(world)[0] >= 1).await;
        let mut root = world.client().without_cookies().device("desk");
        assert_eq!(world.home(&root.log_in("root").await), "a");
        world.cluster.move_writer("b");
        world.pod("b").start_again().await.expect("its own port");
        world.until_state("b", State::Ready).await;
        until("it was asked too", || questions(world)[1] >= 1).await;
        let document = edited(&mut root.twin(), world, "moved").await;
        let answer = root.post(&format!("/Items/{FILM}"), document).await;
        assert_eq!((answer.status, world.saw(&answer)), (204, vec!["b"]));
        assert_eq!(overview(world), "moved");
    })
    .await;
}

#[tokio::test]
async fn a_user_whom_the_writer_has_never_seen_gets_views_from_a_follower() {
    story(build(2), async |world| {
        let (mut alice, home) = of_follower(world, "alice").await;
        let user = world.cluster.user_id("alice").expect("alice");
        for path in [
            format!("/UserViews?userId={user}"),
            format!("/Items?recursive=true&userId={user}"),
            format!("/UserItems/Resume?userId={user}"),
            "/Genres/X".to_owned(),
            "/Studios/X".to_owned(),
            "/Years/1999".to_owned(),
            "/Artists/X".to_owned(),
        ] {
            let answer = alice.get(&path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(world.saw(&answer).last().copied(), Some(&*home), "{path}: the follower's own answer");
        }
        let answer = alice.get("/Users/Me").await;
        assert_eq!(world.home(&answer), home, "alice lives where she lived");
    })
    .await;
}

#[tokio::test]
async fn the_writer_judges_by_the_callers_own_right() {
    story(build(2), async |world| {
        let (mut alice, _) = of_follower(world, "alice").await;
        let answer = alice.post(&format!("/Items/{FILM}"), json!({"Name": "Stolen"})).await;
        assert_eq!((answer.status, world.saw(&answer)), (403, vec![&*writer(world)]));
        let mut stranger = world.client().without_cookies().device("stranger");
        let answer = stranger.post(&format!("/Items/{FILM}"), json!({"Name": "Stolen"})).await;
        assert_eq!(answer.status, 401);
        stranger.token = Some("0123456789abcdef0123456789abcdef".to_owned());
        assert_eq!(stranger.post("/Library/VirtualFolders?name=X", json!({})).await.status, 401);
        assert_ne!(world.cluster.item(FILM).expect("the film")["Name"], "Stolen");
        assert_eq!(world.pods[0].libraries(), ["Movies"]);
        // A program with an API key, such as one that adds films.
        let mut program = world.client().without_cookies();
        program.token = Some(world.cluster.api_key());
        let answer = program.post("/Library/Media/Updated", json!({"Updates": []})).await;
        assert_eq!((answer.status, world.saw(&answer)), (204, vec![&*writer(world)]));
    })
    .await;
}

#[tokio::test]
async fn a_named_writer_is_believed_and_none_is_looked_for_where_it_is_off() {
    story(build(2).writer("b"), async |world| {
        world.cluster.move_writer("b");
        let mut root = world.client().without_cookies().device("desk");
        root.log_in("root").await;
        let answer = root.post(&format!("/Items/{FILM}"), edited(&mut root.twin(), world, "named").await).await;
        assert_eq!((answer.status, world.saw(&answer)), (204, vec!["b"]));
        assert!(questions(world).iter().all(|count| *count == 0));
    })
    .await;
    story(build(2).writer("off"), async |world| {
        let (mut root, home) = of_follower(world, "root").await;
        let answer = root.post(&format!("/Items/{FILM}"), edited(&mut root.twin(), world, "off").await).await;
        assert_eq!((answer.status, world.saw(&answer)), (500, vec![&*home]));
        assert!(questions(world).iter().all(|count| *count == 0));
    })
    .await;
}

/// How often each pod was asked whether it writes.
fn questions(world: &World) -> Vec<usize> {
    let is_question = |seen: &&jellyfin_sim::Seen| {
        seen.path() == "/Library/Media/Updated" && super::world::number_of(&seen.headers).is_none()
    };
    world.pods.iter().map(|pod| pod.seen().iter().filter(is_question).count()).collect()
}

#[tokio::test]
async fn a_stock_cluster_is_asked_once_and_its_pods_write_for_themselves() {
    story(World::plan(3).with_api_key(), async |world| {
        until("each pod was asked", || questions(world) == [1, 1, 1]).await;
        let mut root = world.client().without_cookies().device("desk");
        let home = world.home(&root.log_in("root").await).to_owned();
        for round in ["one", "two", "three"] {
            let answer = root.post(&format!("/Items/{FILM}"), edited(&mut root.twin(), world, round).await).await;
            assert_eq!((answer.status, world.home(&answer)), (204, &*home));
        }
        assert_eq!(questions(world), [1, 1, 1]);
        assert_eq!(world.proxy.metric("jellypin_writer", &[]).await, 0.0);
    })
    .await;
}
