//! Checks a request before anything else, and gives it one form for all versions of HTTP. Pure.

use http::{HeaderValue, Method, Uri, Version, header, request};

use super::refusal::Refusal;
use crate::server_id::address;

/// The longest request line that pods take, in bytes (Kestrel, `MaxRequestLineSize`).
const REQUEST_LINE: usize = 8 * 1024;

/// Turns a request's target into `path?query` and puts its host into `Host`, whatever the HTTP
/// version.
pub(in crate::proxy) fn normalize(head: &mut request::Parts) -> Result<(), Refusal> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if head.method.as_str().len() + target + "  HTTP/1.1\r\n".len() > REQUEST_LINE {
        return Err(Refusal::TargetTooLong);
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Refusal::Method);
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::Malformed("more than one Host"));
    }
    let (has_host, mut is_host) = (host.is_some(), host.is_some_and(|host| address::is_host(host.as_bytes())));
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
    {
        // jellypin does not forward this field: any other coding would reach the pod as part of the
        // body.
        return Err(Refusal::Framing("Transfer-Encoding is not chunked"));
    }
    // hyper makes one of equal lines in HTTP/1; HTTP/2 hands all of them on.
    let has_repeated_name = head.headers.len() > head.headers.keys_len();
    if has_repeated_name && head.headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Refusal::Framing("more than one Content-Length"));
    }
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::Malformed("Host is no host"))?;
        is_host = address::is_host(host.as_bytes());
        head.headers.insert(header::HOST, host);
        let target = head.uri.path_and_query().cloned().ok_or(Refusal::Malformed("the target has no path"))?;
        head.uri = Uri::from(target);
    } else if !has_host {
        if head.version == Version::HTTP_11 {
            return Err(Refusal::Malformed("Host is missing"));
        }
        // HTTP/1.0 needs no `Host`, but HTTP/1.1, which the pod gets, does (RFC 9112, 3.2).
        head.headers.insert(header::HOST, HeaderValue::from_static(""));
        is_host = true;
    }
    if !head.uri.path().starts_with('/') {
        return Err(Refusal::Malformed("the target is no path"));
    }
    if !is_host {
        return Err(Refusal::Malformed("Host is no host"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(method: Method, target: &str, version: Version, fields: &[(&str, &str)]) -> request::Parts {
        let request = Request::builder().method(method).uri(target).version(version);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn a_target_becomes_path_and_query_and_its_host_a_field_whatever_the_version() {
        let forms = [
            head(Method::GET, "/Items?a=b", Version::HTTP_11, &[("host", "media.example.org:8096")]),
            head(Method::GET, "http://media.example.org:8096/Items?a=b", Version::HTTP_11, &[("host", "other")]),
            head(Method::GET, "https://media.example.org:8096/Items?a=b", Version::HTTP_2, &[]),
        ];
        for mut head in forms {
            assert_eq!(normalize(&mut head), Ok(()));
            assert_eq!(
                (head.uri.to_string(), &head.headers[header::HOST]),
                ("/Items?a=b".into(), &"media.example.org:8096".parse().expect("a value"))
            );
        }
        let mut old = head(Method::GET, "/", Version::HTTP_10, &[]);
        assert_eq!(normalize(&mut old), Ok(()));
        assert_eq!(old.headers[header::HOST], "", "HTTP/1.0 knows no host");
    }

    #[test]
    fn a_request_line_is_as_long_as_pods_take_it_and_no_longer() {
        let of_length = |length: usize| {
            let target = format!("/{}", "x".repeat(length - "GET / HTTP/1.1\r\n".len()));
            normalize(&mut head(Method::GET, &target, Version::HTTP_11, &[("host", "h")]))
        };
        assert_eq!(of_length(8192), Ok(()));
        assert_eq!(of_length(8193), Err(Refusal::TargetTooLong));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let host = ("host", "h");
        let refused = [
            head(Method::CONNECT, "h:443", Version::HTTP_11, &[host]),
            head(Method::TRACE, "/", Version::HTTP_11, &[host]),
            head(Method::OPTIONS, "*", Version::HTTP_11, &[host]),
            head(Method::GET, "/", Version::HTTP_11, &[]),
            head(Method::GET, "/", Version::HTTP_11, &[host, host]),
            head(Method::GET, "/", Version::HTTP_11, &[("host", "a b")]),
            head(Method::POST, "/", Version::HTTP_2, &[host, ("content-length", "5"), ("content-length", "5")]),
            head(Method::GET, "/", Version::HTTP_11, &[host, ("transfer-encoding", "gzip, chunked")]),
            head(
                Method::GET,
                "/",
                Version::HTTP_11,
                &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            ),
        ];
        for mut head in refused {
            assert!(normalize(&mut head).is_err(), "{head:?}");
        }
    }
}
