//! A passage as data: between fences, as CommonMark has them for code.

use loci_index::Hit;

use crate::Marks;

/// The shortest fence.
const FENCE: usize = 3;

/// The passage with its number, title and headings. All that comes from the document stands between two fences of
/// backticks, longer than any run of them inside, so that nothing inside can be the second one.
pub(crate) fn fenced(number: usize, hit: &Hit, marks: &Marks) -> String {
    let text = visible(&hit.passage.embedding_text(hit.title.as_deref()));
    let text = between_fences(&marks.broken(text.trim_end()));
    format!("[{number}]\n{text}\n\n")
}

/// The text between two fences of backticks, longer than any run of them inside.
pub fn between_fences(text: &str) -> String {
    let runs = text.split(|c: char| c != '`').map(str::len);
    let fence = "`".repeat(runs.max().map_or(FENCE, |longest| FENCE.max(longest + 1)));
    format!("{fence}\n{text}\n{fence}")
}

/// The text without characters that nobody sees but a model reads: those of control, of the direction of writing, of no
/// width, tags, and selectors of variants beyond those of emoji. Joiners stay: they shape letters. The grave accent that Unicode says is a backtick is one.
pub fn visible(text: &str) -> String {
    let seen = text.chars().filter(|c| !is_hidden(*c));
    seen.map(|c| if c == '\u{1fef}' { '`' } else { c })
        .collect()
}

fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\r' | '\t' => false,
        '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => true,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e01ef}' => true,
        c => c.is_control(),
    }
}
