//! Pods that agree on their id are left alone.

use jellyfin_sim::FILM;

use super::OWN;
use crate::stories::world::{World, story};

#[tokio::test(flavor = "multi_thread")]
async fn equal_ids_leave_answers_untouched() {
    story(World::plan(3).build(|pod| pod.server_id(Some(OWN))), async |world| {
        let mut client = world.client().device("d");
        let home = world.home(&client.log_in("root").await).to_owned();
        let mut there = world.client().at(world.pod(&home));
        there.token = client.token.clone();
        for path in
            [format!("/Items/{FILM}"), "/Items".into(), "/UserViews".into(), "/DisplayPreferences/x?client=y".into()]
        {
            let packed = [("accept-encoding", "gzip, deflate, br")];
            let (through, direct) = (client.get_with(&path, &packed).await, there.get_with(&path, &packed).await);
            assert_eq!((through.status, through.header("content-encoding")), (200, "gzip"), "{path}");
            assert!(through.body == direct.body, "{path}");
        }
        let asked = world.pod(&home).seen();
        let asked = asked.iter().filter(|seen| seen.path() == "/UserViews").map(|seen| seen.header("accept-encoding"));
        assert_eq!(asked.collect::<Vec<_>>(), [Some("gzip, deflate, br"); 2]);
        drop(there);
    })
    .await;
}
