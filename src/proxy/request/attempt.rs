//! One attempt at one pod, and what came of it.

use http::{Response, StatusCode};

use super::{refusal::Refusal, select::Decision};
use crate::{
    forward::answer::AnswerBody,
    jellyfin::{endpoint::Write, verdict::Verdict},
    sessions::Token,
};

/// A pod's answer, the decision that led to the pod, and what the answer means.
pub(in crate::proxy) struct Attempt {
    pub(in crate::proxy) answer: Response<AnswerBody>,
    pub(in crate::proxy) decision: Decision,
    /// The token that the pod received in place of the client's.
    pub(in crate::proxy) token: Option<Token>,
    pub(in crate::proxy) verdict: Verdict,
    /// What the request writes of a user's data.
    pub(in crate::proxy) user_data_write: Option<Box<dyn WriteUnderWay>>,
}

/// A client's write of user data that is under way to a pod. Dropping it ends it without effect.
pub(in crate::proxy) trait WriteUnderWay: Send + Sync {
    /// The pod has answered. `write`: what it wrote, if it did.
    fn end(self: Box<Self>, write: Option<&Write>);
}

impl Attempt {
    /// Whether the pod lacks what the client requests. Every recorded pod answers 404; by its
    /// source, some of 10.11 answer 500.
    pub(in crate::proxy) fn is_missing(&self) -> bool {
        let status = self.answer.status();
        status == StatusCode::NOT_FOUND || status.is_server_error()
    }
}

/// Whether no pod knows the token.
pub(in crate::proxy) fn is_refused(attempt: &Result<Attempt, Refusal>) -> bool {
    match attempt {
        Ok(attempt) => attempt.verdict == Verdict::UnknownToken,
        Err(refusal) => *refusal == Refusal::DeadToken,
    }
}
