//! The leader alone runs scheduled tasks by itself (`[leader] tasks`), and no trigger is lost.

use http::Method;
use jellyfin_sim::Pod;
use serde_json::{Value, json};

use crate::stories::{
    redis_server::RedisServer,
    replicas,
    world::{Client, Plan, Program, World, story, until},
};

const SCAN: &str = "7738148ffcd07979c7ceb148e06b3aed";
const CLEAN: &str = "4e6637c832ed644d1af3370a2506e80a";

fn plan(pods: usize) -> Plan {
    World::plan(pods).with_api_key().state_path("state").leader_tasks(true)
}

fn has_triggers(pod: &Pod) -> bool {
    [SCAN, CLEAN].iter().all(|task| pod.triggers(task).is_some_and(|triggers| triggers != json!([])))
}

fn is_emptied(pod: &Pod) -> bool {
    [SCAN, CLEAN].iter().all(|task| pod.triggers(task) == Some(json!([])))
}

/// Waits until this pod alone has triggers, of all that run.
async fn until_alone(world: &World, name: &str) {
    until(&format!("{name} alone has triggers"), || {
        let others = || world.pods_but(name).filter(|pod| pod.is_running());
        has_triggers(world.pod(name)) && others().all(is_emptied)
    })
    .await;
    let due: Vec<(&str, usize)> =
        world.pods.iter().map(|pod| (pod.name(), pod.let_triggers_come_due().len())).collect();
    assert!(due.iter().all(|(pod, tasks)| *tasks == if *pod == name { 2 } else { 0 }), "each task runs once: {due:?}");
}

/// How often a pod was told to set triggers.
fn set(pod: &Pod) -> usize {
    pod.seen().iter().filter(|seen| seen.method == Method::POST && seen.path().ends_with("/Triggers")).count()
}

#[tokio::test]
async fn the_leader_alone_runs_tasks_and_an_edit_goes_with_the_lead() {
    story(plan(3), async |world| {
        let own = world.pod("c").triggers(SCAN).expect("a trigger");
        until_alone(world, "a").await;
        let edited = json!([{"Type": "DailyTrigger", "TimeOfDayTicks": 1}]);
        let mut root = world.client().without_cookies().device("desk");
        root.log_in("root").await;
        let answer = root.post(&format!("/ScheduledTasks/{SCAN}/Triggers"), edited.clone()).await;
        assert_eq!(answer.status, 204);
        assert_eq!(world.pod("a").triggers(SCAN), Some(edited.clone()));
        // The edit is heard of at once.
        let file = world.folder().join("state/tasks-main.json");
        until("the edit is kept", || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("DailyTrigger")))
            .await;

        world.pod("a").kill().await;
        until_alone(world, "b").await;
        assert_eq!(world.pod("b").triggers(SCAN), Some(edited.clone()), "the house's, and not what b had before");
        world.pod("a").start_again().await.expect("its own port");
        until_alone(world, "b").await;
        assert_eq!(world.leader().await, "b");

        world.restart(|settings| settings.leader_tasks(false)).await;
        until("each pod has triggers", || world.pods.iter().all(has_triggers)).await;
        until("nothing is kept", || !file.exists()).await;
        let now: Vec<Option<Value>> = world.pods.iter().map(|pod| pod.triggers(SCAN)).collect();
        assert_eq!(now, [Some(edited.clone()), Some(edited), Some(own)]);
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_shares_its_folder_gets_back_what_it_reads_as_emptied() {
    story(plan(2).build(|pod| pod.shared_folders(true)), async |world| {
        until_alone(world, "a").await;
        // Both pods write the same files, and b has emptied them. A leader stays leader while no other pod is there.
        world.pod("b").kill().await;
        world.until_state("b", jellypin::pod::State::Down).await;
        world.pod("a").kill().await;
        world.until_state("a", jellypin::pod::State::Down).await;
        world.pod("a").start_again().await.expect("its own port");
        assert!(is_emptied(world.pod("a")));
        until_alone(world, "a").await;
    })
    .await;
}

/// The pod that leads for a running program.
async fn leader_of(program: &Program) -> String {
    let pods = Client::at_address(program.admin()).get("/pods").await.json();
    let leads = pods.as_array().expect("pods").iter().find(|pod| pod["leads"] == true);
    leads.map_or_else(String::new, |pod| pod["name"].as_str().expect("a name").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_killed_before_or_after_it_empties_a_pod_loses_no_trigger() {
    story(World::plan(3).with_api_key(), async |world| {
        let mut settings = world.settings().clone();
        settings.state_path("state");
        settings.leader_tasks(true);
        let all_set = || world.pods.iter().map(set).sum::<usize>();
        let own = world.pod("a").triggers(SCAN);
        // Between the store and the emptying.
        world.pods.iter().for_each(|pod| pod.hold_triggers(true));
        let mut program = Program::start(&settings, world.folder()).await;
        until("a pod is to be emptied", || all_set() > 0).await;
        program.signal("KILL");
        program.ended().await;
        assert!(world.pods.iter().all(has_triggers));
        let kept = std::fs::read_to_string(world.folder().join("state/tasks-main.json")).expect("a document");
        assert!(kept.contains("\"taken\":{\""), "{kept}");
        world.pods.iter().for_each(|pod| pod.hold_triggers(false));

        // After it, and again and again; then the leader is gone at the same time.
        let mut leader = String::new();
        for goes_too in [false, false, true, true] {
            let before = all_set();
            let mut program = Program::start(&settings, world.folder()).await;
            let is_done = || world.pods.iter().filter(|pod| has_triggers(pod)).count() == 1;
            until("a trigger is set", || all_set() > before || is_done()).await;
            leader = leader_of(&program).await;
            program.signal("KILL");
            program.ended().await;
            if goes_too {
                for pod in world.pods.iter().filter(|pod| !pod.is_running()) {
                    pod.start_again().await.expect("its own port");
                    pod.until(Pod::is_ready).await;
                }
                world.pod(&leader).kill().await;
            }
        }
        let mut program = Program::start(&settings, world.folder()).await;
        let next = leader_of(&program).await;
        assert_ne!(next, leader);
        until_alone(world, &next).await;
        assert_eq!(world.pod(&next).triggers(SCAN), own);
        world.pod(&leader).start_again().await.expect("its own port");
        until_alone(world, &next).await;
        program.signal("TERM");
        program.ended().await;
        assert!(world.pods_but(&next).all(is_emptied), "a stop gives nothing back");
    })
    .await;
}

#[tokio::test]
async fn replicas_take_and_give_each_trigger_once() {
    let redis = RedisServer::start();
    let plan = replicas::plan(3, &redis).with_api_key().leader_tasks(true).leader_mode(jellypin::leader::Mode::Elect);
    story(plan, async |world| {
        let _other = replicas::known_replica(world, |_| {}).await;
        until_alone(world, "a").await;
        assert_eq!((set(world.pod("a")), set(world.pod("b")), set(world.pod("c"))), (0, 2, 2));
        let kept = redis.bytes().into_iter().find(|(key, _)| key.ends_with(":tasks-main")).expect("a document");
        replicas::assert_no_secret(&kept.1, &[SCAN, "Trigger"]);
        world.pod("a").kill().await;
        until_alone(world, "b").await;
        assert_eq!((set(world.pod("b")), set(world.pod("c"))), (4, 2));
        world.pod("a").start_again().await.expect("its own port");
        until_alone(world, "b").await;
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_loses_its_data_loses_no_trigger() {
    let redis = RedisServer::start();
    let plan = replicas::plan(3, &redis).with_api_key().state_path("state").leader_tasks(true);
    story(plan.leader_mode(jellypin::leader::Mode::Elect), async |world| {
        let own = ["a", "b", "c"].map(|pod| world.pod(pod).triggers(SCAN).expect("a trigger"));
        until_alone(world, "a").await;
        // What was taken from the others stands in the file alone.
        redis.flush();
        world.pod("a").kill().await;
        until_alone(world, "b").await;
        assert_eq!(world.pod("b").triggers(SCAN).as_ref(), Some(&own[0]), "the house's");
        world.pod("a").start_again().await.expect("its own port");
        until_alone(world, "b").await;
        // Before all is given back, and once more meanwhile.
        redis.flush();
        world.pods.iter().for_each(|pod| pod.hold_triggers(true));
        world.restart(|settings| settings.leader_tasks(false)).await;
        redis.flush();
        world.pods.iter().for_each(|pod| pod.hold_triggers(false));
        until("each pod has triggers", || world.pods.iter().all(has_triggers)).await;
        let now = ["a", "b", "c"].map(|pod| world.pod(pod).triggers(SCAN).expect("a trigger"));
        assert_eq!(now, [own[0].clone(), own[0].clone(), own[2].clone()]);
        until("nothing is kept", || !world.folder().join("state/tasks-main.json").exists()).await;
    })
    .await;
}
