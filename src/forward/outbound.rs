//! A request's body on its way to a pod: streamed, and kept for another attempt while it is small.

mod buffer;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};

use crate::server_id::BodyRewriter;
use buffer::{Piece, ReplayBuffer};

/// The longest time that a body waits for the pod's `100 Continue`. After that the proxy sends it.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// A client's body. While it is small, several attempts can send it.
#[derive(Clone, Debug)]
pub struct ReplayBody(Option<Arc<Mutex<ReplayBuffer>>>);

/// One attempt to send a body.
#[derive(Debug)]
pub struct UpstreamBody {
    held: Option<Arc<Mutex<ReplayBuffer>>>,
    /// A body that the proxy made, until it is sent.
    from_bytes: Option<Bytes>,
    number: u32,
    /// The next kept piece to send.
    next: usize,
    gate: Option<ContinueGate>,
    rewriting: Option<Box<BodyRewriter>>,
}

/// How far a body got, for the code that waits for the answer.
#[derive(Clone, Debug)]
pub struct Progress(Option<Arc<Mutex<ReplayBuffer>>>);

/// Holds a body back until the pod asks for it (`Expect: 100-continue`).
#[derive(Debug)]
struct ContinueGate {
    asked: oneshot::Receiver<()>,
    at_last: Pin<Box<Sleep>>,
}

impl ReplayBody {
    /// A body of which at most `most` bytes are kept.
    pub fn new(incoming: Incoming, most: usize) -> ReplayBody {
        if incoming.is_end_stream() {
            return ReplayBody(None);
        }
        let size = incoming.size_hint();
        let is_gone = size.lower() > most as u64;
        let held = ReplayBuffer {
            incoming,
            size,
            pieces: Vec::new(),
            kept: 0,
            most,
            is_gone,
            attempts: 0,
            is_broken: false,
            is_malformed: false,
            is_held_back: false,
            bytes: 0,
            ended: None,
            silent_since: None,
        };
        ReplayBody(Some(Arc::new(Mutex::new(held))))
    }

    /// A request without a body.
    pub fn empty() -> ReplayBody {
        ReplayBody(None)
    }

    /// The length of the body, or `most` if it is longer or unknown.
    pub fn length_at_most(&self, most: usize) -> usize {
        self.0.as_ref().map_or(0, |held| {
            let length = held.lock().size.upper().and_then(|bytes| usize::try_from(bytes).ok());
            length.unwrap_or(most).min(most)
        })
    }

    /// Keeps up to `most` bytes, if that is more than before. For a body that nobody has read yet.
    pub fn keep_up_to(&self, most: usize) {
        if let Some(held) = &self.0 {
            let mut held = held.lock();
            if held.bytes == 0 && most > held.most {
                held.most = most;
                held.is_gone = held.size.lower() > most as u64;
            }
        }
    }

    /// Whether one more attempt can send all of it.
    pub fn can_replay(&self) -> bool {
        self.0.as_ref().is_none_or(|held| {
            let held = held.lock();
            !held.is_broken && (!held.is_gone || held.bytes == 0)
        })
    }

    /// The most bytes that may be kept for another attempt.
    pub fn replay_capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |held| {
            let held = held.lock();
            let whole = held.size.upper().and_then(|bytes| usize::try_from(bytes).ok());
            if held.is_gone { 0 } else { whole.unwrap_or(held.most).min(held.most) }
        })
    }

    /// Bytes received from the client so far.
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |held| held.lock().bytes)
    }

    /// Whether the proxy has asked for more of the body, and the client has not sent it.
    pub fn is_waited_for(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.lock().silent_since.is_some())
    }

    /// Whether the client broke its body off.
    pub fn is_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.lock().is_broken)
    }

    /// Whether it broke off since it is no HTTP.
    pub fn is_malformed(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.lock().is_malformed)
    }

    /// Whether the end of the body has not been read yet.
    pub fn is_unread(&self) -> bool {
        self.0.as_ref().is_some_and(|held| {
            let held = held.lock();
            held.ended.is_none() && !held.is_broken
        })
    }

    /// Reads the rest of the body and throws it away. Returns whether it ended within `most` bytes.
    pub async fn discard(&self, most: u64) -> bool {
        let Some(held) = &self.0 else { return true };
        let read_before = {
            let mut held = held.lock();
            // From here on no attempt reads.
            held.attempts += 1;
            if held.size.lower().saturating_sub(held.bytes) > most {
                return false;
            }
            held.bytes
        };
        let ended = std::future::poll_fn(|cx| {
            let mut held = held.lock();
            loop {
                let mut next = held.pieces.len();
                match ready!(held.poll_piece(&mut next, cx)) {
                    Some(Ok(_)) if held.bytes - read_before > most => return Poll::Ready(false),
                    Some(Ok(_)) => {}
                    Some(Err(_)) => return Poll::Ready(false),
                    None => return Poll::Ready(true),
                }
            }
        });
        ended.await
    }

    /// Reads the whole body before jellypin asks any pod, if the body is short enough to be kept.
    /// `None` if it is longer, or breaks off.
    ///
    /// # Cancel safety
    /// Bytes already read stay.
    pub async fn read_ahead(&self) -> Option<Bytes> {
        let mut next = 0;
        while let Some(held) = &self.0 {
            let ended = std::future::poll_fn(|cx| {
                let mut held = held.lock();
                match ready!(held.poll_piece(&mut next, cx)) {
                    Some(Ok(_)) => Poll::Ready(held.is_gone),
                    Some(Err(_)) | None => Poll::Ready(true),
                }
            });
            if ended.await {
                break;
            }
        }
        self.replayable()
    }

    /// The whole body, if it has ended and was short enough to be kept.
    pub fn replayable(&self) -> Option<Bytes> {
        let Some(held) = &self.0 else { return Some(Bytes::new()) };
        let held = held.lock();
        if held.is_gone || held.is_broken || held.ended.is_none() {
            return None;
        }
        let data = held.pieces.iter().filter_map(|piece| if let Piece::Data(data) = piece { Some(data) } else { None });
        let data: Vec<&Bytes> = data.collect();
        match data[..] {
            [one] => Some(one.clone()),
            _ => Some(data.into_iter().flatten().copied().collect()),
        }
    }

    /// A new attempt, from the first byte.
    pub fn new_attempt(&self) -> UpstreamBody {
        let number = self.0.as_ref().map_or(0, |held| {
            let mut held = held.lock();
            held.attempts += 1;
            held.attempts
        });
        UpstreamBody { held: self.0.clone(), from_bytes: None, number, next: 0, gate: None, rewriting: None }
    }
}

impl UpstreamBody {
    /// A body that the proxy made.
    pub fn from_bytes(body: Bytes) -> UpstreamBody {
        UpstreamBody {
            held: None,
            from_bytes: Some(body).filter(|body| !body.is_empty()),
            number: 0,
            next: 0,
            gate: None,
            rewriting: None,
        }
    }

    pub fn progress(&self) -> Progress {
        Progress(self.held.clone())
    }

    /// Holds the body back until the returned sender is used.
    fn wait_for_continue(&mut self) -> oneshot::Sender<()> {
        let (ask, asked) = oneshot::channel();
        self.pause(true);
        self.gate = Some(ContinueGate { asked, at_last: Box::pin(tokio::time::sleep(CONTINUE_TIMEOUT)) });
        ask
    }

    /// Holds the body of a request back whose client waits for `100 Continue`, until the pod says that.
    pub fn wait_if_expected(request: &mut Request<UpstreamBody>) {
        let expect = request.headers().get(header::EXPECT);
        let waits = expect.is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if !waits || request.body().is_end_stream() {
            return;
        }
        let ask = Mutex::new(Some(request.body_mut().wait_for_continue()));
        hyper::ext::on_informational(request, move |answer| {
            if answer.status() == StatusCode::CONTINUE
                && let Some(ask) = ask.lock().take()
            {
                // If the body is gone, nobody waits for the signal.
                let _ = ask.send(());
            }
        });
    }

    /// Rewrites the body on its way. The kept bytes stay unchanged, since each pod has its own id.
    pub fn rewrite(&mut self, rewriting: BodyRewriter) {
        self.rewriting = Some(Box::new(rewriting));
    }

    fn pause(&self, is_held_back: bool) {
        if let Some(held) = &self.held {
            held.lock().is_held_back = is_held_back;
        }
    }
}

impl Progress {
    /// When the last byte was passed on; `start` if there is no body.
    pub fn ended_at(&self, start: Instant) -> Option<Instant> {
        self.0.as_ref().map_or(Some(start), |held| held.lock().ended)
    }

    /// How long the client has sent nothing although the proxy asked for more of the body.
    pub fn silence(&self) -> Option<Duration> {
        self.0.as_ref().and_then(|held| held.lock().silent_since).map(|since| since.elapsed())
    }

    /// Whether it broke off since it is no HTTP.
    pub fn is_malformed(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.lock().is_malformed)
    }

    /// Whether all of it was passed on.
    pub fn has_ended(&self) -> bool {
        self.0.as_ref().is_none_or(|held| held.lock().ended.is_some())
    }

    /// Whether the proxy has not asked for the body yet. Once the pod has answered, this stays so.
    pub fn is_held_back(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.lock().is_held_back)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.poll_open(cx));
            self.gate = None;
            self.pause(false);
        }
        let this = &mut *self;
        let Some(held) = &this.held else {
            return Poll::Ready(this.from_bytes.take().map(|body| Ok(Frame::data(body))));
        };
        let mut held = held.lock();
        if held.attempts != this.number {
            // The attempt's pod has answered already, and closes the connection when it likes.
            return Poll::Pending;
        }
        match &mut this.rewriting {
            Some(rewriting) => rewriting.poll_frame(|| held.poll_piece(&mut this.next, cx)),
            None => held.poll_piece(&mut this.next, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.from_bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let own = || self.from_bytes.as_ref().map_or(0, Bytes::len) as u64;
        self.held.as_ref().map_or_else(|| SizeHint::with_exact(own()), |held| held.lock().size)
    }
}

impl ContinueGate {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.asked.is_terminated() {
            match Pin::new(&mut self.asked).poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(()),
                Poll::Pending => return self.at_last.as_mut().poll(cx),
                Poll::Ready(Err(_)) => {}
            }
        }
        // The sender is gone: the pod answered without the body, or broke off. The body stays
        // unread, and the connection ends with the answer.
        Poll::Pending
    }
}
