//! What commands print: tables that fit the terminal, or JSON for programs.

use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Row, Table, presets};
use jiff::{Timestamp, Unit};
use serde::Serialize;

/// How a command prints its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// As `println!`, but who has read enough (`loci query … | head`) ends the command instead of breaking it.
macro_rules! say {
    () => { $crate::output::put(format_args!("")) };
    ($($text:tt)*) => { $crate::output::put(format_args!($($text)*)) };
}
pub(crate) use say;

/// Prints a line.
pub fn put(text: Arguments<'_>) {
    done(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Ends the command when nobody reads what it prints, or it cannot be written.
fn done(written: std::io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("the answer cannot be printed: {error}");
            std::process::exit(1);
        }
    }
}

/// Prints `value` as JSON, a line break at the end.
pub fn json(value: &impl Serialize) -> Result<()> {
    say!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A table with these headings, as wide as the terminal at most.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings.iter().map(|h| h.to_uppercase()));
    if !std::io::stdout().is_terminal() {
        table.set_width(160);
    }
    table
}

/// Adds a row that takes one line of the terminal, whatever has to be cut off.
pub fn line(table: &mut Table, cells: Vec<String>) {
    let mut row = Row::from(cells);
    row.max_height(1);
    table.add_row(row);
}

/// Prints a table; a word instead when it is empty.
pub fn print(table: &Table, empty: &str) {
    if table.is_empty() {
        say!("{empty}");
    } else {
        say!("{}", table.trim_fmt());
    }
}

/// A row as a table of `docs/performance.md` has it.
pub fn row<const N: usize>(cells: &[String; N]) -> String {
    let cells = cells.iter().map(|cell| format!(" {cell}"));
    let cells: Vec<String> = cells.map(|cell| cell.trim_end().to_owned()).collect();
    format!("|{} |", cells.join(" |"))
}

/// How long ago `then` was: `12s`, `5m`, `3h`, `9d`. For what is to come, turn them around.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now
        .since(then)
        .ok()
        .and_then(|s| s.total(Unit::Second).ok())
        .unwrap_or(0.0)
        .max(0.0);
    match seconds as u64 {
        s if s < 120 => format!("{s}s"),
        s if s < 2 * 3600 => format!("{}m", s / 60),
        s if s < 2 * 86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

pub use loci_shell::count;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_cells_between_bars() {
        let cells = ["Loci", "", "1.30"].map(str::to_owned);
        assert_eq!(row(&cells), "| Loci | | 1.30 |");
    }

    #[test]
    fn numbers_and_ages_read_well() {
        assert_eq!(
            (count(7), count(1234), count(1_234_567)),
            ("7".into(), "1,234".into(), "1,234,567".into())
        );
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        assert_eq!(age("2026-11-23T11:59:30Z".parse().unwrap(), now), "30s");
        assert_eq!(age("2026-11-20T12:00:00Z".parse().unwrap(), now), "3d");
    }
}
