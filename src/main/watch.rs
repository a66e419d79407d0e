//! Sees that files have changed: the configuration, its certificates and its secrets.
//!
//! It asks the system for each file once a second, through symbolic links. So it sees what
//! notifications of a folder miss: Kubernetes swaps a link far above the file, and a network file
//! system tells nobody of other machines' writes.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time;

/// Time between two looks. A change counts once a whole look has found nothing newer.
const LOOK: Duration = Duration::from_secs(1);

/// The files, and how they were when they were last read.
pub(super) struct Watch {
    files: Vec<PathBuf>,
    read: Vec<Mark>,
}

/// What changes with a file's content: device, inode, length, and time of the last change. `None`
/// for a file that is not there.
type Mark = Option<(u64, u64, u64, i64, i64)>;

impl Watch {
    pub(super) fn new(path: &Path) -> Watch {
        let files = vec![path.to_owned()];
        Watch { read: marks(&files), files }
    }

    /// Returns once a file is another than at the last [`Watch::look`], and rests. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let mut last = marks(&self.files);
        loop {
            time::sleep(LOOK).await;
            let now = marks(&self.files);
            if now == last && now != self.read {
                return;
            }
            last = now;
        }
    }

    /// The files are read now.
    pub(super) fn look(&mut self) {
        self.read = marks(&self.files);
    }

    /// Watches these files from now on.
    pub(super) fn follow(&mut self, files: Vec<PathBuf>) {
        let known = |file: &PathBuf| self.files.iter().position(|other| other == file).and_then(|at| self.read[at]);
        self.read = files.iter().map(|file| known(file).or_else(|| mark(file))).collect();
        self.files = files;
    }
}

fn marks(files: &[PathBuf]) -> Vec<Mark> {
    files.iter().map(|file| mark(file)).collect()
}

fn mark(file: &Path) -> Mark {
    let found = fs::metadata(file).ok()?;
    Some((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_and_a_swapped_link_are_seen_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        // As Kubernetes mounts a ConfigMap: file → ..data/file, and ..data → a folder of that time.
        for (generation, text) in [("one", "1"), ("two", "2")] {
            fs::create_dir(at(generation)).expect("a folder");
            fs::write(at(generation).join("file"), text).expect("a file");
        }
        symlink("one", at("..data")).expect("a link");
        symlink("..data/file", at("file")).expect("a link");
        let mut watch = Watch::new(&at("file"));
        let soon = LOOK * 5;
        assert!(time::timeout(soon, watch.changed()).await.is_err(), "nothing has changed");
        symlink("two", at("..new")).expect("a link");
        fs::rename(at("..new"), at("..data")).expect("a swap");
        assert!(time::timeout(soon, watch.changed()).await.is_ok(), "the swap is seen");
        watch.look();
        assert!(time::timeout(soon, watch.changed()).await.is_err(), "once");
        fs::write(at("two").join("file"), "longer").expect("a file");
        assert!(time::timeout(soon, watch.changed()).await.is_ok(), "the write is seen");
    }
}
