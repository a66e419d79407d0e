//! `/Auth/Keys`: API keys live in the database and work on every pod at once.

use serde_json::json;

use crate::answer::Answer;
use crate::call::Call;
use crate::clock;
use crate::identifiers::random_guid;

pub(crate) fn list(call: &Call) -> Answer {
    let keys = call.life().shared.cluster.read(|database| database.api_keys.clone());
    let items: Vec<_> = keys
        .iter()
        .map(|key| json!({"AccessToken": key.token, "AppName": key.app, "DateCreated": clock::now(), "IsActive": true}))
        .collect();
    Answer::json(&json!({"TotalRecordCount": items.len(), "StartIndex": 0, "Items": items}))
}

pub(crate) fn create(call: &Call) -> Answer {
    let app = call.query.get("app").unwrap_or_default();
    call.life().shared.cluster.change(|database| database.add_api_key(random_guid(), app));
    Answer::no_content()
}

pub(crate) fn delete(call: &Call) -> Answer {
    call.life().shared.cluster.change(|database| database.api_keys.retain(|key| key.token != call.captured(0)));
    Answer::no_content()
}
