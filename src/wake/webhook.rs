//! A request to another server, such as a home automation.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::json;
use tokio::time;

use super::{Act, Machine, Webhook};

impl Webhook {
    /// Sends act, pod and pool as JSON. Any 2xx will do; the answer's body is left alone.
    pub(super) async fn call(&self, act: Act, machine: &Machine, longest: Duration) -> Result<(), String> {
        let body = json!({"act": act.as_str(), "pod": machine.pod, "pool": machine.pool}).to_string();
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let connector = HttpsConnectorBuilder::new().try_with_platform_verifier().map_err(|error| error.to_string())?;
        let connector = connector.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        match time::timeout(longest, client.request(request)).await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("it answered {}", answer.status().as_u16())),
            // The error's text may contain the URL, which may be a secret.
            Ok(Err(error)) if error.is_connect() => Err("no connection".to_owned()),
            Ok(Err(_)) => Err("no answer".to_owned()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}
