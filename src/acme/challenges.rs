//! The answers to an authority's questions, while an order is under way.

use std::{collections::HashMap, fmt};

use parking_lot::RwLock;

use super::renewal::ORDER;
use crate::store::sealed_documents::SealedDocuments;

/// What an authority may ask for over clear HTTP. All workers share it.
#[derive(Default)]
pub struct Challenges {
    answers: RwLock<HashMap<String, String>>,
    /// Another replica may have been asked than the one that orders.
    shared: Option<SealedDocuments>,
}

impl Challenges {
    /// `shared` has the answers of all replicas. They are no secret, but nobody else may write one:
    /// anyone who can gets a certificate for this host.
    pub fn new(shared: Option<SealedDocuments>) -> Challenges {
        Challenges { answers: RwLock::default(), shared }
    }

    /// The answer for a token: `token.thumbprint`, which is no secret.
    pub async fn answer(&self, token: &str) -> Option<String> {
        let own = self.answers.read().get(token).cloned();
        if own.is_some() || !is_token(token) {
            return own;
        }
        let kept = self.shared.as_ref()?.get(&name(token), &purpose(token)).await?.document()?;
        String::from_utf8(kept).ok()
    }

    /// Answers from now on.
    pub(super) async fn put(&self, token: &str, answer: &str) {
        self.answers.write().insert(token.to_owned(), answer.to_owned());
        if let Some(shared) = &self.shared {
            shared.set(&name(token), &purpose(token), answer.as_bytes(), ORDER).await;
        }
    }

    /// Answers no more. What stands in Redis expires.
    pub(super) fn clear(&self) {
        self.answers.write().clear();
    }
}

fn name(token: &str) -> String {
    format!("acme:http:{token}")
}

/// What the seal is for.
fn purpose(token: &str) -> String {
    format!("acme http {token}")
}

/// Whether it has the form of a token (RFC 8555, 8.3), so that strangers do not read other keys.
fn is_token(token: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (16..=256).contains(&token.len()) && token.bytes().all(is_base64url)
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").field("answers", &self.answers.read().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_tokens_that_were_put_are_answered() {
        let challenges = Challenges::default();
        challenges.put("abcdefghijklmnopqrst", "abcdefghijklmnopqrst.thumb").await;
        assert_eq!(challenges.answer("abcdefghijklmnopqrst").await.as_deref(), Some("abcdefghijklmnopqrst.thumb"));
        assert_eq!(challenges.answer("other").await, None);
        challenges.clear();
        assert_eq!(challenges.answer("abcdefghijklmnopqrst").await, None);
        assert!(is_token("LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0") && !is_token("../../etc/passwd/a/b/c"));
    }
}
