//! Figures as a plain table and as JSON.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// A table whose first column is text and whose others are figures.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Table {
        Table { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self) {
        print!("{}", self.laid_out());
    }

    fn laid_out(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    line += &format!("{cell:<width$}");
                } else {
                    line += &format!("  {cell:>width$}");
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// The middle of some figures; of two middle ones the mean. Zero of none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len().wrapping_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => 0.0,
    }
}

/// Nanoseconds for reading, in the unit that fits.
pub(crate) fn nanoseconds(value: f64) -> String {
    match value {
        value if value < 1e6 => format!("{:.0} µs", value / 1e3),
        value if value < 1e9 => format!("{:.1} ms", value / 1e6),
        value => format!("{:.2} s", value / 1e9),
    }
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / (1024.0 * 1024.0))
}

/// Writes the raw figures where the run was told to, if it was.
pub(crate) fn write_json(path: Option<&Path>, figures: &Value) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures)? + "\n";
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([7.0]), 7.0);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let mut table = Table::new(&["proxy", "req/s"]);
        table.row(vec!["a longer one".to_owned(), "7".to_owned()]);
        table.row(vec!["µ".to_owned()]);
        assert_eq!(table.laid_out(), "proxy         req/s\na longer one      7\nµ\n");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        assert_eq!(nanoseconds(12_300.0), "12 µs");
        assert_eq!(nanoseconds(12_340_000.0), "12.3 ms");
        assert_eq!(nanoseconds(1.5e9), "1.50 s");
    }
}
