//! Marks what this process sends to pods, so that it knows what comes round: a pod's address may lead
//! to this proxy, by itself or through others. The mark stands in `Via` (RFC 9110, 7.6.3).

use std::sync::OnceLock;

use http::{HeaderMap, HeaderValue, header};

/// The mark, for a field `Via`.
pub fn mark() -> &'static HeaderValue {
    static MARK: OnceLock<HeaderValue> = OnceLock::new();
    MARK.get_or_init(|| {
        // Without random numbers, all processes are one: a chain of proxies is then taken for a loop.
        let number = getrandom::u64().unwrap_or_default();
        // Made once: each request's copy of a static value counts no references.
        HeaderValue::from_static(format!("1.1 jellypin-{number:016x}").leak())
    })
}

/// Whether a request with these headers was sent by this process. Proxies between may have added to
/// `Via`.
pub fn comes_round(headers: &HeaderMap) -> bool {
    let mark = mark().as_bytes();
    let names_it = |via: &HeaderValue| via.as_bytes().split(|byte| *byte == b',').any(|hop| hop.trim_ascii() == mark);
    headers.get_all(header::VIA).iter().any(names_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_mark_is_known_among_others() {
        let with = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::VIA, HeaderValue::from_bytes(value).expect("a value"));
            }
            headers
        };
        let own = mark().as_bytes();
        assert!(comes_round(&with(&[own])));
        assert!(comes_round(&with(&[b"1.1 nginx", &[b"2 caddy, ", own, b", 1.1 x"].concat()])));
        assert!(!comes_round(&with(&[b"1.1 jellypin-0000", b"1.1 jellypin"])));
        assert!(!comes_round(&HeaderMap::new()));
    }
}
