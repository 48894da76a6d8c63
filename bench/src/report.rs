//! What a measurement prints, and the same figures as JSON.

use std::{env, fs, iter, path::Path, thread};

use anyhow::Context as _;
use serde::Serialize;

/// The figures of one run. [`Report::finish`] prints them and writes exactly them.
#[derive(Debug, Serialize)]
pub struct Report {
    command: Vec<String>,
    preheat: &'static str,
    machine: Machine,
    figures: Vec<Figure>,
    tables: Vec<Table>,
    notes: Vec<String>,
    /// Why the run ended before its time, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<String>,
}

#[derive(Debug, Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    os: &'static str,
    arch: &'static str,
    build: &'static str,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

/// Rows under named columns; a unit belongs in the column's name.
#[derive(Debug, Serialize)]
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// One value of a table.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A figure, printed with three significant digits or more.
    Number(f64),
}

impl Default for Report {
    fn default() -> Self {
        Self {
            // Where the program lies is nobody's business.
            command: iter::once("preheat-bench".to_owned())
                .chain(env::args().skip(1))
                .collect(),
            preheat: env!("CARGO_PKG_VERSION"),
            machine: Machine {
                cpu: cpu_name(),
                cores: thread::available_parallelism().map_or(1, usize::from),
                os: env::consts::OS,
                arch: env::consts::ARCH,
                build: if cfg!(debug_assertions) {
                    "debug"
                } else {
                    "release"
                },
            },
            figures: Vec::new(),
            tables: Vec::new(),
            notes: Vec::new(),
            incomplete: None,
        }
    }
}

impl Report {
    /// Adds one figure.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure {
            name: name.into(),
            value,
            unit,
        });
    }

    /// Adds a sentence that a reader of the figures must know.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The run ended before its time. Its figures are still shown, and then [`Self::finish`] fails.
    pub fn incomplete(&mut self, why: impl Into<String>) {
        self.incomplete = Some(why.into());
    }

    /// Adds a table.
    pub fn table(&mut self, title: &str, columns: &[&str], rows: Vec<Vec<Cell>>) {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        self.tables.push(Table {
            title: title.to_owned(),
            columns,
            rows,
        });
    }

    /// Prints everything, and writes it to `json` where given.
    ///
    /// # Errors
    /// Where the file cannot be written, or the run ended before its time.
    pub fn finish(&self, json: Option<&Path>) -> anyhow::Result<()> {
        for table in &self.tables {
            println!("\n{}", table.render());
        }
        if !self.figures.is_empty() {
            println!();
        }
        let width = self
            .figures
            .iter()
            .map(|figure| figure.name.len())
            .max()
            .unwrap_or(0);
        for Figure { name, value, unit } in &self.figures {
            println!("  {name:<width$}  {:>10} {unit}", round(*value));
        }
        for note in &self.notes {
            println!("\n  {note}");
        }
        if let Some(path) = json {
            let text = serde_json::to_string_pretty(self).context("figures as JSON")?;
            fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
        }
        match &self.incomplete {
            Some(why) => {
                println!();
                Err(anyhow::anyhow!("{why}"))
            }
            None => Ok(()),
        }
    }
}

impl Table {
    fn render(&self) -> String {
        let text = |cell: &Cell| match cell {
            Cell::Text(text) => text.clone(),
            Cell::Number(number) => round(*number),
        };
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(text).collect())
            .collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = rows.iter().map(|row| row[column].len());
                cells.chain([self.columns[column].len()]).max().unwrap_or(0)
            })
            .collect();
        let line = |cells: &[String]| {
            let padded = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:>width$}"));
            format!("  {}\n", padded.collect::<Vec<_>>().join("  "))
        };
        let body: String = rows.iter().map(|row| line(row)).collect();
        format!(
            "{}\n{}{}",
            self.title,
            line(&self.columns),
            body.trim_end_matches('\n')
        )
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

/// At least three significant digits, and no noise behind them.
fn round(value: f64) -> String {
    let decimals = match value.abs() {
        x if x >= 100.0 || x == x.trunc() => 0,
        x if x >= 10.0 => 1,
        x if x >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

/// The middle value (the mean of the middle two); 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

fn cpu_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_holds_what_is_printed() {
        let mut report = Report::default();
        report.figure("rate", 12.5, "images/s");
        report.table(
            "sizes",
            &["size", "images/s"],
            vec![vec!["256".into(), 3.25.into()]],
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.json");
        report.finish(Some(&path)).unwrap();
        let json: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(json["figures"][0]["value"], 12.5);
        assert_eq!(json["tables"][0]["rows"][0][1], 3.25);
        assert!(json["machine"]["cores"].as_u64().unwrap() > 0);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn tables_line_up() {
        let table = Table {
            title: "t".into(),
            columns: vec!["size".into(), "rate".into()],
            rows: vec![vec!["1024x1024".into(), 0.25.into()]],
        };
        assert_eq!(
            table.render(),
            "t\n       size    rate\n  1024x1024  0.2500"
        );
    }
}
