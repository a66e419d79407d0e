//! A query string as ASP.NET and Jellyfin read it: names without regard to case, decoded.
//!
//! What a repeated name means is the reader's affair: a typed parameter takes the first value, a list takes all.

use percent_encoding::percent_decode_str;

/// The parameters in the order of the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    raw: String,
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn parse(raw: &str) -> Query {
        let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Query { raw: raw.to_owned(), pairs: encoded_whole(pairs.collect()) }
    }

    /// The value as a typed parameter is bound: the first one, and none where that is empty.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.all(name).first().filter(|value| !value.is_empty()).map(|value| (*value).to_owned())
    }

    /// The value as `Request.Query` gives it: all that are not empty, joined by a comma.
    pub(crate) fn joined(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.all(name).into_iter().filter(|value| !value.is_empty()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// The values as a list is bound (`CommaDelimitedCollectionModelBinder`): commas divide the value of a name that occurs
    /// once; else each value is one of the list, also an empty one.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        match self.all(name)[..] {
            [one] => one.split(',').filter(|value| !value.is_empty()).collect(),
            _ => self.all(name),
        }
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.pairs.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// The query as it stood in the request line.
    pub(crate) fn raw(&self) -> &str {
        &self.raw
    }
}

/// A query that was encoded as a whole is read all the same (`UrlDecodeQueryFeature`): it shows as one name with `=` in it, and no value.
fn encoded_whole(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let [(name, value)] = &pairs[..] else { return pairs };
    if !value.is_empty() || !name.contains('=') {
        return pairs;
    }
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    };
    name.split('&').map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_name_is_read_by_its_type() {
        let query = Query::parse("userId=&USERID=b&%75serId=c&ApiKey=t&apikey=");
        assert_eq!((query.get("userId"), query.all("userId")), (None, vec!["", "b", "c"]));
        assert_eq!(query.joined("ApiKey").as_deref(), Some("t"));
        let list = |raw: &str| Query::parse(raw).list("ids").join("|");
        assert_eq!(
            (list("ids=a,,b,"), list("ids=a,&ids="), list("ids=a&IDS=b,c")),
            ("a|b".into(), "a,|".into(), "a|b,c".into())
        );
        assert_eq!(Query::parse("ApiKey=t&ApiKey=u").joined("ApiKey").as_deref(), Some("t,u"));
    }

    #[test]
    fn a_query_that_is_encoded_as_a_whole_is_read() {
        assert_eq!(Query::parse("userId%3Db%26x%3D1").get("userId").as_deref(), Some("b"));
        assert_eq!(Query::parse("userId%3Db&y").get("userId"), None);
    }
}
