//! A file goes on after its pod fails, so that direct play and downloads do not end in the middle.
//!
//! A film in direct play is one answer of many gigabytes. A player that sees it break off stops, or
//! fetches again what it has already. So jellypin asks another pod for the rest, or the same one
//! once it is back, within the same answer. The answer goes on only if the rest is of the very same
//! file; otherwise it breaks off.
//!
//! A pod may also fall silent without closing: its process hangs, or its cable is out. Only probes
//! tell that from a slow disk. So jellypin looks for the rest only when the pod is down as well as
//! silent. If it finds none, it keeps waiting for the silent pod.
//!
//! jellypin buffers nothing. It asks for the rest when the client wants the next byte, and streams
//! it like the first part.

mod file;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{self, Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    forward::answer::AnswerBody,
    observe::metrics,
    pod::{Pod, State},
    proxy::{
        replay::{ReplayableRequest, ReplayedAnswer},
        request::{record::RequestRecord, select::Decision},
        response::body::ContinuedBody,
    },
};
pub(in crate::proxy) use file::File;

/// Resumptions in a row that bring no byte, after which the answer breaks off.
const FUTILE: u32 = 8;

/// How long a pod that is down must be silent before jellypin looks for the rest. A pod without its
/// database still serves files.
const SILENT: Duration = Duration::from_secs(2);

/// The pause before jellypin asks a pod again; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The body of a file's answer.
pub(in crate::proxy) struct ResumableFile {
    file: File,
    body: AnswerBody,
    pod: Arc<Pod>,
    /// Counts the request at the pod that continues the file.
    load_guard: Option<Box<RequestRecord>>,
    /// `None` while a search for the rest holds it.
    replayable: Option<ReplayableRequest>,
    interruption: Option<Interruption>,
    watch: Watch,
    times: u32,
    futile: u32,
}

/// What jellypin knows of the pod while it sends nothing.
enum Watch {
    Off,
    /// Resolves when the pod is down.
    Alive(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// The pod is down; jellypin gives it time until this ends.
    Down(Pin<Box<Sleep>>),
}

/// The file broke off with this error, or its pod is silent. A search for the rest is under way.
struct Interruption {
    broke: Option<hyper::Error>,
    search: AbortOnDropHandle<SearchResult>,
}

struct SearchResult {
    replayable: ReplayableRequest,
    rest: Result<ReplayedAnswer, SearchFailure>,
}

/// Why a file does not go on.
#[derive(Clone, Copy, Debug)]
enum SearchFailure {
    /// A pod answered with something other than the rest of this file.
    Changed,
    /// No pod answered in time.
    NoPod,
}

/// The label of a file that goes on.
const RESUMED: &str = "resumed";

impl SearchFailure {
    fn as_str(self) -> &'static str {
        match self {
            SearchFailure::Changed => "changed",
            SearchFailure::NoPod => "gave_up",
        }
    }
}

impl ResumableFile {
    pub(in crate::proxy) fn new(
        file: File,
        body: AnswerBody,
        decision: &Decision,
        replayable: ReplayableRequest,
    ) -> Box<ResumableFile> {
        let pod = decision.pod.clone();
        Box::new(ResumableFile {
            file,
            body,
            pod,
            load_guard: None,
            replayable: Some(replayable),
            interruption: None,
            watch: Watch::Off,
            times: 0,
            futile: 0,
        })
    }
}

impl ContinuedBody for ResumableFile {
    fn times(&self) -> u32 {
        self.times
    }

    fn remaining(&self) -> u64 {
        self.file.remaining()
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            if let Some(interruption) = &mut self.interruption {
                let found = ready!(Pin::new(&mut interruption.search).poll(cx));
                let broke = interruption.broke.take();
                self.interruption = None;
                // A search that panicked, or ended with its runtime, has found nothing.
                if !found.is_ok_and(|found| self.continue_with(found))
                    && let Some(error) = broke
                {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Err(error))) => match self.replayable.take().filter(|_| self.futile < FUTILE) {
                    Some(replayable) => {
                        self.load_guard = None;
                        self.search(replayable, Some(error));
                    }
                    None => return Poll::Ready(Some(Err(error))),
                },
                Poll::Ready(frame) => {
                    if let Some(Ok(frame)) = &frame
                        && let Some(data) = frame.data_ref()
                    {
                        self.file.passed(data.len() as u64);
                        self.futile = 0;
                    }
                    if matches!(self.watch, Watch::Down(_)) {
                        self.watch = Watch::Off;
                    }
                    return Poll::Ready(frame);
                }
                Poll::Pending => {
                    ready!(self.poll_silent(cx));
                    match self.replayable.take().filter(|_| self.futile < FUTILE) {
                        Some(replayable) => self.search(replayable, None),
                        None => return Poll::Pending,
                    }
                }
            }
        }
    }
}

impl ResumableFile {
    /// Ready when the pod is down and has sent nothing for `SILENT`, while the client wanted more.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.watch {
                Watch::Off => {
                    let pod = self.pod.clone();
                    self.watch = Watch::Alive(Box::pin(async move { pod.life.await_down().await }));
                }
                Watch::Alive(lost) => {
                    ready!(lost.as_mut().poll(cx));
                    self.watch = Watch::Down(Box::pin(time::sleep(SILENT)));
                }
                Watch::Down(time) => {
                    ready!(time.as_mut().poll(cx));
                    self.watch = Watch::Off;
                    if self.pod.status().state == State::Down {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    /// Begins to look for the rest, in a task of its own. Nothing polls this body while the client
    /// does not read, and a pod that has answered must not seem late.
    fn search(&mut self, replayable: ReplayableRequest, broke: Option<hyper::Error>) {
        let search = tokio::spawn(search(replayable, self.file.clone(), self.futile));
        self.futile += 1;
        self.interruption = Some(Interruption { broke, search: AbortOnDropHandle::new(search) });
    }

    /// Continues with the search's result. Returns whether there is a rest.
    fn continue_with(&mut self, found: SearchResult) -> bool {
        let outcome = found.rest.as_ref().map_or_else(|failure| failure.as_str(), |_| RESUMED);
        let labels = metrics::Resumption { pool: self.pod.pool.clone(), from: self.pod.name.clone(), outcome };
        found.replayable.replayer().observer.metrics.resumed.get_or_create(&labels).inc();
        self.replayable = Some(found.replayable);
        let Ok(replayed) = found.rest else { return false };
        self.pod = replayed.attempt.decision.pod;
        self.body = replayed.attempt.answer.into_body();
        self.load_guard = Some(replayed.record);
        self.watch = Watch::Off;
        self.times += 1;
        true
    }
}

/// Asks for the rest of a file until a pod has it, for as long as requests are held. `futile`
/// counts earlier resumptions that brought no byte.
///
/// The search may rightly ask the pod that broke off first: Kestrel ends connections of clients
/// that read too slowly.
async fn search(mut replayable: ReplayableRequest, file: File, futile: u32) -> SearchResult {
    let end = Instant::now() + replayable.replayer().hold();
    file.ask_rest(replayable.headers());
    let mut pause = PAUSE.saturating_mul(1 << futile.min(FUTILE)).min(LONGEST_PAUSE);
    if futile > 0 {
        time::sleep(pause).await;
    }
    loop {
        // Dispatch limits each attempt; this limits the whole search.
        let Ok(replayed) = time::timeout_at(end, replayable.send()).await else {
            return SearchResult { replayable, rest: Err(SearchFailure::NoPod) };
        };
        if let Ok(replayed) = replayed {
            let answer = &replayed.attempt.answer;
            if file.is_continued_by(answer.status(), answer.headers()) {
                return SearchResult { replayable, rest: Ok(replayed) };
            }
            // A server error says nothing of the file: the pod starts, or has lost its database.
            if !answer.status().is_server_error() {
                return SearchResult { replayable, rest: Err(SearchFailure::Changed) };
            }
        }
        if replayable.replayer().shutdown.is_stopping() || Instant::now() + pause >= end {
            return SearchResult { replayable, rest: Err(SearchFailure::NoPod) };
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
