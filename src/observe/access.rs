//! The access log: one line for each request, written when its answer has ended.
//!
//! Each worker buffers its lines and sends full buffers to one writer thread.
//! So a request pays only for formatting, and a slow reader of the log never delays it.
//! A reader that does not keep up loses lines, and a metric counts the lost buffers.

mod clock;
mod line;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use super::{AccessLog, Format};
use clock::Clock;
pub use line::Line;

/// Most buffers that wait for the writer. A buffer beyond that is lost.
const QUEUE: usize = 256;
/// A buffer of this size in bytes goes to the writer at once.
/// A smaller one goes with the next [`Worker::flush`].
const FULL: usize = 16 * 1024;

/// The log's writer thread and the queue to it.
pub struct Access {
    format: Format,
    queue: Option<SyncSender<Vec<u8>>>,
    reopen: Arc<AtomicBool>,
    /// Counts buffers that found no room in the queue.
    lost: Counter,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Access {
    /// Starts the writer. `lost` counts the buffers that are dropped when it is too slow.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn start(to: &AccessLog, format: Format, lost: Counter) -> io::Result<Arc<Access>> {
        let reopen = Arc::new(AtomicBool::new(false));
        let sink: Option<Sink> = match to {
            AccessLog::Off => None,
            AccessLog::Stdout => Some(Sink::Stdout),
            AccessLog::File(path) => Some(Sink::File(open(path)?, path.as_path().into())),
        };
        let (mut queue, mut writer) = (None, None);
        if let Some(sink) = sink {
            let (sender, receiver) = sync_channel(QUEUE);
            let reopen = reopen.clone();
            queue = Some(sender);
            writer = Some(
                std::thread::Builder::new()
                    .name("access-log".into())
                    .spawn(move || write_all(&receiver, sink, &reopen))?,
            );
        }
        Ok(Arc::new(Access { format, queue, reopen, lost, writer: Mutex::new(writer) }))
    }

    /// One worker's buffer.
    pub fn worker(self: &Arc<Self>) -> Worker {
        Worker { access: self.clone(), pending: Mutex::default() }
    }

    /// Reopens the file before the next line, after a rotation.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }

    /// Ends the writer after its last line. Call it when no worker is left.
    pub fn finish(self: Arc<Self>) {
        let writer = self.writer.lock().take();
        drop(self);
        if let Some(writer) = writer {
            // The writer ends when the last sender is gone. A panic has printed its message.
            let _ = writer.join();
        }
    }
}

/// A worker's buffer of lines.
pub struct Worker {
    access: Arc<Access>,
    /// Locked while a line is formatted. Only this worker takes the lock.
    pending: Mutex<Pending>,
}

/// Lines that the writer does not have yet.
#[derive(Default)]
struct Pending {
    buffer: Vec<u8>,
    clock: Clock,
}

impl Worker {
    /// Whether the access log is on.
    pub fn is_on(&self) -> bool {
        self.access.queue.is_some()
    }

    /// Puts a line into the buffer.
    pub fn write(&self, line: &Line<'_>) {
        if self.access.queue.is_none() {
            return;
        }
        let mut pending = self.pending.lock();
        let Pending { buffer, clock } = &mut *pending;
        match self.access.format {
            Format::Json => line.write_json(buffer, clock),
            Format::Text => line.write_text(buffer, clock),
        }
        if buffer.len() >= FULL {
            self.hand_over(buffer);
        }
    }

    /// Sends the buffered lines to the writer.
    pub fn flush(&self) {
        let mut pending = self.pending.lock();
        if !pending.buffer.is_empty() {
            self.hand_over(&mut pending.buffer);
        }
    }

    fn hand_over(&self, buffer: &mut Vec<u8>) {
        let Some(queue) = &self.access.queue else { return };
        let lines = std::mem::replace(buffer, Vec::with_capacity(FULL + 1024));
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send(lines) {
            self.access.lost.inc();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.flush();
    }
}

enum Sink {
    Stdout,
    File(File, Box<Path>),
}

fn open(path: &Path) -> io::Result<File> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    OpenOptions::new().create(true).append(true).open(path).map_err(named)
}

fn write_all(lines: &Receiver<Vec<u8>>, mut sink: Sink, reopen: &AtomicBool) {
    loop {
        let buffer = match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(buffer) => buffer,
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Sink::File(file, path) = &mut sink
            && reopen.swap(false, Ordering::AcqRel)
        {
            match open(path) {
                Ok(fresh) => *file = fresh,
                Err(error) => tracing::warn!(%error, "the access log could not be reopened"),
            }
        }
        let written = match &mut sink {
            Sink::Stdout => io::stdout().write_all(&buffer),
            Sink::File(file, _) => file.write_all(&buffer),
        };
        // Only the log can report a full disk. Requests go on.
        if let Err(error) = written {
            tracing::warn!(%error, "the access log could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line<'static> {
        Line {
            client: [192, 0, 2, 1].into(),
            method: "GET",
            host: "media\"\n",
            user_agent: "",
            path: "/Items",
            protocol: "HTTP/1.1",
            status: 200,
            route: "/",
            pool: "jellyfin",
            pod: "a",
            reason: "cookie",
            attempts: 2,
            tried: "b=refused a=200",
            held: Some((Duration::from_micros(2_500_500), "no_pod")),
            moved: Some(("b", "refused")),
            fan_out: "",
            resumed: 0,
            outcome: "complete",
            bytes_in: 0,
            bytes_out: 1024,
            first_byte: Some(Duration::from_micros(1_045)),
            duration: Duration::from_micros(12_300),
        }
    }

    #[test]
    fn a_line_is_one_json_object_whatever_the_client_sent() {
        let mut out = Vec::new();
        line().write_json(&mut out, &mut Clock::default());
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(json["http.host"], "media\"\n");
        assert_eq!(json["client.address"], "192.0.2.1");
        assert_eq!(json["first_byte_ms"], 1.045);
        assert_eq!(json["duration_ms"], 12.3);
        assert_eq!(json["moved.from"], "b");
        assert_eq!((&json["tried"], &json["wait.why"]), (&"b=refused a=200".into(), &"no_pod".into()));
        assert_eq!(json["held_ms"], 2500.5);
    }

    #[test]
    fn what_a_client_sent_is_cut() {
        let long = "ü".repeat(5000);
        let line = Line { method: &long, host: &long, path: &long, user_agent: &long, ..line() };
        let mut out = Vec::new();
        line.write_json(&mut out, &mut Clock::default());
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        let length = |name: &str| json[name].as_str().expect("a text").len();
        let lengths = ["http.method", "http.host", "http.path", "http.user_agent"].map(length);
        assert_eq!(lengths, [32, 254, 1024, 256], "no character is cut in two");
        out.clear();
        line.write_text(&mut out, &mut Clock::default());
        assert!(out.len() < 2048);
    }

    #[test]
    fn a_text_line_is_one_line_and_says_as_much() {
        let mut out = Vec::new();
        Line { fan_out: "b=204 c=401", resumed: 1, ..line() }.write_text(&mut out, &mut Clock::default());
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let text = String::from_utf8(out).expect("text");
        let end = "first-byte=1.045ms attempts=2 tried=[b=refused a=200] held=2500.500ms (no_pod) moved-from=b (refused) fan-out=[b=204 c=401] resumed=1\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn lines_that_find_no_room_are_counted() {
        let lost = Counter::default();
        let (queue, _nobody_reads) = sync_channel(1);
        let (reopen, writer) = (Arc::default(), Mutex::default());
        let access = Arc::new(Access { format: Format::Json, queue: Some(queue), reopen, lost: lost.clone(), writer });
        let worker = access.worker();
        for _ in 0..3 {
            worker.write(&line());
            worker.flush();
        }
        assert_eq!(lost.get(), 2);
    }

    #[test]
    fn lines_reach_their_file_when_the_worker_ends_and_survive_a_rotation() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let access = Access::start(&AccessLog::File(path.clone()), Format::Json, Counter::default()).expect("a log");
        let worker = access.worker();
        worker.write(&line());
        worker.flush();
        while std::fs::read(&path).expect("the log").is_empty() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, folder.path().join("access.log.1")).expect("a rotation");
        access.reopen();
        worker.write(&line());
        drop(worker);
        access.finish();
        assert_eq!(std::fs::read_to_string(&path).expect("the new log").lines().count(), 1);
    }
}
