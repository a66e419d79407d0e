//! The files of the library as they are: direct play and downloads.

use http::StatusCode;
use serde_json::json;

use super::live_tv;
use crate::answer::{Answer, Content};
use crate::call::Call;
use crate::files::{File, physical_file};
use crate::library::{FILM_FILE, Item};

/// `GET /Videos/{id}/stream[.ext]`: with `static=true` the file, else a transcode of unknown length; anonymous.
/// What names a live stream needs it open here.
pub(crate) fn stream(call: &Call) -> Answer {
    if let Some(id) = call.query.get("LiveStreamId") {
        let is_open = call.life().memory().live_streams.path(&id).is_some();
        return if is_open { live_tv::endless() } else { Answer::error(StatusCode::NOT_FOUND) };
    }
    if call.query.is_true("static") {
        return send(call);
    }
    match Item::of(&call.guid(0)) {
        Some(Item::Film) => {
            let mut answer = Answer::sized("video/x-matroska", FILM_FILE).with("accept-ranges", "none");
            answer.content = Content::Stream(unsized_body(FILM_FILE));
            answer
        }
        _ => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// `GET /Items/{id}/Download`.
pub(crate) fn download(call: &Call) -> Answer {
    let name = Item::of(&call.guid(0)).map_or("", Item::name);
    send(call).with("content-disposition", &format!("attachment; filename=\"{name}.mkv\""))
}

/// `GET /Items/{id}/File`.
pub(crate) fn file(call: &Call) -> Answer {
    send(call)
}

fn send(call: &Call) -> Answer {
    let file = match Item::of(&call.guid(0)) {
        Some(Item::Film) => File::Kept(FILM_FILE),
        Some(Item::Bulk) => File::Bulk(call.settings().bulk_size),
        Some(Item::Channel) | None => {
            return Answer::json_with(StatusCode::NOT_FOUND, &json!("File not found"));
        }
    };
    physical_file(call, "video/x-matroska", file)
}

fn unsized_body(bytes: &'static [u8]) -> crate::answer::Body {
    use http_body_util::{BodyExt, StreamBody};
    let frames = bytes.chunks(64 * 1024).map(|chunk| Ok(http_body::Frame::data(bytes::Bytes::from_static(chunk))));
    BodyExt::boxed_unsync(StreamBody::new(futures_util::stream::iter(frames)))
}
