//! What the dashboard asks for: the activity log, which all pods share.

use crate::answer::Answer;
use crate::call::Call;

/// `GET /System/ActivityLog/Entries?startIndex=&limit=`.
pub(crate) fn entries(call: &Call) -> Answer {
    let number = |name| call.query.number(name).and_then(|number| usize::try_from(number).ok());
    let (start, limit) = (number("startIndex").unwrap_or(0), number("limit"));
    Answer::json(&call.life().shared.cluster.read(|database| database.activity.page(start, limit)))
}
