//! The table, for a terminal of 100 columns.

use crate::report::{Report, Row};
use crate::stats::Interval;

/// Headings and widths; a width that is negative is that of a column that stands on the left.
const COLUMNS: [(&str, i32); 9] = [
    ("", -18),
    ("exact", 5),
    ("95 %", -10),
    ("decision", 8),
    ("gain", 6),
    ("95 %", -12),
    ("arithmetic", 10),
    ("loss", 6),
    ("verdict", -8),
];

/// The table, and what has to be said below it.
pub fn lines(report: &Report) -> Vec<String> {
    let headings = COLUMNS.map(|(heading, _)| heading.to_owned());
    let mut lines = vec![line(&headings)];
    lines.push("─".repeat(lines[0].chars().count()));
    lines.extend(report.rows.iter().map(|row| line(&cells(row))));
    lines.push(String::new());
    if let Some(best) = report.best {
        lines.push(format!("gain: over {best}, the best control"));
    }
    for reason in &report.reasons {
        lines.extend(wrapped(reason));
    }
    lines
}

fn cells(row: &Row) -> [String; 9] {
    let number = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.3}"));
    let signed = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:+.3}"));
    let spread = |value: Option<Interval>| {
        value.map_or_else(String::new, |v| format!("{:.2}..{:.2}", v.low, v.high))
    };
    [
        row.name.clone(),
        number(row.exact.map(|e| e.mean)),
        spread(row.exact),
        number(row.decision),
        signed(row.gain.map(|g| g.mean)),
        spread(row.gain),
        number(row.arithmetic),
        signed(row.loss.map(|l| l.mean)),
        row.verdict.clone().unwrap_or_default(),
    ]
}

fn line(cells: &[String; 9]) -> String {
    let padded = cells.iter().zip(COLUMNS).map(|(cell, (_, width))| {
        let room = width.unsigned_abs() as usize;
        match width < 0 {
            true => format!("{cell:<room$}"),
            false => format!("{cell:>room$}"),
        }
    });
    let line = padded.collect::<Vec<_>>().join("  ");
    line.trim_end().to_owned()
}

/// A text in lines of at most 100 characters, the further ones indented.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 100 {
            lines.push(std::mem::replace(&mut line, " ".to_owned()));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Loss;

    #[test]
    fn the_widest_row_fits_a_hundred_columns() {
        let widest = Interval {
            mean: -0.999,
            low: -1.0,
            high: -0.99,
        };
        let row = Row {
            name: "aggressive 999999".to_owned(),
            exact: Some(Interval {
                mean: 0.5,
                low: 0.45,
                high: 0.55,
            }),
            decision: Some(0.75),
            gain: Some(widest),
            arithmetic: Some(0.625),
            loss: Some(Loss {
                mean: -0.01,
                lower: -0.02,
                upper: 0.0,
            }),
            verdict: Some("rejected".to_owned()),
            ..Row::default()
        };
        let empty = Row {
            name: "majority class".to_owned(),
            ..Row::default()
        };
        let report = Report {
            best: Some("base + examples"),
            rows: vec![row, empty],
            reasons: vec!["word ".repeat(50)],
        };
        let lines = lines(&report);
        assert_eq!(
            lines[2],
            "aggressive 999999   0.500  0.45..0.55     0.750  -0.999  -1.00..-0.99       0.625  -0.010  rejected"
        );
        assert_eq!(lines[3], "majority class");
        assert!(lines.iter().all(|l| l.chars().count() <= 100), "{lines:#?}");
        assert_eq!(lines[0].find("exact"), Some(20));
        assert_eq!(lines.len(), 9);
        assert!(lines[7].starts_with("  word"));
    }
}
