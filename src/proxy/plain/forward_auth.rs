//! `forward_auth`: another server decides about each request (Authelia, Authentik and the like).
//!
//! Only a 2xx lets a request pass. Any other answer is the client's, and no answer lets nobody pass.

use std::{sync::OnceLock, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time;

use super::Denied;
use crate::{forward::head, proxy::request::refusal::Refusal, route::auth};

/// Longest time for an answer, and its longest body in bytes.
const LONGEST: Duration = Duration::from_secs(10);
const MOST: usize = 1 << 20;

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// One worker's way to such servers.
#[derive(Default)]
pub(super) struct ForwardAuth {
    /// Made for the first question: few proxies ever ask one.
    client: OnceLock<Option<HttpClient>>,
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

impl ForwardAuth {
    /// Lets a request pass if the server says so, with what it says of the user. Returns the cookies
    /// that it sets.
    pub(super) async fn admit(
        &self,
        server: &auth::ForwardAuth,
        head: &mut request::Parts,
    ) -> Result<Vec<HeaderValue>, Denied> {
        let question = server.question(&head.method, &head.uri, &head.headers);
        let Some(mut answered) = self.ask(server, question).await else {
            return Err(Denied::Refused(Refusal::AuthAway));
        };
        if !answered.status().is_success() {
            head::to_client(answered.headers_mut());
            return Err(Denied::Answered(answered));
        }
        server.copy(answered.headers(), &mut head.headers);
        Ok(answered.headers().get_all(header::SET_COOKIE).iter().cloned().collect())
    }

    /// The server's whole answer, if there is one in time that is not too long.
    async fn ask(&self, server: &auth::ForwardAuth, question: HeaderMap) -> Option<Response<Bytes>> {
        let client = self.client.get_or_init(client).as_ref()?;
        let answer = async {
            let answered = match client.request(request_of(server, question.clone())).await {
                Ok(answered) => answered,
                // The kept connection had ended, most likely. The question changes nothing.
                Err(error) if !error.is_connect() => client.request(request_of(server, question)).await.ok()?,
                Err(_) => return None,
            };
            let (head, body) = answered.into_parts();
            let body = Limited::new(body, MOST).collect().await.ok()?.to_bytes();
            Some(Response::from_parts(head, body))
        };
        let answered = time::timeout(LONGEST, answer).await.ok().flatten();
        answered.filter(|answered| answered.status() != StatusCode::SWITCHING_PROTOCOLS)
    }
}

fn request_of(server: &auth::ForwardAuth, headers: HeaderMap) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = server.address.clone();
    *request.headers_mut() = headers;
    request
}

fn client() -> Option<HttpClient> {
    let connector = HttpsConnectorBuilder::new().try_with_platform_verifier().ok()?;
    let connector = connector.https_or_http().enable_http1().build();
    Some(Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector))
}
