//! Files on their way to a client: parts of what is in memory, or of what is made on the fly.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::answer::{self, Answer, Content};
use crate::call::Call;
use crate::library::{LAST_MODIFIED, bulk_piece};
use crate::ranges::{Part, part};

/// Where a file's bytes come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum File {
    Kept(&'static [u8]),
    /// The bulk item, this long.
    Bulk(u64),
}

const FRAME: u64 = 64 * 1024;

impl File {
    fn size(self) -> u64 {
        match self {
            File::Kept(bytes) => bytes.len() as u64,
            File::Bulk(size) => size,
        }
    }
}

/// Answers with the file, or the part of it that the request asks for.
pub(crate) fn physical_file(call: &Call, content_type: &'static str, file: File) -> Answer {
    let size = file.size();
    let Ok(modified) = httpdate::parse_http_date(LAST_MODIFIED) else {
        return Answer::empty(http::StatusCode::INTERNAL_SERVER_ERROR);
    };
    let part = part(&call.headers, size, modified);
    let (first, end) = match part {
        Part::Range(first, last) => (first, last + 1),
        Part::Whole => (0, size),
        Part::Beyond | Part::NotModified | Part::ConditionFailed => (0, 0),
    };
    let mut answer = Answer::stream(content_type, FileBody { file, at: first, end }.boxed_unsync());
    answer.status = part.status();
    match part {
        Part::Range(first, last) => answer = answer.with("content-range", &format!("bytes {first}-{last}/{size}")),
        Part::Beyond => {
            answer = answer.with("content-range", &format!("bytes */{size}"));
            answer.content = Content::Empty;
        }
        Part::ConditionFailed => answer.content = Content::Empty,
        Part::NotModified => answer.content = Content::None,
        Part::Whole => {}
    }
    answer.with("accept-ranges", "bytes").with("last-modified", LAST_MODIFIED)
}

/// So many bytes made on the fly.
pub(crate) fn generated(size: u64) -> answer::Body {
    FileBody { file: File::Bulk(size), at: 0, end: size }.boxed_unsync()
}

struct FileBody {
    file: File,
    at: u64,
    end: u64,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let count = FRAME.min(self.end - self.at);
        if count == 0 {
            return Poll::Ready(None);
        }
        let at = self.at;
        // Both fit: a frame is small, and a kept file lies in memory.
        let (from, count) = (usize::try_from(at).unwrap_or_default(), usize::try_from(count).unwrap_or_default());
        let bytes = match self.file {
            File::Kept(bytes) => Bytes::from_static(&bytes[from..from + count]),
            File::Bulk(_) => bulk_piece(at, count),
        };
        self.at += bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}
