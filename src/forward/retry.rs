//! What to do after a failure: a pure rule.

use super::{Cause, Failure};

/// What to do with a request that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same pod over a fresh connection: the kept one was stale.
    SamePod,
    /// Another pod.
    OtherPod,
    /// Nothing: the pod may have executed it, or it cannot be sent again.
    GiveUp,
}

/// The rule. `can_repeat`: doing it twice does no harm, by its method (RFC 9110, 9.2.2) or its
/// path. `can_replay`: the body can still be sent again.
///
/// A request that the pod did not receive goes to another pod, whatever it is. Otherwise three
/// things must hold before it is sent again. Doing it twice does no harm, its whole body is still
/// there, and its pod died over it.
pub fn next(failure: Failure, can_repeat: bool, can_replay: bool) -> Next {
    if !can_replay || matches!(failure.cause, Cause::ClientGone | Cause::ClientMalformed | Cause::ClientSilent) {
        return Next::GiveUp;
    }
    if !failure.may_be_received {
        return Next::OtherPod;
    }
    // A pod that is late, or whose answer is not HTTP, lives. It works on the request or has
    // executed it, and so would every other pod.
    if !can_repeat || matches!(failure.cause, Cause::TimedOut | Cause::Malformed) {
        return Next::GiveUp;
    }
    match failure.cause {
        Cause::Broken if failure.on_reused_connection => Next::SamePod,
        _ => Next::OtherPod,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(cause: Cause, may_be_received: bool, on_reused_connection: bool) -> Failure {
        Failure { cause, may_be_received, on_reused_connection }
    }

    #[test]
    fn what_was_not_received_goes_elsewhere_whatever_it_is() {
        let refused = failure(Cause::Refused, false, false);
        assert_eq!(next(refused, false, true), Next::OtherPod);
        assert_eq!(next(refused, true, true), Next::OtherPod);
    }

    #[test]
    fn what_may_have_been_executed_is_not_done_twice() {
        for cause in [Cause::Broken, Cause::TimedOut, Cause::Lost, Cause::Malformed] {
            for on_reused_connection in [true, false] {
                assert_eq!(next(failure(cause, true, on_reused_connection), false, true), Next::GiveUp);
            }
        }
    }

    #[test]
    fn what_a_living_pod_has_is_asked_of_no_other() {
        for cause in [Cause::TimedOut, Cause::Malformed] {
            assert_eq!(next(failure(cause, true, false), true, true), Next::GiveUp);
        }
        assert_eq!(next(failure(Cause::Lost, true, false), true, true), Next::OtherPod);
    }

    #[test]
    fn a_stale_connection_is_no_reason_to_leave_the_pod() {
        assert_eq!(next(failure(Cause::Broken, true, true), true, true), Next::SamePod);
        assert_eq!(next(failure(Cause::Broken, true, false), true, true), Next::OtherPod);
    }

    #[test]
    fn a_body_that_is_gone_is_never_sent_again() {
        for can_repeat in [true, false] {
            assert_eq!(next(failure(Cause::Broken, true, true), can_repeat, false), Next::GiveUp);
            assert_eq!(next(failure(Cause::Refused, false, false), can_repeat, false), Next::GiveUp);
        }
    }
}
