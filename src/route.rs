//! Finds the pool for a host and a path.

pub mod auth;
pub mod https;
pub mod rules;

use std::sync::Arc;

use memchr::memrchr;
use percent_encoding::percent_decode_str;

use https::ToHttps;
use rules::Rules;

/// The routes, in the order of the file.
#[derive(Clone, Debug)]
pub struct Config {
    pub routes: Vec<RouteConfig>,
    /// Where requests in clear are sent to. Default: nowhere, they are answered.
    pub to_https: Option<ToHttps>,
    /// Whether the proxy answers the authority that certificates are ordered from.
    pub answers_acme: bool,
}

/// One rule: requests for this host under this path go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// `None` for every host; otherwise lower case, exact or `*.example.org`.
    pub host: Option<String>,
    /// A path prefix that begins with `/`; `/` takes every path.
    pub path: String,
    pub target: Target<String>,
    pub rules: Rules,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<P> {
    /// To the pods of a pool.
    Pool(P),
    /// To the pods of a pool that are not Jellyfin's.
    Plain(P),
    /// To another address: a URL, or a path of the same host, without a slash at its end.
    Redirect(String),
}

/// The routes in the order of comparison: the exact host before the wildcard, the longer path
/// before the shorter.
#[derive(Clone, Debug)]
pub struct Router {
    pub to_https: Option<ToHttps>,
    pub answers_acme: bool,
    routes: Vec<Route>,
}

/// One route, ready to be compared with a request.
#[derive(Clone, Debug)]
pub struct Route {
    /// The route as logs and metrics show it: host and path.
    pub name: Arc<str>,
    /// A pool's index in the list of its kind that the router was built with, or another address.
    pub target: Target<usize>,
    /// `None` for a route without any.
    pub rules: Option<Arc<Rules>>,
    host: Option<String>,
    /// Without a trailing slash; empty for `/`.
    pub prefix: String,
}

impl Router {
    /// `pools` are the names of Jellyfin's pools, and `plain` those of the others; `config` has
    /// checked that each route's pool is one of them.
    pub fn new(config: &Config, pools: &[Arc<str>], plain: &[Arc<str>]) -> Router {
        let index = |pools: &[Arc<str>], pool: &str| pools.iter().position(|name| **name == *pool);
        let route = |route: &RouteConfig| {
            Some(Route {
                name: format!("{}{}", route.host.as_deref().unwrap_or_default(), route.path).into(),
                target: match &route.target {
                    Target::Pool(pool) => Target::Pool(index(pools, pool)?),
                    Target::Plain(pool) => Target::Plain(index(plain, pool)?),
                    Target::Redirect(to) => Target::Redirect(to.clone()),
                },
                rules: (!route.rules.is_empty()).then(|| Arc::new(route.rules.clone())),
                host: route.host.clone(),
                prefix: route.path.trim_end_matches('/').to_owned(),
            })
        };
        let mut routes: Vec<Route> = config.routes.iter().filter_map(route).collect();
        let rank = |route: &Route| {
            let host = route.host.as_deref().unwrap_or_default();
            (host.is_empty(), host.starts_with('*'), std::cmp::Reverse((host.len(), route.prefix.len())))
        };
        routes.sort_by_key(rank);
        Router { to_https: config.to_https.clone(), answers_acme: config.answers_acme, routes }
    }

    /// The route for a host (as in the `Host` header, port and all) and a path.
    pub fn find(&self, host: &str, path: &str) -> Option<&Route> {
        let host = without_port(host);
        self.routes.iter().find(|route| route.takes_host(host) && route.takes_path(path))
    }

    /// Whether a path as it was written leads to this route for each server that reads it. Servers
    /// decode a path never, once or twice, leave out repeated slashes or parameters, or resolve its
    /// dots.
    pub fn is_plainly(&self, route: &Route, host: &str, written: &str) -> bool {
        let leads_here = |path: &str| self.find(host, path).is_some_and(|other| std::ptr::eq(other, route));
        leads_here(written) && leads_here(&simplest(written))
    }
}

impl RouteConfig {
    /// Whether it leads to the pool of this name.
    pub fn leads_to(&self, pool: &str) -> bool {
        matches!(&self.target, Target::Pool(name) if name == pool)
    }
}

impl Route {
    /// The index of the pool that it leads to.
    pub fn pool(&self) -> Option<usize> {
        match self.target {
            Target::Pool(pool) => Some(pool),
            Target::Plain(_) | Target::Redirect(_) => None,
        }
    }

    fn takes_host(&self, host: &str) -> bool {
        match self.host.as_deref() {
            None => true,
            Some(wanted) => match wanted.strip_prefix('*') {
                Some(suffix) => host.len() > suffix.len() && ends_with(host, suffix),
                None => host.eq_ignore_ascii_case(wanted),
            },
        }
    }

    fn takes_path(&self, path: &str) -> bool {
        match path.split_at_checked(self.prefix.len()) {
            Some((start, rest)) => {
                start.eq_ignore_ascii_case(&self.prefix) && (rest.is_empty() || rest.starts_with('/'))
            }
            None => false,
        }
    }
}

/// The path as the server reads it that reads the most into it.
fn simplest(written: &str) -> String {
    let mut path = written.to_owned();
    for _ in 0..3 {
        path = percent_decode_str(&path).decode_utf8_lossy().into_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    format!("/{}", kept.join("/"))
}

fn ends_with(host: &str, suffix: &str) -> bool {
    host.len()
        .checked_sub(suffix.len())
        .and_then(|at| host.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

/// The host of a `Host` header, without its port and trailing dot.
fn without_port(host: &str) -> &str {
    let name = match memrchr(b':', host.as_bytes()) {
        // A bare IPv6 address has its colons inside brackets.
        Some(at) if !host.ends_with(']') => &host[..at],
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(rules: &[(Option<&str>, &str, &str)]) -> Router {
        let routes = rules.iter().map(|(host, path, pool)| RouteConfig {
            host: host.map(str::to_owned),
            path: (*path).into(),
            target: Target::Pool((*pool).into()),
            rules: Rules::default(),
        });
        Router::new(
            &Config { routes: routes.collect(), to_https: None, answers_acme: false },
            &["a".into(), "b".into(), "c".into()],
            &[],
        )
    }

    #[test]
    fn the_most_telling_route_wins_whatever_the_order_of_the_file() {
        let router = router(&[
            (None, "/", "a"),
            (Some("*.example.org"), "/", "b"),
            (Some("media.example.org"), "/", "c"),
            (None, "/jellyfin", "b"),
        ]);
        let pool = |host, path| router.find(host, path).and_then(Route::pool);
        assert_eq!(pool("media.example.org:8920", "/x"), Some(2));
        assert_eq!(pool("MEDIA.Example.org.", "/"), Some(2));
        assert_eq!(pool("other.example.org", "/"), Some(1));
        assert_eq!(pool("example.org", "/"), Some(0));
        assert_eq!(pool("h", "/jellyfin"), Some(1));
        assert_eq!(pool("h", "/JELLYFIN/web"), Some(1));
        assert_eq!(pool("h", "/jellyfinx"), Some(0));
        assert_eq!(pool("[::1]:80", "/"), Some(0));
        assert_eq!(pool("", "/"), Some(0));
    }

    #[test]
    fn what_no_route_takes_has_no_route() {
        let router = router(&[(Some("media.example.org"), "/x", "a")]);
        assert!(router.find("media.example.org", "/").is_none());
        assert!(router.find("example.org", "/x").is_none());
    }

    #[test]
    fn a_path_that_some_server_reads_as_another_routes_is_told() {
        let router = router(&[(None, "/", "a"), (None, "/secret", "b")]);
        let is_plainly =
            |found: &str, written| router.is_plainly(router.find("h", found).expect("a route"), "h", written);
        for written in ["/", "/x/y", "/secrets", "/%41//b/", "/x/../y", "/x;secret"] {
            assert!(is_plainly("/", written), "{written}");
        }
        for written in [
            "//secret",
            "/x/../secret",
            "/./secret",
            "/%73ecret",
            "/%2573ecret",
            "/x/..%2Fsecret",
            "/secret;a=b/",
            "/x\\..\\SECRET",
            "/%2e/secret",
        ] {
            assert!(!is_plainly("/", written), "{written}");
        }
        assert!(is_plainly("/secret", "/secret/x") && is_plainly("/secret", "/SECRET/%78"));
        assert!(!is_plainly("/secret", "/secret/..") && !is_plainly("/secret", "/%73ecret"));
        assert!(!is_plainly("/", "/secret/../x"));
    }
}
