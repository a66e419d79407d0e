//! The command line: flags, signals, exit codes.
//!
//! Exit codes: 0 after an ordinary stop, 2 when jellypin cannot use the configuration or something
//! that it names, 1 for the rest.

#[path = "main/init.rs"]
mod init;
#[path = "main/operate.rs"]
mod operate;
#[path = "main/successor.rs"]
mod successor;
#[path = "main/systemd.rs"]
mod systemd;
#[path = "main/watch.rs"]
mod watch;

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use init::InitOptions;
use jellypin::{
    app::{
        self,
        ask::{AskError, Question},
        check::{Finding, Report, Verdict},
    },
    config::{self, Loaded, ProcessEnvironment},
    hand_over::Sockets,
    observe, tls,
};
use operate::{FAILED, Operator, Signals};
use successor::Predecessor;
use watch::Watch;

/// The request path allocates all the time; this allocator needs about half of glibc's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A reverse proxy that makes several Jellyfin servers behave as one.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Command {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Subcommand)]
enum Task {
    /// Makes a first configuration of some flags, or of answers on the terminal. It asks the pods, says what they lack, and writes
    /// the file if nothing is wrong.
    Init(InitOptions),
    /// Reads the configuration and all that it names, asks the pods and Redis, says what is wrong, and starts nothing. It exits
    /// with 2 if something is wrong, and with 1 if no pod of a pool answers. One pod or a Redis that does not answer is named, and
    /// that is no error. Run it where jellypin runs, and as the same user.
    Check(Check),
    /// Asks the running jellypin of this configuration by its admin API. It exits with 0 if that serves, for the health check of a
    /// container.
    Health {
        #[command(flatten)]
        file: ConfigFile,
        /// Asks whether every pool has a healthy pod, too (`/ready` instead of `/live`).
        #[arg(long)]
        ready: bool,
    },
    /// Asks the jellypin that runs with this configuration why a client is where it is.
    Explain {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        key: ExplainedKey,
    },
    /// Asks the jellypin that runs with this configuration how things stand: what is wrong, the pods, and the latest events.
    Status(ConfigFile),
    /// Lets the jellypin that runs with this configuration restart all pods, one after the other: each is drained, restarted and warmed.
    /// It stops at the first trouble, says which, and exits with 1.
    Roll {
        #[command(flatten)]
        file: ConfigFile,
        /// The pool, where there are several.
        #[arg(long, value_name = "NAME")]
        pool: Option<String>,
    },
    /// Lets a new process, of the program as it is installed now, take the place of the running one: no connection is refused.
    Upgrade(ConfigFile),
    /// Prints the completions of a shell, for the folder where that shell looks for them.
    Completions { shell: Shell },
    /// Prints the manual page, for `man -l -` or a folder of manual pages.
    Man,
}

#[derive(Args)]
struct Check {
    #[command(flatten)]
    file: ConfigFile,
    /// Asks the running proxy instead, over its admin API, what a reload would change.
    #[arg(long)]
    diff: bool,
    /// Prints what it finds as JSON.
    #[arg(long, conflicts_with = "diff")]
    json: bool,
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE", default_value = "/etc/jellypin/jellypin.toml")]
    config: PathBuf,
}

/// The client's key. Other users of the machine see a command line, so a token comes by standard input.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct ExplainedKey {
    /// A device's id.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// A user's id, or a name that has signed in.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// A session's id, as Jellyfin lists it.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Reads an access token from standard input.
    #[arg(long)]
    token: bool,
}

const UNUSABLE: u8 = 2;

/// The longest token on standard input, in bytes.
const LONGEST_TOKEN: u64 = 4096;

fn main() -> ExitCode {
    let command = Command::parse();
    match command.task {
        Some(Task::Init(options)) => init(options),
        Some(Task::Check(Check { file, diff: true, .. })) => ask_running(&file.config, Question::Difference),
        Some(Task::Check(Check { file, json, .. })) => check(&file.config, json),
        Some(Task::Health { file, ready }) => health(&file.config, if ready { "/ready" } else { "/live" }),
        Some(Task::Explain { file, key }) => explain(&file.config, key),
        Some(Task::Roll { file, pool }) => roll(&file.config, pool.as_deref()),
        Some(Task::Status(file)) => ask_running(&file.config, Question::Status),
        Some(Task::Upgrade(file)) => ask_running(&file.config, Question::HandOver),
        Some(Task::Completions { shell }) => {
            let mut page = Vec::new();
            clap_complete::generate(shell, &mut Command::command(), "jellypin", &mut page);
            print(&page)
        }
        Some(Task::Man) => {
            let mut page = Vec::new();
            Man::new(Command::command()).render(&mut page).map_or_else(failed, |()| print(&page))
        }
        None => run(&command.file.config),
    }
}

fn init(options: InitOptions) -> ExitCode {
    let options = match options.complete() {
        Ok(options) => options,
        Err(error) => return unusable(error),
    };
    let (text, path) = (options.text(), &options.output);
    let config = match config::parse(&text, path, &ProcessEnvironment) {
        Ok(config) => config,
        Err(error) => return unusable(error),
    };
    let report = match runtime().map(|runtime| runtime.block_on(app::check::check(config, &options.secrets()))) {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => return unusable(error),
        Err(error) => return failed(error),
    };
    print_findings(path, &report);
    if report.verdict() == Verdict::Wrong && !options.unchecked {
        return unusable("nothing was written: mend this first, or write it as it is with --unchecked");
    }
    if let Err(error) = options.write(&text) {
        return unusable(format_args!("{}: {error}; name another file with --output", path.display()));
    }
    println!("{} is written; start it with: jellypin --config {0}", path.display());
    ExitCode::SUCCESS
}

fn check(path: &Path, as_json: bool) -> ExitCode {
    let refused = |error: String| {
        if as_json {
            println!("{}", Report::of_refusal(error.clone()).json());
        }
        unusable(error)
    };
    let Loaded { config, secrets, .. } = match config::load_with_keys(path, &ProcessEnvironment) {
        Ok(loaded) => loaded,
        Err(error) => return refused(error.to_string()),
    };
    if let Err(error) = tls::Certificates::read(&config.tls) {
        return refused(format!("{}: [listen] certificates: {error}", path.display()));
    }
    let report = match runtime().map(|runtime| runtime.block_on(app::check::check(config, &secrets))) {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => return refused(format!("{}: {error}", path.display())),
        Err(error) => return failed(error),
    };
    if as_json {
        println!("{}", report.json());
    } else {
        print_findings(path, &report);
    }
    match report.verdict() {
        Verdict::Good if as_json => ExitCode::SUCCESS,
        Verdict::Good => print(format!("{}: the configuration is good\n", path.display()).as_bytes()),
        Verdict::Unserved => {
            eprintln!("{}: the configuration can be used, but a pool has no pod that can serve", path.display());
            ExitCode::from(FAILED)
        }
        Verdict::Wrong => ExitCode::from(UNUSABLE),
    }
}

/// Asks the running proxy by its admin API, and prints what it says.
fn ask_running(path: &Path, question: Question) -> ExitCode {
    let admin = match question {
        // How things stand is asked most when the file is wrong.
        Question::Status => config::load_admin(path, &ProcessEnvironment),
        Question::Difference | Question::HandOver => config::load(path, &ProcessEnvironment).map(|config| config.admin),
    };
    let admin = match admin {
        Ok(admin) => admin,
        Err(error) => return unusable(error),
    };
    match runtime().map(|runtime| runtime.block_on(app::ask::send_question(&admin, question))) {
        Ok(said) => print_reply(said),
        Err(error) => failed(error),
    }
}

fn explain(path: &Path, key: ExplainedKey) -> ExitCode {
    let admin = match config::load_admin(path, &ProcessEnvironment) {
        Ok(admin) => admin,
        Err(error) => return unusable(error),
    };
    let ExplainedKey { device, user, session, token } = key;
    let by_name = [("device", device), ("user", user), ("session", session)];
    let named = by_name.into_iter().find_map(|(name, value)| Some((name, value?)));
    let (name, value) = match named {
        Some(named) => named,
        None if token => match io::read_to_string(io::stdin().take(LONGEST_TOKEN)) {
            Ok(token) => ("token", token.trim().to_owned()),
            Err(error) => return failed(error),
        },
        // The command line has exactly one of the four.
        None => return ExitCode::from(UNUSABLE),
    };
    match runtime().map(|runtime| runtime.block_on(app::ask::explain(&admin, name, &value))) {
        Ok(said) => print_reply(said),
        Err(error) => failed(error),
    }
}

/// Prints the findings, one per line.
fn print_findings(path: &Path, report: &Report) {
    for Finding { place, sentence, is_wrong } in &report.findings {
        let weight = if *is_wrong { "error" } else { "note" };
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        eprintln!("{}: {weight}: {place}{sentence}", path.display());
    }
}

fn health(path: &Path, page: &str) -> ExitCode {
    let admin = match config::load_admin_listener(path) {
        Ok(admin) => admin,
        Err(error) => return unusable(error),
    };
    match runtime().map(|runtime| runtime.block_on(app::ask::health(&admin, page))) {
        Ok(well) => print_reply(well.map(|()| String::new())),
        Err(error) => failed(error),
    }
}

/// Prints what the running jellypin said, or why it said nothing.
fn print_reply(said: Result<String, AskError>) -> ExitCode {
    match said {
        Ok(words) => print(words.as_bytes()),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

fn roll(path: &Path, pool: Option<&str>) -> ExitCode {
    let admin = match config::load_admin(path, &ProcessEnvironment) {
        Ok(admin) => admin,
        Err(error) => return unusable(error),
    };
    let says = |words: &str| println!("{words}");
    match runtime().map(|runtime| runtime.block_on(app::ask::roll(&admin, pool, says))) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::from(FAILED),
        Ok(Err(error)) => {
            eprintln!("{error}");
            ExitCode::from(FAILED)
        }
        Err(error) => failed(error),
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn run(path: &Path) -> ExitCode {
    let mut watch = Watch::new(path);
    let Loaded { config, keys, files, .. } = match config::load_with_keys(path, &ProcessEnvironment) {
        Ok(loaded) => loaded,
        Err(error) => return unusable(error),
    };
    watch.follow(files);
    observe::start_log(&config.observe);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %path.display(), "jellypin starts");
    let (predecessor, handed) = match take_over() {
        Ok(taken) => taken,
        Err(error) => return failed(error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(error),
    };
    runtime.block_on(async {
        let signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return failed(error),
        };
        let watches_files = config.watches_files;
        let app = match app::start_with(config, handed).await {
            Ok(app) => app,
            Err(app::Error::Bind(error)) => return unusable(config::cannot_bind(path, &error)),
            Err(error) => return unusable(format_args!("{}: {error}", path.display())),
        };
        for address in &app.addresses {
            tracing::info!(%address, "serving clients");
        }
        if let Some(address) = app.admin {
            tracing::info!(%address, "serving the admin API");
        }
        if let Some(predecessor) = predecessor {
            // If the old process is gone, this one serves alone.
            let _ = predecessor.serves();
        }
        systemd::ready();
        Operator::new(app, path, (keys, watches_files), watch).obey(signals).await
    })
}

/// Takes the sockets of the process whose place this one takes, and waits for its files.
fn take_over() -> io::Result<(Option<Predecessor>, Sockets)> {
    let Some((predecessor, sockets)) = Predecessor::find()? else { return Ok((None, Sockets::default())) };
    predecessor.await_go()?;
    Ok((Some(predecessor), sockets))
}

fn print(page: &[u8]) -> ExitCode {
    io::stdout().write_all(page).map_or_else(failed, |()| ExitCode::SUCCESS)
}

fn unusable(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(UNUSABLE)
}

fn failed(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("jellypin cannot run: {error}");
    ExitCode::from(FAILED)
}
