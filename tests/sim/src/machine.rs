//! The machine that a process runs on: its cores, its thread pool, and what each kind of request takes of them.
//!
//! Off by default: then a pod answers at once. What is not marked as recorded is an estimate.

mod processor;
mod schedule;

use std::time::Duration;

use http::Method;

pub(crate) use processor::Processor;

/// A machine, as a container's limits and .NET's thread pool make it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Processor time a second; 0.2 for a container that may use a fifth of a core.
    pub cores: f64,
    /// Threads of a fresh pool; .NET begins with as many as there are cores.
    pub threads: usize,
    /// How often a pool whose work waits grows by one thread.
    pub new_thread_every: Duration,
    /// How many threads of its own an ffmpeg keeps busy while its film is watched.
    pub transcode_threads: usize,
    /// How a fresh process differs from one that has run for long.
    pub cold: Cold,
}

/// What a fresh process has yet to compile and to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cold {
    /// How much dearer the first request of a kind is.
    pub first: f64,
    /// How much dearer the next ones are, until `lasts` is over.
    pub later: f64,
    /// How long code stays unoptimized after the start.
    pub lasts: Duration,
    /// Threads that the tasks of the start keep busy.
    pub start_up_threads: usize,
    /// How long they do.
    pub start_up: Duration,
}

impl Machine {
    /// Two cores. Recorded: a log-in takes 30 ms, or 4 to 6 s right after a start; a mint 21 to 84 ms, the first 0.9 s.
    pub const RECORDED: Machine = Machine {
        cores: 2.0,
        threads: 2,
        new_thread_every: Duration::from_millis(500),
        transcode_threads: 2,
        cold: Cold {
            first: 40.0,
            later: 4.0,
            lasts: Duration::from_secs(30),
            start_up_threads: 6,
            start_up: Duration::from_secs(10),
        },
    };

    /// The same machine with a process that has run for long.
    pub fn warm(self) -> Machine {
        let none =
            Cold { first: 1.0, later: 1.0, lasts: Duration::ZERO, start_up_threads: 0, start_up: Duration::ZERO };
        Machine { cold: none, ..self }
    }

    /// The same machine with so many cores.
    pub fn cores(self, cores: f64) -> Machine {
        Machine { cores, ..self }
    }

    /// The same machine whose start takes so much of its time.
    pub fn scaled(self, by: f64) -> Machine {
        let Cold { lasts, start_up, .. } = self.cold;
        Machine { cold: Cold { lasts: lasts.mul_f64(by), start_up: start_up.mul_f64(by), ..self.cold }, ..self }
    }
}

/// A kind of request, by what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    Health,
    /// A few rows, or none.
    Small,
    Image,
    /// A list of a library.
    Page,
    LogIn,
    Initiate,
    Authorize,
    Token,
    /// A playlist, or a segment that is there.
    Media,
    Socket,
    Message,
    /// A segment that ffmpeg makes: no thread of the pool works on it.
    Transcode,
}

impl Work {
    pub(crate) fn of(method: &Method, path: &str) -> Work {
        let path = path.to_ascii_lowercase();
        let ends = |end: &str| path.ends_with(end);
        match () {
            () if ends("/health") => Work::Health,
            () if ends("/users/authenticatebyname") => Work::LogIn,
            () if ends("/quickconnect/initiate") => Work::Initiate,
            () if ends("/quickconnect/authorize") => Work::Authorize,
            () if ends("/users/authenticatewithquickconnect") => Work::Token,
            () if path.contains("/images/") => Work::Image,
            () if ends(".ts") || ends(".m3u8") || path.contains("/stream") => Work::Media,
            () if *method == Method::GET && (ends("/items") || ends("/items/latest") || ends("/userviews")) => {
                Work::Page
            }
            () if ends("/playbackinfo") => Work::Page,
            () => Work::Small,
        }
    }

    /// The processor time that it takes once its code is compiled.
    pub(crate) fn cost(self) -> Duration {
        match self {
            Work::Message => Duration::from_micros(200),
            Work::Health | Work::Small => Duration::from_millis(2),
            Work::Initiate | Work::Media | Work::Socket => Duration::from_millis(3),
            Work::Image | Work::Token => Duration::from_millis(4),
            Work::Authorize => Duration::from_millis(15),
            Work::LogIn => Duration::from_millis(30),
            Work::Page => Duration::from_millis(50),
            Work::Transcode => Duration::from_millis(300),
        }
    }

    /// Whether it waits for one of the pool's threads.
    pub(crate) fn needs_thread(self) -> bool {
        self != Work::Transcode
    }

    /// Whether the process compiles something for it.
    fn is_managed(self) -> bool {
        self != Work::Transcode
    }
}

/// Whether a request is for a segment that ffmpeg makes.
pub(crate) fn is_transcoded(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.contains("/hls1/") && path.ends_with(".ts")
}

/// Whether a request asks the database for something.
pub(crate) fn needs_database(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let does_without = ["/system/ping", "/system/info/public", "/getutctime", "/branding/configuration"];
    !does_without.iter().any(|end| path.ends_with(end)) && !path.contains("/web/") && !path.contains("/_sim/")
}

/// Whether a request makes the process write a file: a transcode, a picture, a document of the configuration.
pub(crate) fn needs_disk(method: &Method, path: &str) -> bool {
    let changes = *method == Method::POST || *method == Method::DELETE;
    let below = path.to_ascii_lowercase();
    is_transcoded(path) || (changes && (below.contains("/images/") || below.contains("/system/configuration")))
}
