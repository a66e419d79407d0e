//! A cable between two programs, which can be cut, slowed, and led elsewhere.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What the cable does to bytes and connections.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Mode {
    #[default]
    Pass,
    /// Connections stay, and new ones are made; nothing passes either way.
    Cut,
    /// A new connection is served after this time.
    SlowAccept(Duration),
    /// Bytes that come back arrive so much later.
    SlowAnswers(Duration),
    /// Resets the connection in place of an answer's first byte.
    ResetInHead,
    /// Resets it after so many bytes of answers.
    ResetInBody(u64),
}

/// A cable with a listener of its own.
pub struct Link {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    mode: watch::Sender<Mode>,
    /// The number of the present generation of connections, and whether older ones were ended. Else these are half-open: nothing
    /// passes, and nobody is told.
    generation: watch::Sender<(u64, bool)>,
    target: Mutex<SocketAddr>,
}

impl Link {
    pub async fn to(target: SocketAddr) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (mode, generation) = (watch::Sender::default(), watch::Sender::default());
        let shared = Arc::new(Shared { mode, generation, target: Mutex::new(target) });
        let common = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(stream, common.clone()));
            }
        });
        Link { address, shared, accepting }
    }

    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// What is connected now is half-open from now on; new connections are made as ever.
    pub fn forget_connections(&self) {
        self.shared.generation.send_modify(|(number, are_ended)| (*number, *are_ended) = (*number + 1, false));
    }

    /// Ends what is connected now, and leads new connections there.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
        self.shared.generation.send_modify(|(number, are_ended)| (*number, *are_ended) = (*number + 1, true));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(near: TcpStream, shared: Arc<Shared>) {
    let generation = shared.generation.borrow().0;
    let mode = *shared.mode.borrow();
    if let Mode::SlowAccept(time) = mode {
        sleep(time).await;
    }
    let target = *shared.target.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(far) = TcpStream::connect(target).await else {
        // As the far end itself refuses, as nearly as it can be.
        let _ = near.set_zero_linger();
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let there = pass(near_read, far_write, shared.clone(), generation, false);
    let back = pass(far_read, near_write, shared.clone(), generation, true);
    tokio::pin!(there, back);
    // A half-closed connection goes on in the other direction; a reset ends both.
    tokio::select! {
        reset = &mut there => if !reset { back.await; },
        reset = &mut back => if !reset { there.await; },
    }
}

/// Passes bytes on until their end. Whether the connection was reset.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: Arc<Shared>,
    generation: u64,
    is_answer: bool,
) -> bool {
    let (mut buffer, mut passed) = (vec![0; 16 * 1024], 0);
    let mut modes = shared.mode.subscribe();
    let mut generations = shared.generation.subscribe();
    loop {
        let outdated = async {
            // The sender lives as long as the cable's connections.
            generations.wait_for(|(now, _)| *now != generation).await.is_ok_and(|now| now.1)
        };
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            are_ended = outdated => match are_ended {
                true => Err(std::io::ErrorKind::ConnectionReset.into()),
                false => {
                    if is_answer {
                        take_nothing(&to);
                    }
                    std::future::pending().await
                }
            },
        };
        let count = match read {
            Ok(0) => {
                // The other side may be gone already.
                let _ = to.shutdown().await;
                return false;
            }
            Ok(count) => count,
            Err(_) => {
                reset(&to);
                return true;
            }
        };
        let mode = *modes.borrow();
        match mode {
            Mode::Cut => drop(modes.wait_for(|mode| *mode != Mode::Cut).await),
            Mode::SlowAnswers(time) if is_answer => sleep(time).await,
            Mode::ResetInHead if is_answer => {
                reset(&to);
                return true;
            }
            Mode::ResetInBody(bytes) if is_answer && passed + count as u64 > bytes => {
                // The part before the break may be lost with it.
                let _ = to.write_all(&buffer[..(bytes - passed.min(bytes)) as usize]).await;
                reset(&to);
                return true;
            }
            _ => {}
        }
        if matches!(mode, Mode::ResetInBody(_)) {
            passed += count as u64;
        }
        if generations.borrow().0 != generation {
            std::future::pending().await
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return true;
        }
    }
}

/// Its close is a reset.
fn reset(half: &OwnedWriteHalf) {
    let stream: &TcpStream = half.as_ref();
    // One that is gone needs no reset.
    let _ = stream.set_zero_linger();
}

/// From now on the kernel overlooks what comes over this connection, and acknowledges nothing, as if the machine were gone.
fn take_nothing(half: &OwnedWriteHalf) {
    /// `BPF_RET | BPF_K`: of each packet this many bytes are kept.
    const RETURN: u16 = 0x06;
    let stream: &TcpStream = half.as_ref();
    SockRef::from(stream).attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]).expect("a filter");
}
