//! A query string as ASP.NET reads it: names without regard to case, equal names joined by a comma.

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
        Query { raw: raw.to_owned(), pairs: pairs.collect() }
    }

    /// The value, all of them joined if the name stands more than once.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let values = self.all(name);
        (!values.is_empty()).then(|| values.join(","))
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
