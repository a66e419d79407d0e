//! Decides which answers are plain files, and whether another answer is the rest of the same file.
//! Pure.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header, response};

use crate::jellyfin::endpoint::Endpoint;

/// A file under way, or one range of it (RFC 9110, 14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct File {
    /// The next byte that the client needs.
    next: u64,
    /// One past the last one.
    end: u64,
    /// The whole file's length.
    total: u64,
    /// The file's strong `ETag`. Real pods send none for media.
    tag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

/// Up to this many bytes, a new request costs no more than resuming. Files that a player waits for
/// are resumed anyway.
const WORTHWHILE: u64 = 64 * 1024;

impl File {
    /// The file that an answer sends. `None` unless the answer is a plain file that jellypin can
    /// identify: by a strong `ETag`, or by `Last-Modified` and its length.
    pub(in crate::proxy) fn of(endpoint: Endpoint, method: &Method, answer: &response::Parts) -> Option<File> {
        let headers = &answer.headers;
        let length = number(headers.get(header::CONTENT_LENGTH)?.as_bytes())?;
        if method != Method::GET || length == 0 || (length <= WORTHWHILE && !endpoint.is_media()) {
            return None;
        }
        let (next, end, total) = match answer.status {
            StatusCode::OK if takes_ranges(headers) => (0, length, length),
            StatusCode::PARTIAL_CONTENT => range(headers)?,
            _ => return None,
        };
        let (tag, modified) = (tag(headers), headers.get(header::LAST_MODIFIED).cloned());
        let is_plain = !headers.contains_key(header::CONTENT_ENCODING) && end - next == length;
        (is_plain && (tag.is_some() || modified.is_some())).then_some(File { next, end, total, tag, modified })
    }

    pub(in crate::proxy) fn remaining(&self) -> u64 {
        self.end - self.next
    }

    /// Records that the client got this many more bytes.
    pub(in crate::proxy) fn passed(&mut self, bytes: u64) {
        self.next = self.end.min(self.next.saturating_add(bytes));
    }

    /// Turns a request's headers into those of a request for the rest.
    pub(in crate::proxy) fn ask_rest(&self, headers: &mut HeaderMap) {
        // The client's conditions were met when its answer began.
        for condition in
            [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE]
        {
            headers.remove(condition);
        }
        // Compression would shift the byte positions.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let range = format!("bytes={}-{}", self.next, self.end.saturating_sub(1));
        if let Ok(range) = HeaderValue::from_str(&range) {
            headers.insert(header::RANGE, range);
        }
        match self.tag.as_ref().or(self.modified.as_ref()) {
            Some(validator) => headers.insert(header::IF_RANGE, validator.clone()),
            None => headers.remove(header::IF_RANGE),
        };
    }

    /// Whether this answer is the rest of the same file, from the next byte to the last.
    pub(in crate::proxy) fn is_continued_by(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        status == StatusCode::PARTIAL_CONTENT
            && range(headers) == Some((self.next, self.end, self.total))
            && headers.get(header::CONTENT_LENGTH).and_then(|length| number(length.as_bytes()))
                == Some(self.remaining())
            && !headers.contains_key(header::CONTENT_ENCODING)
            && tag(headers) == self.tag
            && headers.get(header::LAST_MODIFIED) == self.modified.as_ref()
    }
}

fn takes_ranges(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT_RANGES).is_some_and(|units| units.as_bytes().eq_ignore_ascii_case(b"bytes"))
}

/// The first byte, one past the last, and the length: `bytes 0-9/100` is (0, 10, 100).
fn range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (unit, rest) = text.trim().split_once(' ')?;
    let (first_last, total) = rest.split_once('/')?;
    let (first, last) = first_last.split_once('-')?;
    let (first, last, total) = (number(first.as_bytes())?, number(last.as_bytes())?, number(total.as_bytes())?);
    (unit.eq_ignore_ascii_case("bytes") && first <= last && last < total).then(|| (first, last + 1, total))
}

fn tag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned()
}

/// Accepts digits only: Rust's own parser takes a sign too.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    let text = std::str::from_utf8(digits).ok()?;
    digits.iter().all(u8::is_ascii_digit).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Response};

    use super::*;

    const MODIFIED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    const RANGES: (&str, &str) = ("accept-ranges", "bytes");

    fn answer(status: u16, fields: &[(&str, &str)]) -> response::Parts {
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = StatusCode::from_u16(status).expect("a status");
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            head.headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        head
    }

    fn file(status: u16, fields: &[(&str, &str)]) -> Option<File> {
        File::of(Endpoint::AnonymousMedia, &Method::GET, &answer(status, fields))
    }

    #[test]
    fn what_can_be_told_from_every_other_file_can_go_on() {
        let whole = [("content-length", "1000"), RANGES, MODIFIED];
        assert_eq!(file(200, &whole).map(|file| (file.next, file.end, file.total)), Some((0, 1000, 1000)));
        let part = [("content-length", "900"), ("content-range", "bytes 100-999/5000"), MODIFIED];
        assert_eq!(file(206, &part).map(|file| (file.next, file.end, file.total)), Some((100, 1000, 5000)));
        assert!(file(200, &[("content-length", "1000"), RANGES, ("etag", "\"v1\"")]).is_some());
    }

    #[test]
    fn what_is_no_plain_file_is_left_alone() {
        let length = ("content-length", "1000");
        let cases: &[(u16, &[(&str, &str)])] = &[
            (200, &[RANGES, MODIFIED]),
            (200, &[length, RANGES]),
            (200, &[length, RANGES, ("etag", "W/\"v1\"")]),
            (200, &[length, MODIFIED]),
            (200, &[length, ("accept-ranges", "none"), MODIFIED]),
            (200, &[length, RANGES, MODIFIED, ("content-encoding", "gzip")]),
            (200, &[("content-length", "+1000"), RANGES, MODIFIED]),
            (200, &[("content-length", "0"), RANGES, MODIFIED]),
            (206, &[length, MODIFIED, ("content-type", "multipart/byteranges; boundary=x")]),
            (206, &[length, MODIFIED, ("content-range", "bytes 0-999/*")]),
            (206, &[length, MODIFIED, ("content-range", "bytes 0-998/5000")]),
            (206, &[length, MODIFIED, ("content-range", "bytes 9-0/5000")]),
            (206, &[length, MODIFIED, ("content-range", "bytes 0-18446744073709551615/18446744073709551615")]),
            (404, &[length, RANGES, MODIFIED]),
        ];
        for (status, fields) in cases {
            assert_eq!(file(*status, fields), None, "{status} {fields:?}");
        }
        let head = answer(200, &[length, RANGES, MODIFIED]);
        assert_eq!(File::of(Endpoint::AnonymousMedia, &Method::POST, &head), None);
        assert_eq!(File::of(Endpoint::Open, &Method::GET, &head), None, "a small thing that no player waits for");
        let large = answer(200, &[("content-length", "65537"), RANGES, MODIFIED]);
        assert!(File::of(Endpoint::Open, &Method::GET, &large).is_some());
    }

    #[test]
    fn the_rest_is_asked_for_by_what_the_file_is_known_by() {
        let mut film = file(200, &[("content-length", "1000"), RANGES, MODIFIED]).expect("a file");
        film.passed(300);
        let mut headers = answer(200, &[("range", "bytes=0-"), ("if-modified-since", MODIFIED.1)]).headers;
        film.ask_rest(&mut headers);
        assert_eq!(headers[header::RANGE], "bytes=300-999");
        assert_eq!(headers[header::IF_RANGE], MODIFIED.1);
        assert!(!headers.contains_key(header::IF_MODIFIED_SINCE));
        assert_eq!(headers[header::ACCEPT_ENCODING], "identity");
    }

    #[test]
    fn only_the_very_rest_of_the_very_file_goes_on() {
        let mut film = file(200, &[("content-length", "1000"), RANGES, MODIFIED]).expect("a file");
        film.passed(300);
        let continues = |status, fields: &[(&str, &str)]| {
            let head = answer(status, fields);
            film.is_continued_by(head.status, &head.headers)
        };
        let (length, range) = (("content-length", "700"), ("content-range", "bytes 300-999/1000"));
        assert!(continues(206, &[length, range, MODIFIED]));
        let wrong: &[(u16, &[(&str, &str)])] = &[
            (200, &[length, range, MODIFIED]),
            (206, &[range, MODIFIED]),
            (206, &[length, range]),
            (206, &[length, range, MODIFIED, ("etag", "\"new\"")]),
            (206, &[length, range, ("last-modified", "Mon, 07 Nov 1994 08:49:37 GMT")]),
            (206, &[length, ("content-range", "bytes 300-999/1001"), MODIFIED]),
            (206, &[length, ("content-range", "bytes 299-998/1000"), MODIFIED]),
            (206, &[length, range, MODIFIED, ("content-encoding", "br")]),
        ];
        for (status, fields) in wrong {
            assert!(!continues(*status, fields), "{status} {fields:?}");
        }
    }
}
