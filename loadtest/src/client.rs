//! A client with a device, a token and a cookie jar of its own, on one kept connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::connection::{Connection, Failure};

/// Larger than any answer of an ordinary request, so that one read takes it whole.
const BUFFER_BYTES: usize = 16 * 1024;

pub(crate) struct Client {
    address: SocketAddr,
    identity: Identity,
    paths: Vec<String>,
    cookies: BTreeMap<String, String>,
    /// One ready request for each path; made again only when a cookie changed.
    requests: Vec<Vec<u8>>,
    next: usize,
    connection: Option<Connection>,
}

/// The pod that served a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Served {
    pub(crate) pod: Option<char>,
}

impl Client {
    /// The client number `number`; two numbers never share a token or a device.
    pub(crate) fn new(address: SocketAddr, number: u64, paths: &[String]) -> Client {
        let mut client = Client {
            address,
            identity: Identity::new(number),
            paths: paths.to_vec(),
            cookies: BTreeMap::new(),
            requests: Vec::new(),
            next: 0,
            connection: None,
        };
        client.make_requests();
        client
    }

    /// One request and its whole answer. After a failure the next request has a new connection.
    pub(crate) async fn exchange(&mut self) -> Result<Served, Failure> {
        // Taken out, so that a failure and a caller that gives up both leave no connection in an unknown state.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.address, BUFFER_BYTES).await?,
        };
        connection.send(&self.requests[self.next]).await?;
        self.next = (self.next + 1) % self.requests.len();
        let head = connection.head().await?;
        connection.whole_body(head.length).await?;
        if !head.close {
            self.connection = Some(connection);
        }
        if !head.set_cookies.is_empty() {
            self.keep_cookies(&head.set_cookies);
        }
        if !(200..300).contains(&head.status) {
            return Err(Failure::Status(head.status));
        }
        Ok(Served { pod: head.pod })
    }

    fn keep_cookies(&mut self, set_cookies: &[String]) {
        for set_cookie in set_cookies {
            let pair = set_cookie.split(';').next().unwrap_or_default();
            let Some((name, value)) = pair.split_once('=') else {
                continue;
            };
            if set_cookie.to_ascii_lowercase().contains("max-age=0") {
                self.cookies.remove(name.trim());
            } else {
                self.cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
        self.make_requests();
    }

    fn make_requests(&mut self) {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.requests = self
            .paths
            .iter()
            .map(|path| self.identity.request(self.address, path, &cookies.join("; ")).into_bytes())
            .collect();
    }
}

/// What a client tells of itself in every request.
pub(crate) struct Identity {
    device: String,
    token: String,
}

impl Identity {
    pub(crate) fn new(number: u64) -> Identity {
        Identity { device: format!("loadtest-{number}"), token: token(number) }
    }

    /// A request with the headers that the web client in a browser sends.
    fn request(&self, address: SocketAddr, path: &str, cookies: &str) -> String {
        let cookie_line = if cookies.is_empty() { String::new() } else { format!("Cookie: {cookies}\r\n") };
        format!(
            "GET {path} HTTP/1.1\r\n\
             Host: {address}\r\n\
             Connection: keep-alive\r\n\
             {authorization}\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
             Accept: application/json\r\n\
             Sec-Fetch-Site: same-origin\r\n\
             Sec-Fetch-Mode: cors\r\n\
             Sec-Fetch-Dest: empty\r\n\
             Referer: http://{address}/web/\r\n\
             Accept-Encoding: identity\r\n\
             Accept-Language: en-US,en;q=0.9\r\n\
             {cookie_line}\r\n",
            authorization = self.authorization(),
        )
    }

    /// The header line by which Jellyfin knows a client.
    pub(crate) fn authorization(&self) -> String {
        let Identity { device, token } = self;
        format!(
            "Authorization: MediaBrowser Client=\"Jellyfin Web\", Device=\"Chrome\", DeviceId=\"{device}\", \
             Version=\"12.0.0\", Token=\"{token}\""
        )
    }
}

/// 32 hex digits as Jellyfin's tokens are, well spread so that placement by a hash of them spreads too.
fn token(number: u64) -> String {
    format!("{:016x}{:016x}", spread(number), spread(number ^ u64::MAX))
}

/// The finalizer of SplitMix64: every number has an image of its own.
fn spread(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new(SocketAddr::from(([127, 0, 0, 1], 1)), 7, &["/Items?limit=1".to_owned()])
    }

    fn first_request(client: &Client) -> String {
        String::from_utf8(client.requests[0].clone()).expect("a request is text")
    }

    #[test]
    fn a_request_names_device_and_token_and_ends_its_head() {
        let request = first_request(&client());
        assert!(request.starts_with("GET /Items?limit=1 HTTP/1.1\r\n"));
        assert!(request.contains("DeviceId=\"loadtest-7\""));
        assert!(request.contains(&format!("Token=\"{}\"", token(7))));
        assert!(request.ends_with("\r\n\r\n"));
        assert_eq!(request.matches("\r\n\r\n").count(), 1);
        assert!(!request.contains("Cookie:"));
    }

    #[test]
    fn cookies_come_back_without_attributes_until_they_expire() {
        let mut client = client();
        client.keep_cookies(&["home=x1; Path=/; HttpOnly".to_owned(), "other=2".to_owned()]);
        assert!(first_request(&client).contains("\r\nCookie: home=x1; other=2\r\n\r\n"));
        client.keep_cookies(&["home=x2".to_owned(), "other=; Max-Age=0".to_owned()]);
        assert!(first_request(&client).contains("\r\nCookie: home=x2\r\n\r\n"));
    }
}
