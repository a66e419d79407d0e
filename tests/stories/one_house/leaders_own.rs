//! What the leader keeps for itself is read and written there, for every user: tasks, logs, plug-ins to come, backups,
//! recordings; and a pod that was never set up is nobody's.

use http::Method;
use serde_json::json;

use super::{act, house, one_device_on_each, property};
use crate::stories::world::{World, millis, story};

const SCAN: &str = "7738148ffcd07979c7ceb148e06b3aed";

#[tokio::test]
async fn a_task_that_one_administrator_changes_is_shown_to_all_and_done_once() {
    story(house().spread_users(&["root"]), async |world| {
        let mut desks = one_device_on_each(world, "root").await;
        let triggers = json!([{"Type": "DailyTrigger", "TimeOfDayTicks": 1}]);
        let answer = desks[2].post(&format!("/ScheduledTasks/{SCAN}/Triggers"), triggers.clone()).await;
        assert_eq!((answer.status, world.saw(&answer)), (204, vec!["a"]));
        for desk in &mut desks {
            let answer = desk.get(&format!("/ScheduledTasks/{SCAN}")).await;
            assert_eq!((answer.status, world.saw(&answer)), (200, vec!["a"]));
            assert_eq!(property(&answer, "/Triggers"), triggers);
            for path in ["/ScheduledTasks", "/System/Logs", "/Packages", "/Backup", "/LiveTv/Timers"] {
                let answer = desk.get(path).await;
                assert_eq!(world.saw(&answer), ["a"], "GET {path}");
            }
            for path in [format!("/ScheduledTasks/Running/{SCAN}"), "/Library/Refresh".to_owned()] {
                let answer = act(desk, Method::POST, &path).await;
                assert_eq!((answer.status, world.saw(&answer)), (204, vec!["a"]), "POST {path}");
            }
            let answer = desk.post("/Library/Media/Updated", json!({"Updates": []})).await;
            assert_eq!((answer.status, world.saw(&answer)), (204, vec!["a"]));
        }
        // They live where they lived, and leave no trace at the leader.
        for (desk, pod) in desks.iter_mut().zip(["a", "b", "c"]) {
            let answer = desk.get("/Users/Me").await;
            assert_eq!(world.home(&answer), pod);
        }
        let guests: Vec<String> = desks[1..].iter().filter_map(|desk| desk.device.clone()).collect();
        world.pod("a").until(|pod| !pod.session_devices().iter().any(|id| guests.contains(id))).await;
    })
    .await;
}

#[tokio::test]
async fn the_leader_judges_by_the_callers_own_right() {
    story(house().spread_users(&["alice"]), async |world| {
        let mut devices = one_device_on_each(world, "alice").await;
        for alice in &mut devices {
            assert_eq!(alice.get("/ScheduledTasks").await.status, 403);
            assert_eq!(act(alice, Method::POST, "/Library/Refresh").await.status, 403);
        }
        let mut stranger = world.client().without_cookies();
        assert_eq!(stranger.get("/ScheduledTasks").await.status, 401);
        let mut program = world.client().without_cookies();
        program.token = Some(world.cluster.api_key());
        let answer = act(&mut program, Method::POST, "/Library/Refresh").await;
        assert_eq!((answer.status, world.saw(&answer)), (204, vec!["a"]));
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_was_never_set_up_lets_nobody_set_it_up() {
    let plan = World::plan(2).with_api_key().hold(millis(300)).build_one("b", |pod| pod.wizard_undone(true));
    story(plan, async |world| {
        for number in 0..4 {
            let mut stranger = world.client().device(&format!("stranger-{number}"));
            for path in ["/Startup/User", "/Startup/Configuration", "/Library/VirtualFolders"] {
                assert_eq!(stranger.get(path).await.status, 401, "{path}");
            }
            let taken = json!({"Name": "mine", "Password": "mine"});
            assert_eq!(stranger.post("/Startup/User", taken).await.status, 401);
            let info = stranger.get("/System/Info/Public").await;
            assert_eq!(property(&info, "/StartupWizardCompleted"), true);
        }
        world.pod("a").kill().await;
        let mut stranger = world.client().device("stranger");
        assert_eq!(stranger.get("/Startup/User").await.status, 503);
        assert!(world.cluster.user_id("alice").is_some_and(|_| world.cluster.user_id("mine").is_none()));
        let is_opened = |seen: &jellyfin_sim::Seen| seen.path().to_ascii_lowercase().starts_with("/startup");
        assert!(!world.pod("b").seen().iter().any(is_opened));
    })
    .await;
}
