//! The process that takes this one's place: how it is started, and how it begins.

use std::{
    env, io,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use jellypin::hand_over::{Channel, GO, PREPARED, SERVING, Sockets, VARIABLE};
use tokio::task;

/// The longest time for the new process to read its configuration.
const PREPARING: Duration = Duration::from_secs(10);

/// The longest time for it to open the files and to serve. Meanwhile new connections wait.
const STARTING: Duration = Duration::from_secs(20);

/// A process that begins. It is killed unless it serves in the end.
pub(super) struct Successor {
    child: Option<Child>,
    channel: Channel,
}

impl Successor {
    /// Starts the program that is on the disk, with the arguments of this process.
    pub(super) fn start() -> io::Result<Successor> {
        if std::process::id() == 1 {
            return Err(io::Error::other("a container ends with its first process; replace the container"));
        }
        let mut arguments = env::args_os();
        let program = arguments.next().ok_or_else(|| io::Error::other("this process has no name"))?;
        let (channel, stdin): (Channel, OwnedFd) = Channel::pair()?;
        let child = Command::new(program).args(arguments).env(VARIABLE, "1").stdin(Stdio::from(stdin)).spawn()?;
        Ok(Successor { child: Some(child), channel })
    }

    /// Sends the sockets, and waits until the new process is prepared.
    pub(super) async fn prepare(&self, sockets: Sockets) -> io::Result<()> {
        let channel = self.channel.again()?;
        blocking(move || {
            channel.send_sockets(&sockets)?;
            channel.expect_message(PREPARED, PREPARING).map(drop)
        })
        .await
    }

    /// Lets it serve. Returns its process id.
    pub(super) async fn serve(mut self) -> io::Result<u32> {
        let channel = self.channel.again()?;
        blocking(move || {
            channel.send_message(GO)?;
            channel.expect_message(SERVING, STARTING).map(drop)
        })
        .await?;
        let mut child = self.child.take().ok_or_else(|| io::Error::other("it is gone"))?;
        let pid = child.id();
        // It may hand over and end while this process still waits for films.
        thread::spawn(move || child.wait());
        Ok(pid)
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a new process knows of the one before.
pub(super) struct Predecessor(Channel);

impl Predecessor {
    /// The process whose place this one takes, if there is one, and its sockets.
    pub(super) fn find() -> io::Result<Option<(Predecessor, Sockets)>> {
        if env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let channel = Channel::of_stdin()?;
        let sockets = channel.receive_sockets(PREPARING)?;
        Ok(Some((Predecessor(channel), sockets)))
    }

    /// Waits until the old process has closed its files.
    pub(super) fn await_go(&self) -> io::Result<()> {
        self.0.send_message(PREPARED)?;
        self.0.expect_message(GO, STARTING).map(drop)
    }

    /// This process serves.
    pub(super) fn serves(&self) -> io::Result<()> {
        self.0.send_message(SERVING)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    task::spawn_blocking(work).await.unwrap_or_else(|ended| Err(io::Error::other(ended)))
}
