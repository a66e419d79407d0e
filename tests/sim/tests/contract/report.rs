//! What a replay found, counted for each file, and the table of it.

use std::fmt::Write;

use crate::difference::Difference;
use crate::tolerated::Tolerance;

/// The findings of one generation.
pub(crate) struct Report {
    label: &'static str,
    files: Vec<File>,
    tolerance: Tolerance,
}

#[derive(Default)]
struct File {
    name: &'static str,
    exchanges: usize,
    frames: usize,
    differing: usize,
    tolerated: usize,
    /// Each difference that no row lets pass, with the number of its line.
    unlisted: Vec<String>,
}

impl Report {
    pub(crate) fn new(label: &'static str, tolerance: Tolerance) -> Report {
        Report { label, files: Vec::new(), tolerance }
    }

    pub(crate) fn begin(&mut self, file: &'static str) {
        self.files.push(File { name: file, ..File::default() });
    }

    /// Adds a replayed line with what differed in it.
    pub(crate) fn add(&mut self, line: usize, is_frame: bool, found: Vec<Difference>) {
        let tolerance = &mut self.tolerance;
        let Some(file) = self.files.last_mut() else {
            return;
        };
        match is_frame {
            true => file.frames += 1,
            false => file.exchanges += 1,
        }
        let all = found.len();
        let unlisted: Vec<Difference> =
            found.into_iter().filter(|difference| !tolerance.forgives(&file.name[..2], difference)).collect();
        file.tolerated += all - unlisted.len();
        file.differing += usize::from(!unlisted.is_empty());
        file.unlisted.extend(unlisted.iter().map(|difference| format!("line {line}: {difference}")));
    }

    /// Adds what was found after the last line.
    pub(crate) fn add_at_end(&mut self, difference: Difference) {
        let Some(file) = self.files.last_mut() else {
            return;
        };
        if self.tolerance.forgives(&file.name[..2], &difference) {
            file.tolerated += 1;
        } else {
            file.differing += 1;
            file.unlisted.push(format!("at the end: {difference}"));
        }
    }

    /// Whether nothing differs but what is listed, and every listed row was needed.
    pub(crate) fn is_clean(&self) -> bool {
        self.files.iter().all(|file| file.unlisted.is_empty()) && self.idle_rows().is_empty()
    }

    fn idle_rows(&self) -> Vec<String> {
        self.tolerance
            .rows()
            .iter()
            .filter(|(_, uses)| *uses == 0)
            .map(|(row, _)| format!("{} {} {:?} at {}", row.generation, row.file, row.kind, row.at))
            .collect()
    }

    /// The table, the tolerated rows with their uses, and every unlisted difference.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "\nJellyfin {}", self.label)?;
        writeln!(text, "{:<24}{:>10}{:>8}{:>11}{:>11}", "file", "exchanges", "frames", "differing", "tolerated")?;
        for file in &self.files {
            writeln!(
                text,
                "{:<24}{:>10}{:>8}{:>11}{:>11}",
                file.name, file.exchanges, file.frames, file.differing, file.tolerated
            )?;
        }
        for (row, uses) in self.tolerance.rows() {
            writeln!(text, "tolerated {uses} times in {}: {:?} at {}: {}", row.file, row.kind, row.at, row.reason)?;
        }
        for file in &self.files {
            for difference in &file.unlisted {
                writeln!(text, "{} {difference}", file.name)?;
            }
        }
        for row in self.idle_rows() {
            writeln!(text, "a row that nothing needs: {row}")?;
        }
        Ok(())
    }
}
