//! How long a target runs, and where its failures are kept.

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, FileFailurePersistence, TestCaseResult, TestRunner},
};

/// In the gate.
const SHORT: Duration = Duration::from_millis(700);

/// Cases between two looks at the clock.
const CASES: u32 = 32;

/// Runs a property until its time is over.
///
/// # Panics
/// When it does not hold; the smallest case is named and kept.
pub(super) fn fuzz<S: Strategy>(name: &str, strategy: S, property: impl Fn(S::Value) -> TestCaseResult) {
    fuzz_in_steps(CASES, name, strategy, property);
}

/// The same for a property whose cases are slow: so many between two looks at the clock.
pub(super) fn fuzz_in_steps<S: Strategy>(
    cases_in_step: u32,
    name: &str,
    strategy: S,
    property: impl Fn(S::Value) -> TestCaseResult,
) {
    let seconds = env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let time = seconds.map_or(SHORT, Duration::from_secs);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/regressions").join(format!("{name}.txt"));
    let file: &'static str = file.to_string_lossy().into_owned().leak();
    let (began, mut cases) = (Instant::now(), 0);
    while began.elapsed() < time || cases == 0 {
        let failure_persistence = Some(Box::new(FileFailurePersistence::Direct(file)) as _);
        let config = Config { cases: cases_in_step, failure_persistence, ..Config::default() };
        if let Err(error) = TestRunner::new(config).run(&strategy, &property) {
            panic!("{name}: {error}");
        }
        cases += cases_in_step;
    }
    println!("{name}: {cases} cases in {:.1?}", began.elapsed());
}
