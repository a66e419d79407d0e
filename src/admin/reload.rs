//! `GET` and `POST /reload`, `POST /upgrade`: what operators ask of the process.

use std::net::IpAddr;

use http::StatusCode;
use tokio::sync::{mpsc, oneshot};

use super::{
    answer::{Answer, text},
    guard::Operator,
};

/// What an operator asks of the process.
#[derive(Debug)]
pub struct OperatorRequest {
    pub what: Wanted,
    /// `Err` says why not.
    pub answer: oneshot::Sender<Result<String, String>>,
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To read the configuration again.
    Reload,
    /// To say what that would change.
    Difference,
    /// To let a new process take this one's place.
    HandOver,
}

/// Passes requests of operators on.
pub(super) struct Reloads {
    pub(super) operator_requests: mpsc::Sender<OperatorRequest>,
}

impl Reloads {
    /// `GET /reload`.
    pub(super) async fn difference(&self) -> Answer {
        self.ask_for(Wanted::Difference).await
    }

    /// `POST /reload`.
    pub(super) async fn reload(&self, who: &Operator, from: IpAddr) -> Answer {
        tracing::info!(by = %who, client.address = %from, "an operator reloads the configuration");
        self.ask_for(Wanted::Reload).await
    }

    /// `POST /upgrade`.
    pub(super) async fn hand_over(&self, who: &Operator, from: IpAddr) -> Answer {
        tracing::info!(by = %who, client.address = %from, "an operator lets a new process take over");
        self.ask_for(Wanted::HandOver).await
    }

    async fn ask_for(&self, what: Wanted) -> Answer {
        let (answer, answered) = oneshot::channel();
        let is_sent = self.operator_requests.send(OperatorRequest { what, answer }).await.is_ok();
        match answered.await {
            Ok(Ok(said)) if is_sent => text(StatusCode::OK, said),
            Ok(Err(why)) if is_sent => text(StatusCode::UNPROCESSABLE_ENTITY, why),
            _ => text(StatusCode::SERVICE_UNAVAILABLE, "Nothing reads the configuration at this moment.\n"),
        }
    }
}
