//! The differences that are let pass, each with its reason. What is not listed here fails the test, and so does a
//! row that nothing needs any more.

use crate::difference::{Difference, Kind};

/// One row: where (a `*` stands for anything), what kind, and why it cannot be equal.
pub(crate) struct Row {
    /// `12.0`, `10.11`, or `*` for both.
    pub(crate) generation: &'static str,
    /// The number of the file, or `*`.
    pub(crate) file: &'static str,
    pub(crate) at: &'static str,
    pub(crate) kind: Kind,
    pub(crate) reason: &'static str,
}

pub(crate) const TABLE: &[Row] = &[];

/// The table of one generation, with a count of how often each row was needed.
pub(crate) struct Tolerance {
    rows: Vec<(&'static Row, usize)>,
}

impl Tolerance {
    pub(crate) fn of(generation: &str) -> Tolerance {
        let rows = TABLE
            .iter()
            .filter(|row| row.generation == "*" || row.generation == generation)
            .map(|row| (row, 0))
            .collect();
        Tolerance { rows }
    }

    /// Whether a row lets the difference pass.
    pub(crate) fn forgives(&mut self, file: &str, difference: &Difference) -> bool {
        let row = self.rows.iter_mut().find(|(row, _)| {
            (row.file == "*" || row.file == file) && row.kind == difference.kind && fits(row.at, &difference.at)
        });
        match row {
            Some((_, uses)) => {
                *uses += 1;
                true
            }
            None => false,
        }
    }

    /// The rows with their uses.
    pub(crate) fn rows(&self) -> &[(&'static Row, usize)] {
        &self.rows
    }
}

fn fits(pattern: &str, at: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == at,
        Some((before, after)) => at
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|skip| rest.get(skip..).is_some_and(|rest| fits(after, rest)))),
    }
}
