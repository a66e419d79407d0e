//! The pod that jellypin makes the leader is killed, while televisions sign in by a code that a phone approves.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::client::{Client, elapse};
use crate::stage::Stage;

/// Between two televisions.
const REST: Duration = Duration::from_millis(500);

/// The first ready pod by name leads.
const LEADER: usize = 0;

pub(super) async fn kill(stage: &mut Stage) -> String {
    let time = stage.lasts(3.0, 10.0);
    let Ok(mut phone) = stage.newcomer(0).await else { return "no phone".to_owned() };
    stage.pods[LEADER].kill();
    let (began, mut tried, mut signed_in) = (Instant::now(), 0, 0);
    while began.elapsed() < time {
        let mut television = stage.next_visitor(stage.proxies[0].address);
        tried += 1;
        match sign_in(&mut television, &mut phone).await {
            Some(token) => {
                stage.fleet.record_token(&token);
                signed_in += 1;
            }
            // The phone may be logged out itself.
            None => drop(phone.log_in().await),
        }
        elapse(REST).await;
    }
    let factor = stage.start_factor();
    stage.pods[LEADER].start_again(factor);
    stage.pods[LEADER].until_it_answers().await;
    format!("{signed_in} of {tried} log-ins by Quick Connect")
}

/// Gives the token.
async fn sign_in(television: &mut Client, phone: &mut Client) -> Option<String> {
    let begun = television.send(Method::POST, "/QuickConnect/Initiate", Value::Null).await.ok()?.json();
    let (code, secret) = (begun["Code"].as_str()?, begun["Secret"].as_str()?);
    let approved = phone.send(Method::POST, &format!("/QuickConnect/Authorize?code={code}"), Value::Null).await.ok()?;
    if approved.status != 200 {
        return None;
    }
    television.send(Method::GET, &format!("/QuickConnect/Connect?secret={secret}"), Value::Null).await.ok()?;
    let path = "/Users/AuthenticateWithQuickConnect";
    let done = television.send(Method::POST, path, json!({"Secret": secret})).await.ok()?;
    done.json()["AccessToken"].as_str().map(str::to_owned)
}
