//! What every run stands on: two cores, a folder for its files, and the programs it may start.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tempfile::TempDir;

use crate::backend::Backend;
use crate::launch::stay_on;
use crate::process::Process;

#[derive(Args)]
#[group(id = "stage")]
pub(crate) struct Arguments {
    /// jellypin's binary; by default the one beside this program
    #[arg(long)]
    jellypin: Option<PathBuf>,
    /// Another binary of jellypin, which `compare` puts beside the first
    #[arg(long)]
    pub(crate) before: Option<PathBuf>,
    /// haproxy's binary
    #[arg(long, default_value = "haproxy")]
    haproxy: PathBuf,
    /// Write the raw figures to this file
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// The core of the proxy under load
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of the clients and the pods
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// Where a run takes place. This process is on the load core from here on.
pub(crate) struct Stage {
    pub(crate) jellypin: PathBuf,
    pub(crate) before: Option<PathBuf>,
    pub(crate) haproxy: PathBuf,
    proxy_core: usize,
    load_core: usize,
    folder: TempDir,
}

impl Stage {
    pub(crate) fn set(arguments: &Arguments) -> Result<Stage> {
        ensure!(arguments.proxy_core != arguments.load_core, "proxy and load need a core each");
        let jellypin = match &arguments.jellypin {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("jellypin"),
        };
        stay_on(arguments.load_core)?;
        Ok(Stage {
            jellypin,
            before: arguments.before.clone(),
            haproxy: arguments.haproxy.clone(),
            proxy_core: arguments.proxy_core,
            load_core: arguments.load_core,
            folder: TempDir::with_prefix("loadtest-")?,
        })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn start_proxy<S: AsRef<OsStr>>(
        &self,
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Process> {
        Process::start(name, self.proxy_core, program, arguments, self.file(&format!("{name}.log")))
    }

    /// Starts the attacker of `loadtest floods`, beside the clients.
    pub(crate) fn start_attacker(&self, order: &[String]) -> Result<Process> {
        let arguments = [&["attack".to_owned()], order].concat();
        Process::start("attacker", self.load_core, &std::env::current_exe()?, arguments, self.file("attacker.log"))
    }

    /// Starts one process that plays these pods. `options` are those of `loadtest pod`.
    pub(crate) fn start_pods(&self, pods: &[Backend], options: &[String]) -> Result<Process> {
        let first = pods.first().context("no pod to start")?.name;
        let mut arguments = vec!["pod".to_owned(), "--name".to_owned(), first.to_string()];
        for pod in pods {
            arguments.extend(["--listen".to_owned(), pod.address.to_string()]);
        }
        arguments.extend_from_slice(options);
        let name = format!("pod-{first}");
        Process::start(&name, self.load_core, &std::env::current_exe()?, arguments, self.file(&format!("{name}.log")))
    }
}
