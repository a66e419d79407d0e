//! The same faults before jellypin and before other proxies, in one run, as a page.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::fault::Fault;
use crate::fleet::Pace;
use crate::pod::PodProgram;
use crate::proxy::{Kind, Programs};
use crate::stage::{Plan, Stage};
use crate::table::Figures;

#[derive(Args)]
pub struct Arguments {
    /// jellypin's binary; by default the one beside this program
    #[arg(long)]
    jellypin: Option<PathBuf>,
    /// A folder with the other proxies' programs, looked into before the path
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Only these proxies
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// Clients of each proxy; each has a socket and a film
    #[arg(long, default_value_t = 30)]
    clients: usize,
    /// Faults that last for seconds only: to try the run out
    #[arg(long)]
    brief: bool,
    /// Write the table into this page, in the place of the one that stands there
    #[arg(long)]
    page: Option<PathBuf>,
    /// What the page says of the date and the machine
    #[arg(long, default_value = "")]
    about: String,
}

const KINDS: [Kind; 6] = [Kind::Jellypin, Kind::Haproxy, Kind::Nginx, Kind::Traefik, Kind::Envoy, Kind::Caddy];

const FAULTS: [Fault; 7] = [
    Fault::PodKilled,
    Fault::PodHung,
    Fault::PodSlow,
    Fault::PodTerminated,
    Fault::AllRestarted,
    Fault::Overload,
    Fault::LeaderKilled,
];

/// The lines between which the page has the table.
const BEGIN: &str = "<!-- table: begin -->\n";
const END: &str = "<!-- table: end -->\n";

/// What came of a fault before a proxy.
struct Cell {
    kind: Kind,
    figures: Figures,
}

pub async fn run(arguments: Arguments) {
    let beside = || std::env::current_exe().expect("this program").with_file_name("jellypin");
    let programs =
        Programs { jellypin: arguments.jellypin.clone().unwrap_or_else(beside), others: arguments.programs.clone() };
    let pods = PodProgram { arguments: Vec::new() };
    let kinds: Vec<Kind> =
        KINDS.into_iter().filter(|kind| arguments.only.is_empty() || arguments.only.contains(kind)).collect();
    let versions: Vec<(Kind, String)> =
        kinds.into_iter().filter_map(|kind| Some((kind, version(&programs.of(kind), kind)?))).collect();
    let mut cells = Vec::new();
    for fault in FAULTS {
        for (kind, _) in &versions {
            let plan = Plan {
                kind: *kind,
                clients: arguments.clients,
                replicas: 1,
                has_links: false,
                has_redis: false,
                is_full: !arguments.brief,
                pace: Pace::CALM,
            };
            let mut stage = Stage::set(plan, &programs, &pods).await;
            let figures = fault.run(&mut stage).await;
            stage.strike().await;
            println!("{}, {}: {} {}", kind.name(), fault.name(), figures.saw, figures.problems.join(", "));
            cells.push(Cell { kind: *kind, figures });
        }
    }
    let table = page(&arguments, &versions, &cells);
    println!("{table}");
    if let Some(path) = &arguments.page {
        let text = fs::read_to_string(path).expect("the page");
        let (head, rest) = text.split_once(BEGIN).expect("where the table begins");
        let (_, tail) = rest.split_once(END).expect("where it ends");
        fs::write(path, format!("{head}{BEGIN}{table}{END}{tail}")).expect("the page is written");
    }
}

/// The first line of what a program says of its version; `None` if there is no such program.
fn version(program: &Path, kind: Kind) -> Option<String> {
    let argument = match kind {
        Kind::Traefik | Kind::Caddy => "version",
        Kind::Nginx | Kind::Haproxy => "-v",
        Kind::Jellypin | Kind::Envoy => "--version",
    };
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let is_number = |word: &&str| word.contains('.') && word.chars().any(|char| char.is_ascii_digit());
    let word = text.split_whitespace().find(is_number)?;
    // Envoy says `commit/version/...`, nginx `nginx/version`.
    let number = word.split('/').find(|part| part.contains('.'))?;
    Some(number.trim_start_matches('v').to_owned())
}

fn page(arguments: &Arguments, versions: &[(Kind, String)], cells: &[Cell]) -> String {
    let names: String = versions.iter().map(|(kind, version)| format!("- {} {version}\n", kind.name())).collect();
    let mut text = format!(
        "{}\n{} clients before each proxy, and two pods. The proxies:\n\n{names}",
        arguments.about, arguments.clients
    );
    for fault in FAULTS {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n### {}\n\n| proxy | failed requests | log-outs | sockets closed or refused | films broken | longest stall | \
             normal after | |\n|---|---|---|---|---|---|---|---|\n",
            fault.name()
        );
        for Cell { kind, figures } in cells.iter().filter(|cell| cell.figures.fault == fault) {
            let saw = &figures.saw;
            let normal = match figures.problems.iter().any(|problem| problem.contains("stuck")) {
                true => "not within 40 s".to_owned(),
                false => format!("{:.1} s", figures.normal_after),
            };
            let _ = writeln!(
                text,
                "| {} | {} of {} | {} | {} | {} | {:.1} s | {normal} | {} |",
                kind.name(),
                saw.failed + saw.failed_posts,
                saw.good + saw.failed + saw.failed_posts + saw.log_outs,
                saw.log_outs,
                saw.closed_sockets + saw.refused_sockets,
                saw.broken_films,
                saw.longest_stall.as_secs_f64(),
                figures.note,
            );
        }
    }
    text
}
