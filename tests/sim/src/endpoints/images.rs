//! Images: anonymous, public, and the same on every pod.

use http::StatusCode;

use crate::answer::Answer;
use crate::call::Call;
use crate::library::{Item, LAST_MODIFIED, LOGO, POSTER, VIEW};

/// `GET /Items/{id}/Images/{kind}[/{index}]`, and the pictures of users.
pub(crate) fn image(call: &Call) -> Answer {
    let of_item = call.path.to_ascii_lowercase().starts_with("/items/");
    if of_item && Item::of(&call.guid(0)).is_none() && call.guid(0) != VIEW {
        return Answer::problem(StatusCode::NOT_FOUND);
    }
    let mut answer = if of_item { Answer::sized("image/jpeg", POSTER) } else { Answer::sized("image/png", LOGO) };
    let tagged = call.query.get("tag").is_some_and(|tag| !tag.is_empty());
    answer = answer
        .with("cache-control", if tagged { "public, max-age=31536000, immutable" } else { "public" })
        .with("vary", "Accept")
        .with("age", "101")
        .with("last-modified", LAST_MODIFIED)
        .with("content-disposition", "attachment");
    answer.with("transfermode.dlna.org", "Interactive").with("realtimeinfo.dlna.org", "DLNA.ORG_TLAG=*")
}
