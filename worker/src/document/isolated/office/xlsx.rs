use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use calamine::{Cell, DataRef, ExcelDateTime, Reader, SheetType, SheetVisible, Xlsx, XlsxError};

use super::package::Package;
use super::properties::Properties;
use super::table::{Table, flat};
use super::xml::DAMAGED;
use crate::document::BlockKind;
use crate::document::isolated::read::{Part, Place, Reading};

/// Cells of a sheet by row and column.
type Cells = BTreeMap<u32, BTreeMap<u32, Value>>;

/// What a cell shows.
struct Value {
    text: String,
    /// It is text, as names of columns are.
    words: bool,
}

/// Reads a workbook: a part a sheet. Hidden sheets are left out.
pub(super) fn parse(package: &mut Package<'_>, bytes: &[u8]) -> Result<Reading, String> {
    let properties = Properties::read(package)?;
    package.vet()?;
    let damaged = |error: XlsxError| format!("{DAMAGED} {error}; save it anew, or exclude it");
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(damaged)?;
    let shown = |sheet: &&calamine::Sheet| {
        sheet.typ == SheetType::WorkSheet && sheet.visible == SheetVisible::Visible
    };
    let sheets = book.sheets_metadata().iter().filter(shown);
    let sheets: Vec<String> = sheets.map(|sheet| sheet.name.clone()).collect();
    let mut reading = Reading::default();
    for name in sheets {
        let (cells, failed) = cells(&mut book, &name);
        if let Some(error) = failed {
            let problem = format!("sheet {name} is read in part: {}", damaged(error));
            reading.problems.push(problem);
        }
        let mut text = blocks(&cells);
        if text.is_empty() {
            continue;
        }
        text.insert(0, (BlockKind::Heading(1), flat(&name)));
        reading.parts.push(Part {
            place: Some(Place::Sheet(name)),
            title: properties.title.clone(),
            metadata: properties.metadata.clone(),
            text,
        });
    }
    if reading.parts.is_empty() && reading.problems.is_empty() {
        return Err("its sheets are empty; exclude it".to_owned());
    }
    Ok(reading)
}

/// The cells that show something, up to an error if there is one.
fn cells(book: &mut Xlsx<Cursor<&[u8]>>, sheet: &str) -> (Cells, Option<XlsxError>) {
    let mut cells = Cells::new();
    let mut reader = match book.worksheet_cells_reader(sheet) {
        Ok(reader) => reader,
        Err(error) => return (cells, Some(error)),
    };
    loop {
        match reader.next_cell() {
            Ok(Some(cell)) => {
                let (row, column) = cell.get_position();
                if let Some(value) = value(&cell) {
                    cells.entry(row).or_default().insert(column, value);
                }
            }
            Ok(None) => return (cells, None),
            Err(error) => return (cells, Some(error)),
        }
    }
}

fn value(cell: &Cell<DataRef<'_>>) -> Option<Value> {
    let (text, words) = match cell.get_value() {
        DataRef::Empty => return None,
        DataRef::String(text) => (flat(text), true),
        DataRef::SharedString(text) => (flat(text), true),
        DataRef::Int(number) => (number.to_string(), false),
        DataRef::Float(number) => (shown(*number), false),
        DataRef::Bool(true) => ("TRUE".to_owned(), false),
        DataRef::Bool(false) => ("FALSE".to_owned(), false),
        DataRef::DateTime(time) => (time_shown(time), false),
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => (flat(text), false),
        DataRef::Error(error) => (error.to_string(), false),
    };
    (!text.is_empty()).then_some(Value { text, words })
}

/// With the 15 digits that Excel shows at most: 0.1 + 0.2 is 0.3.
fn shown(number: f64) -> String {
    let rounded: f64 = format!("{number:.14e}").parse().unwrap_or(number);
    // Negative zero, too.
    match rounded == 0.0 {
        true => "0".to_owned(),
        false => rounded.to_string(),
    }
}

/// A date, a time, or both, as ISO 8601 writes them; a duration as hours, minutes and seconds.
fn time_shown(time: &ExcelDateTime) -> String {
    if time.is_duration() {
        let seconds = (time.as_f64() * 86_400.0).round();
        let sign = if seconds < 0.0 { "-" } else { "" };
        let seconds = seconds.abs() as u64;
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        return format!("{sign}{}:{:02}:{seconds:02}", minutes / 60, minutes % 60);
    }
    let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
    let clock = format!("{hour:02}:{minute:02}:{second:02}");
    let date = format!("{year:04}-{month:02}-{day:02}");
    match (time.as_f64() < 1.0, clock.as_str()) {
        (true, _) => clock,
        (false, "00:00:00") => date,
        (false, _) => format!("{date} {clock}"),
    }
}

/// Runs of rows, each a table over the columns that it uses; a row of one cell is a paragraph.
fn blocks(cells: &Cells) -> Vec<(BlockKind, String)> {
    let mut blocks = Vec::new();
    let rows: Vec<_> = cells.iter().collect();
    for run in rows.chunk_by(|(before, _), (row, _)| **row == **before + 1) {
        let columns: BTreeSet<u32> = run
            .iter()
            .flat_map(|(_, row)| row.keys().copied())
            .collect();
        match columns.len() {
            1 => blocks.extend(run.iter().flat_map(|(_, row)| row.values()).map(|value| {
                let text = value.text.clone();
                (BlockKind::Paragraph, text)
            })),
            _ => blocks.extend(table(run, &columns)),
        }
    }
    blocks
}

/// The first row heads a table if it names all of its columns.
fn table(
    rows: &[(&u32, &BTreeMap<u32, Value>)],
    columns: &BTreeSet<u32>,
) -> Option<(BlockKind, String)> {
    let mut table = Table::default();
    for (n, (_, row)) in rows.iter().enumerate() {
        let names = row.len() == columns.len() && row.values().all(|value| value.words);
        let text = |column: &u32| row.get(column).map_or_else(String::new, |v| v.text.clone());
        let line: Vec<String> = columns.iter().map(text).collect();
        table.row(&line, n == 0 && names);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use calamine::ExcelDateTimeType;

    use super::*;

    #[test]
    fn numbers_and_times_are_told_as_they_are_shown() {
        for (number, text) in [
            (0.1 + 0.2, "0.3"),
            (1234.5, "1234.5"),
            (-0.0, "0"),
            (42.0, "42"),
            (1e-7, "0.0000001"),
        ] {
            assert_eq!(shown(number), text);
        }
        let time = |value, kind| time_shown(&ExcelDateTime::new(value, kind, false));
        let date = ExcelDateTimeType::DateTime;
        assert_eq!(time(45_943.0, date), "2025-10-13");
        assert_eq!(time(45_943.5, date), "2025-10-13 12:00:00");
        assert_eq!(time(0.25, date), "06:00:00");
        assert_eq!(time(1.5, ExcelDateTimeType::TimeDelta), "36:00:00");
    }
}
