//! The build with one catalogue writer, held against its recording: status, type and `Retry-After` of each answer, in order.

use std::io;
use std::time::Duration;

use serde_json::Value;

use super::tests::ask;
use crate::{BULK, Cluster, FILM, Generation, Pod};

const RECORDING: &str = include_str!("../../../recordings/12-single-writer.jsonl");

/// A picture for the one upload, whose body was not recorded.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[tokio::test]
async fn every_recorded_request_is_answered_alike() -> io::Result<()> {
    let cluster = Cluster::new();
    let lease = Duration::from_millis(1500);
    let pod = |name| {
        let pod = Pod::builder(&cluster).name(name).generation(Generation::V10_11).single_writer(true);
        pod.fail_over(Duration::from_millis(50)).hls_lease(lease).start()
    };
    let (a, b) = (pod("a").await?, pod("b").await?);
    assert_eq!(cluster.writer().as_deref(), Some("a"));
    let key = cluster.api_key();
    let by_key = format!("MediaBrowser Token=\"{key}\"");
    let headers = [("Authorization", by_key.as_str()), ("Content-Type", "application/json")];
    let made = ask(&b, "POST /Users/New", &headers, r#"{"Name":"nell","Password":"nell-pw"}"#).await?;
    assert_eq!(made.0, 200, "a user made through the follower");
    let mut names: Vec<(String, String)> = vec![
        ("<api-key>".to_owned(), key.clone()),
        ("<item:1>".to_owned(), FILM.to_owned()),
        ("<item:2>".to_owned(), BULK.to_owned()),
        ("<item:3-dashed>".to_owned(), FILM.to_owned()),
        ("<item:3>".to_owned(), FILM.to_owned()),
        ("<server-id:b>".to_owned(), b.server_id().to_owned()),
        ("<play-session>".to_owned(), "play-session-1".to_owned()),
        // The film of the recording is longer.
        ("/hls1/main/299.ts".to_owned(), "/hls1/main/18.ts".to_owned()),
        ("/hls1/main/300.ts".to_owned(), "/hls1/main/19.ts".to_owned()),
    ];
    for user in ["alice", "root", "nell"] {
        names.push((format!("<user:{user}>"), cluster.user_id(user).unwrap_or_default()));
    }
    let mut has_died = false;
    for (number, line) in RECORDING.lines().enumerate().skip(1) {
        let step: Value = serde_json::from_str(line)?;
        let (request, wanted) = (&step["request"], &step["response"]);
        if step["note"] == "the same under a new PlaySessionId" && !has_died {
            panic!("line {number}: the writer lives still");
        }
        let fill = |text: &str| names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        let is_from_a = step["pod"] == "a";
        let target = fill(request["path"].as_str().unwrap_or_default());
        let fields = request["headers"].as_object().cloned().unwrap_or_default();
        let mut headers: Vec<(String, String)> =
            fields.iter().map(|(name, value)| (name.clone(), fill(value.as_str().unwrap_or_default()))).collect();
        let body = match &request["json"] {
            Value::Null if fields.get("Content-Type").is_some_and(|kind| kind == "image/png") => PICTURE.to_owned(),
            Value::Null => String::new(),
            json => {
                headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
                fill(&json.to_string())
            }
        };
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if step["note"] == "34 s later" {
            tokio::time::sleep(lease).await;
        }
        let line = format!("{} {target}", request["method"].as_str().unwrap_or_default());
        let (status, answer) = ask(if is_from_a { &a } else { &b }, &line, &headers, &body).await?;
        assert_eq!(u64::from(status), wanted["status"].as_u64().unwrap_or_default(), "line {number}: {line}: {answer}");
        let lower = answer.to_ascii_lowercase();
        for pair in wanted["headers"].as_array().into_iter().flatten() {
            let (name, value) = (pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default());
            if matches!(name, "Content-Type" | "Retry-After") {
                let wanted = format!("{name}: {value}").to_ascii_lowercase();
                assert!(lower.contains(&wanted), "line {number}: {line}: {wanted} is not in {answer}");
            }
        }
        if let Some(token) = after(&answer, "\"AccessToken\":\"") {
            let recorded: Value = serde_json::from_str(wanted["body"].as_str().unwrap_or_default()).unwrap_or_default();
            let name = recorded["AccessToken"].as_str().map(str::to_owned);
            let body = wanted["body"].as_str().unwrap_or_default();
            let name = name.or_else(|| after(body, "\"AccessToken\":\"")).unwrap_or_default();
            names.insert(0, (name, token));
        }
        // The recorder killed the writer after it had met the lease of a living one.
        if status == 503 && wanted["headers"].to_string().contains("Retry-After") && !has_died {
            has_died = true;
            a.kill().await;
        }
    }
    assert_eq!(cluster.writer().as_deref(), Some("b"));
    Ok(())
}

/// The text from behind this to the next quotation mark.
fn after(text: &str, start: &str) -> Option<String> {
    let (_, rest) = text.split_once(start)?;
    rest.split('"').next().map(str::to_owned)
}

#[tokio::test]
async fn a_follower_has_no_views_of_a_user_until_the_writer_has_made_them() -> io::Result<()> {
    let cluster = Cluster::new();
    let pod = |name| Pod::builder(&cluster).name(name).generation(Generation::V10_11).single_writer(true).start();
    let (a, b) = (pod("a").await?, pod("b").await?);
    let by_key = format!("MediaBrowser Token=\"{}\"", cluster.api_key());
    let headers = [("Authorization", by_key.as_str())];
    let views = format!("GET /UserViews?userId={}", cluster.user_id("alice").unwrap_or_default());
    assert_eq!(ask(&b, &views, &headers, "").await?.0, 500);
    assert_eq!(ask(&a, &views, &headers, "").await?.0, 200);
    assert_eq!(ask(&b, &views, &headers, "").await?.0, 200);
    for path in ["Genres/X", "Studios/X", "Years/1999", "Artists/X"] {
        let line = format!("GET /{path}");
        assert_eq!(ask(&b, &line, &headers, "").await?.0, 500, "{path}");
        assert_eq!(ask(&a, &line, &headers, "").await?.0, 200, "{path}");
        assert_eq!(ask(&b, &line, &headers, "").await?.0, 200, "{path}");
    }
    // Half done, and once more at the writer.
    let add = "POST /Library/VirtualFolders?name=Shows&paths=/shows";
    assert_eq!(ask(&b, add, &headers, "").await?.0, 500);
    assert_eq!(ask(&a, add, &headers, "").await?.0, 204);
    assert_eq!(a.libraries(), ["Movies", "Shows", "Shows2"]);
    Ok(())
}
