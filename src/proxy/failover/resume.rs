//! A file goes on after its pod: direct play and downloads do not end in the middle.
//!
//! A film that is played as it is, is one answer of many gigabytes, and a player that sees it break off stops, or asks for what it
//! has already. So where a file breaks off, another pod (or the same one, once it is back) is asked for the rest, within the
//! same answer. It goes on only if that is the very same file; else the answer breaks off as it did.
//!
//! A pod may also fall silent without an end: its process hangs, its cable is out. Nobody can tell that from a slow disk, but for
//! its checks; so the rest is looked for when the pod is down, and silent all the same. If none is found, what the pod may still
//! send is waited for as before.
//!
//! Nothing is gathered: the rest is asked for when the client wants the next byte, and streams as the first part did.

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
        dispatch::replay::{ReplayableRequest, ReplayedAnswer},
        request::{record::RequestRecord, select::Decision},
    },
};
pub(in crate::proxy) use file::File;

/// Resumptions in a row that bring no byte, after which the answer breaks off.
const FUTILE: u32 = 8;

/// How long a pod that is down is silent until the rest is looked for. One without its database serves files still.
const SILENT: Duration = Duration::from_secs(2);

/// The pause before a pod is asked again; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The body of a file's answer.
pub(in crate::proxy) struct ResumableFile {
    file: File,
    body: AnswerBody,
    pod: Arc<Pod>,
    /// What is under way at the pod that goes on with the file.
    load_guard: Option<Box<RequestRecord>>,
    /// Away while the rest is looked for.
    replayable: Option<ReplayableRequest>,
    interruption: Option<Interruption>,
    watch: Watch,
    times: u32,
    futile: u32,
}

/// What is known of the pod while it sends nothing.
enum Watch {
    Off,
    /// Ends when the pod is down.
    Alive(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// It is down, and has time until this ends.
    Down(Pin<Box<Sleep>>),
}

/// The file broke off, with this error, or its pod is silent; and its rest is looked for.
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
    /// A pod answered with something else than the rest of this file.
    Changed,
    /// Nobody answered in time.
    NoPod,
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

    /// How often another answer went on with this one.
    pub(in crate::proxy) fn times(&self) -> u32 {
        self.times
    }

    /// Bytes that the client has still to get.
    pub(in crate::proxy) fn remaining(&self) -> u64 {
        self.file.remaining()
    }

    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            if let Some(interruption) = &mut self.interruption {
                let found = ready!(Pin::new(&mut interruption.search).poll(cx));
                let broke = interruption.broke.take();
                self.interruption = None;
                // A search that panicked, or was ended with its runtime, has found nothing.
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

    /// Ready when the pod is down and has sent nothing for some time since the client was ready for more.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.watch {
                Watch::Off => {
                    let pod = self.pod.clone();
                    self.watch = Watch::Alive(Box::pin(async move { pod.await_down().await }));
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

    /// Begins to look for the rest. In a task of its own, since nobody polls this body while the client does not read, and a
    /// pod that has answered meanwhile must not seem to be late.
    fn search(&mut self, replayable: ReplayableRequest, broke: Option<hyper::Error>) {
        let search = tokio::spawn(search(replayable, self.file.clone(), self.futile));
        self.futile += 1;
        self.interruption = Some(Interruption { broke, search: AbortOnDropHandle::new(search) });
    }

    /// Goes on with what was found. Says whether there was anything.
    fn continue_with(&mut self, found: SearchResult) -> bool {
        let outcome = match &found.rest {
            Ok(_) => "resumed",
            Err(SearchFailure::Changed) => "changed",
            Err(SearchFailure::NoPod) => "gave_up",
        };
        let labels = metrics::Resumption { pool: self.pod.pool.clone(), from: self.pod.name.clone(), outcome };
        found.replayable.proxy().metrics.resumed.get_or_create(&labels).inc();
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

/// Asks for the rest of a file until a pod has it, for as long as requests are held. `futile`: how often that brought nothing.
///
/// The pod that broke off may be asked first, and rightly so: Kestrel ends the connections of those who read too slowly.
async fn search(mut replayable: ReplayableRequest, file: File, futile: u32) -> SearchResult {
    let end = Instant::now() + replayable.proxy().shared.forward.hold;
    file.ask_rest(replayable.headers());
    let mut pause = PAUSE.saturating_mul(1 << futile.min(FUTILE)).min(LONGEST_PAUSE);
    if futile > 0 {
        time::sleep(pause).await;
    }
    loop {
        // Who does not answer at all is the matter of `ask`; here the whole search has its end.
        let Ok(replayed) = time::timeout_at(end, replayable.send()).await else {
            return SearchResult { replayable, rest: Err(SearchFailure::NoPod) };
        };
        if let Ok(replayed) = replayed {
            let answer = &replayed.attempt.answer;
            if file.is_continued_by(answer.status(), answer.headers()) {
                return SearchResult { replayable, rest: Ok(replayed) };
            }
            // A pod that starts, or has lost its database, says nothing of the file.
            if !answer.status().is_server_error() {
                return SearchResult { replayable, rest: Err(SearchFailure::Changed) };
            }
        }
        if replayable.proxy().shutdown.is_stopping() || Instant::now() + pause >= end {
            return SearchResult { replayable, rest: Err(SearchFailure::NoPod) };
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
