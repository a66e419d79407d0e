//! Byte ranges as ASP.NET's `PhysicalFile` answers them: one range, judged by `Last-Modified` alone (there is no `ETag`).

use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

/// What part of a file a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// From the first byte to the last, both included.
    Range(u64, u64),
    /// The range lies beyond the end: 416.
    Beyond,
    /// The client's copy is fresh: 304.
    NotModified,
    /// The client's condition does not hold: 412.
    ConditionFailed,
}

impl Part {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Part::Whole => StatusCode::OK,
            Part::Range(..) => StatusCode::PARTIAL_CONTENT,
            Part::Beyond => StatusCode::RANGE_NOT_SATISFIABLE,
            Part::NotModified => StatusCode::NOT_MODIFIED,
            Part::ConditionFailed => StatusCode::PRECONDITION_FAILED,
        }
    }
}

/// Judges a request for a file of `size` bytes, last changed at `modified`.
pub(crate) fn part(headers: &HeaderMap, size: u64, modified: SystemTime) -> Part {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let date = |name| text(name).and_then(|value| httpdate::parse_http_date(value).ok());
    if date("if-unmodified-since").is_some_and(|date| modified > date) || text("if-match").is_some_and(|tag| tag != "*")
    {
        return Part::ConditionFailed;
    }
    if date("if-modified-since").is_some_and(|date| modified <= date) {
        return Part::NotModified;
    }
    let stale = match text("if-range") {
        None => false,
        Some(condition) => httpdate::parse_http_date(condition).map_or(true, |date| modified > date),
    };
    match text("range").filter(|_| !stale) {
        None => Part::Whole,
        Some(range) => asked(range, size),
    }
}

/// A range that is malformed, or one of several, is ignored: the whole file is sent.
fn asked(range: &str, size: u64) -> Part {
    let Some((unit, spec)) = range.split_once('=') else {
        return Part::Whole;
    };
    let Some((first, last)) =
        spec.trim().split_once('-').filter(|_| unit.trim().eq_ignore_ascii_case("bytes") && !spec.contains(','))
    else {
        return Part::Whole;
    };
    match (
        first.trim().parse::<u64>().ok(),
        last.trim().parse::<u64>().ok(),
        first.trim().is_empty(),
        last.trim().is_empty(),
    ) {
        (Some(first), Some(last), _, _) if last < first => Part::Whole,
        (Some(first), _, _, _) if first >= size => Part::Beyond,
        (Some(first), Some(last), _, _) => Part::Range(first, last.min(size - 1)),
        (Some(first), None, _, true) => Part::Range(first, size - 1),
        (None, Some(0), true, _) => Part::Beyond,
        (None, Some(count), true, _) if size > 0 => Part::Range(size.saturating_sub(count), size - 1),
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn ask(headers: &[(&'static str, &str)]) -> Part {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap_or_else(|error| panic!("{value}: {error}")));
        }
        part(&map, 1000, UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn single_ranges_are_cut_to_the_file() {
        assert_eq!(ask(&[]), Part::Whole);
        assert_eq!(ask(&[("range", "bytes=5-9")]), Part::Range(5, 9));
        assert_eq!(ask(&[("range", "bytes=990-")]), Part::Range(990, 999));
        assert_eq!(ask(&[("range", "bytes=990-5000")]), Part::Range(990, 999));
        assert_eq!(ask(&[("range", "bytes=-10")]), Part::Range(990, 999));
        assert_eq!(ask(&[("range", "bytes=-5000")]), Part::Range(0, 999));
        assert_eq!(ask(&[("range", "bytes=1000-")]), Part::Beyond);
        assert_eq!(ask(&[("range", "bytes=-0")]), Part::Beyond);
    }

    #[test]
    fn malformed_and_multiple_ranges_give_the_whole_file() {
        for range in ["bytes=9-5", "bytes=0-1,5-9", "items=0-1", "bytes=x-", "bytes=5-x", "bytes"] {
            assert_eq!(ask(&[("range", range)]), Part::Whole, "{range}");
        }
    }

    #[test]
    fn if_range_holds_only_for_the_date_of_the_file() {
        let same = "Sun, 06 Nov 1994 08:49:37 GMT";
        let older = "Sun, 06 Nov 1994 08:49:36 GMT";
        assert_eq!(ask(&[("range", "bytes=5-9"), ("if-range", same)]), Part::Range(5, 9));
        assert_eq!(ask(&[("range", "bytes=5-9"), ("if-range", older)]), Part::Whole);
        assert_eq!(ask(&[("range", "bytes=5-9"), ("if-range", "\"tag\"")]), Part::Whole);
        assert_eq!(ask(&[("if-modified-since", same)]), Part::NotModified);
        assert_eq!(ask(&[("if-unmodified-since", older)]), Part::ConditionFailed);
    }
}
