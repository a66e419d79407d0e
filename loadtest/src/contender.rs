//! The proxies that a run can put between clients and pods, each configured for the same duties.
//!
//! A further proxy is one more file in `contender/` and one more arm here.

mod haproxy;
mod jellypin;

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::backend::Backend;
use crate::ports::Ports;
use crate::process::Process;
use crate::stage::Stage;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub(crate) enum Kind {
    Jellypin,
    /// jellypin from another binary (`--before`), beside the first
    Before,
    Haproxy,
    /// `loadtest bare`: no proxy, the floor
    Bare,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Jellypin => "jellypin",
            Kind::Before => "before",
            Kind::Haproxy => "haproxy",
            Kind::Bare => "bare",
        }
    }
}

/// What a run asks of a proxy beside relaying.
#[derive(Clone, Copy, Default)]
pub(crate) struct Duties {
    /// One line a request on standard output, which is a file.
    pub(crate) access_log: bool,
    /// The pods will die: a proxy that can try again elsewhere is told to.
    pub(crate) fail_over: bool,
    /// One address may be an attacker: the limits are those that the proxy has by itself.
    pub(crate) own_limits: bool,
}

/// A running proxy.
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

impl Contender {
    /// Starts the proxy; it may not answer yet.
    pub(crate) fn start(
        kind: Kind,
        stage: &Stage,
        ports: &mut Ports,
        backends: &[Backend],
        duties: Duties,
    ) -> Result<Contender> {
        let address = ports.free()?;
        let configuration = stage.file(&format!("{}.conf", kind.name()));
        let (program, arguments) = match kind {
            Kind::Jellypin | Kind::Before => {
                fs::write(&configuration, jellypin::configuration(address, ports.free()?, backends, duties))?;
                let program = match kind {
                    Kind::Before => stage.before.clone().context("--before names no binary")?,
                    _ => stage.jellypin.clone(),
                };
                (program, jellypin::arguments(&configuration))
            }
            Kind::Haproxy => {
                fs::write(&configuration, haproxy::configuration(address, backends, duties))?;
                (stage.haproxy.clone(), haproxy::arguments(&configuration))
            }
            Kind::Bare => (std::env::current_exe()?, bare_arguments(address, backends)),
        };
        let process = stage.start_proxy(kind.name(), &program, arguments)?;
        Ok(Contender { kind, address, process })
    }
}

fn bare_arguments(address: SocketAddr, backends: &[Backend]) -> Vec<OsString> {
    let mut arguments = vec!["bare".to_owned(), "--listen".to_owned(), address.to_string()];
    for backend in backends {
        arguments.extend(["--to".to_owned(), backend.address.to_string()]);
    }
    arguments.into_iter().map(OsString::from).collect()
}

/// `option`, then the configuration's path.
fn with_configuration(option: &str, configuration: &Path) -> Vec<OsString> {
    vec![OsString::from(option), configuration.as_os_str().to_owned()]
}
