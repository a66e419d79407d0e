//! The query's keys that tell something of a client, read as ASP.NET reads them: in any case, decoded, repeated ones joined.

use std::borrow::Cow;

/// The values found. An empty one counts as none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query<'a> {
    pub(super) api_key: Option<Cow<'a, str>>,
    pub(super) legacy_api_key: Option<Cow<'a, str>>,
    pub(super) device_id: Option<Cow<'a, str>>,
    pub(super) play_session_id: Option<Cow<'a, str>>,
    pub(super) live_stream_id: Option<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    pub(super) fn parse(query: &'a str) -> Query<'a> {
        let mut found = Query::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(place) = found.place(&url_decoded(key)) else { continue };
            let value = url_decoded(value);
            *place = match place.take() {
                // Two of them make one value with a comma in it, which no pod knows.
                Some(first) => Some(Cow::Owned(format!("{first},{value}"))),
                None if value.is_empty() => None,
                None => Some(value),
            };
        }
        found
    }

    fn place(&mut self, key: &str) -> Option<&mut Option<Cow<'a, str>>> {
        // Most keys of a long HLS query are told apart by their length.
        match key.len() {
            6 if key.eq_ignore_ascii_case("ApiKey") => Some(&mut self.api_key),
            7 if key.eq_ignore_ascii_case("api_key") => Some(&mut self.legacy_api_key),
            8 if key.eq_ignore_ascii_case("DeviceId") => Some(&mut self.device_id),
            12 if key.eq_ignore_ascii_case("LiveStreamId") => Some(&mut self.live_stream_id),
            13 if key.eq_ignore_ascii_case("PlaySessionId") => Some(&mut self.play_session_id),
            _ => None,
        }
    }
}

/// Every value of a key, in any case of it.
pub(super) fn all(query: &str, key: &str) -> Vec<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let wanted = pairs.filter(|(name, value)| !value.is_empty() && url_decoded(name).eq_ignore_ascii_case(key));
    wanted.map(|(_, value)| url_decoded(value).into_owned()).collect()
}

/// `%XX` and `+` decoded, as `WebUtility.UrlDecode` does it. Borrows where nothing is encoded.
pub(super) fn url_decoded(raw: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'%', b'+', raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    let blanks = raw.replace('+', " ");
    Cow::Owned(percent_encoding::percent_decode_str(&blanks).decode_utf8_lossy().into_owned())
}
