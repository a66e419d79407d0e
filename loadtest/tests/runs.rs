//! Short runs of the program itself with its own relay as the proxy: figures come out, and failures are told as such.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs `loadtest` and gives what it printed beside the figures it wrote.
fn loadtest(folder: &Path, arguments: &[&str]) -> (Output, Value) {
    let figures = folder.join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .arg("--json")
        .arg(&figures)
        .output()
        .expect("the program under test was built");
    let written = std::fs::read_to_string(&figures)
        .unwrap_or_else(|error| panic!("{error}; it wrote: {}", String::from_utf8_lossy(&output.stderr)));
    (output, serde_json::from_str(&written).expect("figures are JSON"))
}

#[test]
fn compare_counts_requests_and_their_cost() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments =
        ["compare", "--only", "bare", "--rounds", "2", "--seconds", "1", "--warm-up", "0", "--connections", "4"];
    let (output, figures) = loadtest(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let turns = figures["turns"].as_array().expect("turns");
    assert_eq!(turns.len(), 2);
    for turn in turns {
        assert!(turn["served"].as_u64().expect("a count") > 0, "{turn}");
        assert!(turn["cpu_us_per_request"].as_f64().expect("a figure") > 0.0, "{turn}");
        assert!(turn["p50_ns"].as_u64() <= turn["p99_ns"].as_u64(), "{turn}");
    }
}

#[test]
fn a_relay_that_cannot_fail_over_fails_the_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = [
        "kill",
        "--proxy",
        "bare",
        "--clients",
        "9",
        "--rest-ms",
        "5",
        "--seconds",
        "3",
        "--kill-at",
        "1",
        "--restart-at",
        "2",
        "--starting-ms",
        "0",
    ];
    let (output, figures) = loadtest(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(figures["orphans"].as_u64().expect("a count") > 0, "{figures}");
    assert!(figures["failed"].as_u64().expect("a count") > 0, "{figures}");
    assert!(figures["refused_dials"].as_u64().expect("a count") > 0, "{figures}");
}

#[test]
fn bodies_arrive_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["bodies", "--proxy", "bare", "--mebibytes", "64", "--stalled", "2", "--stall-seconds", "1"];
    let (output, figures) = loadtest(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let transfers = figures["transfers"].as_array().expect("transfers");
    assert_eq!(transfers.len(), 4);
    for transfer in transfers {
        assert_eq!(transfer["bytes"].as_u64(), Some(64 * 1024 * 1024), "{transfer}");
        assert!(transfer["rss_peak_bytes"].as_u64().expect("a figure") > 0, "{transfer}");
    }
}

#[test]
fn floods_are_told_beside_the_calm() {
    let folder = tempfile::tempdir().expect("a folder");
    let attacks = ["--only", "connections", "--only", "log-ins", "--only", "pings"];
    let short = ["floods", "--proxy", "bare", "--seconds", "1", "--connections", "20", "--clients", "2"];
    let (output, figures) = loadtest(folder.path(), &[&short[..], &attacks].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let phases = figures["phases"].as_array().expect("phases");
    assert_eq!(phases.len(), 3);
    for phase in phases {
        assert!(phase["calm"]["served"].as_u64() > Some(0), "{phase}");
        assert!(phase["attacked"]["served"].as_u64() > Some(0), "{phase}");
    }
    let attacker = |phase: usize| phases[phase]["attacker"].as_str().unwrap_or_default().to_owned();
    assert!(attacker(0).starts_with("20 opened"), "{}", attacker(0));
    assert!(!attacker(1).contains(" 0 answers"), "{}", attacker(1));
}

#[test]
fn a_proxy_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let absent = folder.path().join("absent");
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["bodies", "--proxy", "jellypin", "--jellypin"])
        .arg(&absent)
        .output()
        .expect("the program under test was built");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("jellypin ended by itself") && said.contains("absent"), "{said}");
}
