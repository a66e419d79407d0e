//! The query keys that jellypin reads.

use http::Method;

use super::{Act, Endpoint, Scope, is, segments};
use crate::jellyfin::{query, syntax::is_id};

/// The first value of a query key, whose name may be in any case.
pub fn query_value(query: &str, key: &str) -> Option<String> {
    query::all(query, key).into_iter().next()
}

/// A query without its tokens, and with this value of this key alone, if there is one.
pub fn query_with(query: &str, key: &str, value: Option<&str>) -> String {
    let is_dropped = |name: &str| {
        let is_token = ["ApiKey", "api_key"].iter().any(|token| token.eq_ignore_ascii_case(name));
        is_token || (value.is_some() && name.eq_ignore_ascii_case(key))
    };
    let is_kept = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && !is_dropped(&query::url_decoded(name))
    };
    let kept = query.split('&').filter(is_kept);
    let added = value.map(|value| format!("{key}={value}"));
    kept.map(str::to_owned).chain(added).collect::<Vec<_>>().join("&")
}

/// A query with another value wherever a key has this one. `None` if it has it nowhere.
pub fn query_replaced(query: &str, key: &str, value: &str, by: &str) -> Option<String> {
    let is_meant = |pair: &str| {
        let (name, given) = pair.split_once('=').unwrap_or((pair, ""));
        query::url_decoded(name).eq_ignore_ascii_case(key) && query::url_decoded(given) == value
    };
    if !query.split('&').any(is_meant) {
        return None;
    }
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_meant(pair) => format!("{name}={by}"),
        _ => pair.to_owned(),
    });
    Some(pairs.collect::<Vec<_>>().join("&"))
}

/// The well-formed ids of a query key, as Jellyfin binds them to a list
/// (`CommaDelimitedCollectionModelBinder`). Commas divide the value of a key that occurs once; else
/// each value is one id or none, and empty values count.
pub fn ids_in_query(query: &str, key: &str) -> Vec<String> {
    let named = query::pairs(query).filter(|(name, _)| query::url_decoded(name).eq_ignore_ascii_case(key));
    let values: Vec<_> = named.map(|(_, value)| query::url_decoded(value)).collect();
    let ids: Vec<&str> = match &values[..] {
        [one] => one.split(',').collect(),
        several => several.iter().map(|value| &**value).collect(),
    };
    ids.into_iter().map(str::trim).filter(|id| is_id(id)).map(str::to_owned).collect()
}

/// A query without the keys that carry a token.
pub fn query_without_tokens(query: &str) -> String {
    let is_token = |pair: &&str| {
        let key = query::url_decoded(pair.split_once('=').map_or(*pair, |(key, _)| key));
        key.eq_ignore_ascii_case("ApiKey") || key.eq_ignore_ascii_case("api_key")
    };
    query.split('&').filter(|pair| !is_token(pair)).collect::<Vec<_>>().join("&")
}

/// The query keys that jellypin reads for one endpoint, besides those that it reads for every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jellyfin) struct Keys {
    /// ASP.NET binds them to one value.
    pub(in crate::jellyfin) single: &'static [&'static str],
    /// ASP.NET binds them to a list.
    pub(in crate::jellyfin) list: &'static [&'static str],
}

/// The query keys that jellypin reads for an endpoint that it acts upon.
pub(in crate::jellyfin) fn keys_of(method: &Method, endpoint: Endpoint, path: &str) -> Keys {
    const NONE: Keys = Keys { single: &[], list: &[] };
    match Scope::of(method, path).and_then(Scope::act) {
        Some(Act::Items(None)) => return Keys { single: &[], list: &["ids"] },
        Some(Act::RemoteImage { .. }) => return Keys { single: &["type"], list: &[] },
        Some(Act::UserImage(None)) => return Keys { single: &["userId"], list: &[] },
        _ => {}
    }
    let mut segments = segments(path);
    let (first, second) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    match endpoint {
        Endpoint::QuickConnect => Keys { single: &["code", "secret", "userId"], list: &[] },
        // Elsewhere below `/Users` the pod alone reads the key, or nobody does.
        Endpoint::Authenticated if is(first, "Users") && is(second, "Password") => {
            Keys { single: &["userId"], list: &[] }
        }
        Endpoint::Authenticated if is(first, "Devices") => Keys { single: &[], list: &["id"] },
        _ => NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_ids_is_read_as_jellyfin_binds_it() {
        let (i, j) = ("0123456789abcdef0123456789abcdef", "00000000-0000-0000-0000-000000000001");
        let rows: &[(&str, &[&str])] = &[
            ("ids=I,J", &[i, j]),
            ("IDS=%20I%2C,x,J,", &[i, j]),
            ("ids=I&ids=J", &[i, j]),
            ("ids=+I&x=J&%69ds=J", &[i, j]),
            ("ids=I&ids=", &[i]),
            ("ids=I,&ids=", &[]),
            ("ids&ids=I,J", &[]),
            ("ids=I,I&ids=x", &[]),
            ("ids=I,I&IDS=J", &[j]),
            ("ids=%7BI%7D", &[]),
            ("ids=", &[]),
            ("ids", &[]),
            ("", &[]),
        ];
        for (query, ids) in rows {
            let query = query.replace('I', i).replace('J', j).replace(&format!("{i}DS"), "IDS");
            assert_eq!(ids_in_query(&query, "ids"), *ids, "{query}");
        }
    }
}
