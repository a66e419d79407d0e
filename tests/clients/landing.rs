//! Where the requests of each access token landed, read off what the pods saw.

use std::collections::{BTreeMap, BTreeSet};

use jellyfin_sim::{Pod, Seen};

/// For each token, the pods it reached with the requests that bore it there.
#[derive(Debug, Default)]
pub(crate) struct Landing {
    tokens: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Landing {
    pub(crate) fn of<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Landing {
        let mut landing = Landing::default();
        for pod in pods {
            for seen in pod.seen() {
                landing.add(pod.name(), &seen);
            }
            // The proxy's own calls bear it.
            landing.tokens.remove(&pod.cluster().api_key());
        }
        landing
    }

    /// Demands that every token reached one pod and no other.
    #[track_caller]
    pub(crate) fn must_be_one_pod_a_token(&self) {
        assert!(!self.tokens.is_empty(), "no request bore a token: nothing was looked at");
        for pods in self.tokens.values() {
            for (pod, requests) in pods {
                println!("{} requests with one token, all of them at {pod}", requests.len());
            }
            assert!(pods.len() == 1, "one token reached several pods: {pods:#?}");
        }
    }

    /// The requests that bore any token, as `METHOD /path`.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &str> {
        self.tokens.values().flat_map(BTreeMap::values).flatten().map(String::as_str)
    }

    /// The pod that the tokens reached, when it is one.
    pub(crate) fn home(&self) -> Option<&str> {
        let mut pods = self.tokens.values().flat_map(BTreeMap::keys);
        let home = pods.next()?;
        pods.all(|pod| pod == home).then_some(home)
    }

    fn add(&mut self, pod: &str, seen: &Seen) {
        if seen.method == "POST" && seen.path().eq_ignore_ascii_case("/Sessions/Logout") {
            // A log-out is told to every pod.
            return;
        }
        for token in tokens(seen) {
            let request = format!("{} {}", seen.method, seen.path());
            self.tokens.entry(token).or_default().entry(pod.to_owned()).or_default().push(request);
        }
    }
}

/// Every carrier's token: Jellyfin's are 32 hexadecimal digits, and nothing else of that look follows these names.
fn tokens(seen: &Seen) -> BTreeSet<String> {
    let (_, query) = seen.target.split_once('?').unwrap_or_default();
    let query_value = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name == "apikey" || name == "api_key"
    });
    let in_header =
        seen.header("authorization").unwrap_or_default().split([',', ' ']).filter_map(|pair| pair.split_once('='));
    let in_header = in_header.filter(|(name, _)| *name == "Token");
    let values = query_value.chain(in_header).map(|(_, value)| value.trim_matches('"'));
    values
        .filter(|value| value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(str::to_owned)
        .collect()
}

#[test]
#[should_panic(expected = "one token reached several pods")]
fn a_token_on_two_pods_is_found() {
    let token = "0123456789abcdef0123456789abcdef";
    let mut landing = Landing::default();
    landing.add("a", &seen("/Items", &format!("MediaBrowser Client=\"x\", Token=\"{token}\"")));
    landing.add("b", &seen(&format!("/socket?deviceId=d&apikey={token}"), ""));
    landing.must_be_one_pod_a_token();
}

#[test]
#[should_panic(expected = "nothing was looked at")]
fn a_missing_token_is_found() {
    let mut landing = Landing::default();
    landing.add("a", &seen("/socket?ApiKey=&deviceId=d", "MediaBrowser Token=\"\""));
    landing.must_be_one_pod_a_token();
}

fn seen(target: &str, authorization: &str) -> Seen {
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", authorization.parse().expect("a header value"));
    Seen { method: http::Method::GET, target: target.to_owned(), headers, status: 200, client_gone: false }
}
