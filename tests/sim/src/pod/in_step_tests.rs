//! What one pod writes and another does not see, where no recording shows it: shared folders, playlists, pictures, tags.

use std::io;

use serde_json::Value;

use super::tests::ask;
use crate::{BULK, Cluster, FILM, Pod};

/// Asks by the API key, and gives the status and the JSON of the answer.
async fn by_key(pod: &Pod, line: &str, headers: &[(&str, &str)], body: &str) -> io::Result<(u16, Value)> {
    let authorization = format!("MediaBrowser Token=\"{}\"", pod.cluster().api_key());
    let mut all = vec![("Authorization", authorization.as_str())];
    all.extend(headers);
    let (status, answer) = ask(pod, line, &all, body).await?;
    // Chunked: the JSON stands between the first line of the body and the last.
    let json = answer.split_once("\r\n\r\n").and_then(|(_, body)| body.lines().nth(1)).unwrap_or_default();
    Ok((status, serde_json::from_str(json).unwrap_or_default()))
}

async fn pods(cluster: &Cluster, share: bool) -> io::Result<(Pod, Pod)> {
    let pod = |name| Pod::builder(cluster).name(name).shared_folders(share).start();
    Ok((pod("a").await?, pod("b").await?))
}

#[tokio::test]
async fn a_library_is_one_pods_or_a_second_one_where_folders_are_shared() -> io::Result<()> {
    for (share, at_b, twice) in [
        (false, vec!["Movies"], vec!["Movies", "Shows"]),
        (true, vec!["Movies", "Shows"], vec!["Movies", "Shows", "Shows2"]),
    ] {
        let cluster = Cluster::new();
        let (a, b) = pods(&cluster, share).await?;
        let add = "POST /Library/VirtualFolders?name=Shows&paths=/shows";
        assert_eq!(by_key(&a, add, &[], "").await?.0, 204);
        assert_eq!(b.libraries(), at_b, "shared: {share}");
        assert_eq!(by_key(&b, add, &[], "").await?.0, 204);
        assert_eq!(b.libraries(), twice, "shared: {share}");
        let unknown = by_key(&b, "DELETE /Library/VirtualFolders?name=Nothing", &[], "").await?.0;
        assert_eq!(unknown, 400);
    }
    Ok(())
}

#[tokio::test]
async fn views_are_those_that_the_process_knows() -> io::Result<()> {
    let cluster = Cluster::new();
    let (a, b) = pods(&cluster, true).await?;
    let user = cluster.user_id("alice").unwrap_or_default();
    let views = format!("GET /UserViews?userId={user}");
    assert_eq!(by_key(&a, "POST /Library/VirtualFolders?name=Shows", &[], "").await?.0, 204);
    assert_eq!(by_key(&a, &views, &[], "").await?.1["TotalRecordCount"], 2);
    assert_eq!(by_key(&b, &views, &[], "").await?.1["TotalRecordCount"], 1);
    assert_eq!(by_key(&b, "POST /Library/Refresh", &[], "").await?.0, 204);
    assert_eq!(by_key(&b, &views, &[], "").await?.1["TotalRecordCount"], 2, "a scan finds it");
    assert_eq!(by_key(&a, "DELETE /Library/VirtualFolders?name=Shows", &[], "").await?.0, 204);
    assert_eq!(by_key(&a, &views, &[], "").await?.1["TotalRecordCount"], 2, "the view stays until a scan");
    b.kill().await;
    b.start_again().await?;
    assert_eq!(by_key(&b, &views, &[], "").await?.1["TotalRecordCount"], 1, "so does a start");
    Ok(())
}

#[tokio::test]
async fn a_picture_is_found_where_its_folder_is() -> io::Result<()> {
    for (share, at_b) in [(false, 404), (true, 200)] {
        let cluster = Cluster::new();
        let (a, b) = pods(&cluster, share).await?;
        let path = format!("/Items/{FILM}/Images/Logo");
        assert_eq!(by_key(&b, &format!("GET {path}"), &[], "").await?.0, 404, "there is none yet");
        b.kill().await;
        b.start_again().await?;
        let upload = format!("POST {path}");
        assert_eq!(by_key(&a, &upload, &[("Content-Type", "image/png")], "AAEC").await?.0, 204);
        assert_eq!(by_key(&a, &upload, &[("Content-Type", "text/plain")], "AAEC").await?.0, 400);
        assert_eq!(by_key(&a, &upload, &[("Content-Type", "image/png")], "?").await?.0, 500);
        assert_eq!(by_key(&a, &format!("GET {path}"), &[], "").await?.0, 200);
        assert_eq!(by_key(&b, &format!("GET {path}"), &[], "").await?.0, at_b, "shared: {share}");
        assert_eq!(by_key(&a, &format!("DELETE {path}"), &[], "").await?.0, 204);
        assert_eq!(by_key(&a, &format!("GET {path}"), &[], "").await?.0, 404);
    }
    Ok(())
}

#[tokio::test]
async fn a_collection_is_kept_by_each_pod_and_a_playlist_is_read_again() -> io::Result<()> {
    let cluster = Cluster::new();
    let (a, b) = pods(&cluster, false).await?;
    let user = cluster.user_id("alice").unwrap_or_default();
    let made = by_key(&a, &format!("POST /Collections?name=Best&ids={FILM}"), &[], "").await?.1;
    let collection = made["Id"].as_str().unwrap_or_default().to_owned();
    let made = by_key(&a, &format!("POST /Playlists?name=Mine&ids={FILM}&userId={user}"), &[], "").await?.1;
    let playlist = made["Id"].as_str().unwrap_or_default().to_owned();
    let in_collection = format!("GET /Items?parentId={collection}&userId={user}");
    let in_playlist = format!("GET /Playlists/{playlist}/Items?userId={user}");
    for list in [&in_collection, &in_playlist] {
        assert_eq!(by_key(&b, list, &[], "").await?.1["TotalRecordCount"], 1);
    }
    assert_eq!(by_key(&a, &format!("POST /Collections/{collection}/Items?ids={BULK}"), &[], "").await?.0, 204);
    let add = format!("POST /Playlists/{playlist}/Items?ids={BULK}&userId={user}");
    assert_eq!(by_key(&a, &add, &[], "").await?.0, 204);
    assert_eq!(by_key(&a, &in_collection, &[], "").await?.1["TotalRecordCount"], 2);
    assert_eq!(by_key(&b, &in_collection, &[], "").await?.1["TotalRecordCount"], 1, "it is old");
    let page = by_key(&b, &in_playlist, &[], "").await?.1;
    assert_eq!((&page["TotalRecordCount"], &page["Items"][1]["Id"]), (&2.into(), &BULK.into()));
    let entry = page["Items"][0]["PlaylistItemId"].as_str().unwrap_or_default();
    let remove = format!("DELETE /Playlists/{playlist}/Items?entryIds={entry}&userId={user}");
    assert_eq!(by_key(&b, &remove, &[], "").await?.0, 204);
    assert_eq!(by_key(&a, &in_playlist, &[], "").await?.1["TotalRecordCount"], 1);
    Ok(())
}

#[tokio::test]
async fn an_etag_is_that_of_the_pods_own_object() -> io::Result<()> {
    let cluster = Cluster::new();
    let (a, b) = pods(&cluster, false).await?;
    let user = cluster.user_id("alice").unwrap_or_default();
    let read = format!("GET /Items/{FILM}?userId={user}");
    let old = by_key(&b, &read, &[], "").await?.1;
    let edit = format!("POST /Items/{FILM}");
    assert_eq!(by_key(&a, &edit, &[], r#"{"Name":"New","Overview":"x"}"#).await?.0, 204);
    let (at_a, at_b) = (by_key(&a, &read, &[], "").await?.1, by_key(&b, &read, &[], "").await?.1);
    assert_eq!((&at_a["Name"], &at_b["Name"]), (&"New".into(), &old["Name"]));
    assert_ne!(at_a["Etag"], old["Etag"]);
    assert_eq!(at_b["Etag"], old["Etag"]);
    let listed = by_key(&b, &format!("GET /Items?ids={FILM}&userId={user}"), &[], "").await?.1;
    assert_eq!(listed["Items"][0]["Name"], "New", "a list is right");
    assert_eq!(by_key(&b, &format!("POST /Items/{FILM}/Refresh"), &[], "").await?.0, 204);
    assert_eq!(by_key(&b, &read, &[], "").await?.1["Name"], old["Name"], "a refresh does not help");
    Ok(())
}
