use super::TokenCounter;

/// The headings above the current block, and what they leave of a chunk's tokens.
pub(super) struct Path<'a> {
    title: Option<&'a str>,
    max: usize,
    counter: &'a dyn TokenCounter,
    open: Vec<(u8, String)>,
}

impl<'a> Path<'a> {
    pub(super) fn new(title: Option<&'a str>, max: usize, counter: &'a dyn TokenCounter) -> Self {
        Self {
            title,
            max,
            counter,
            open: Vec::new(),
        }
    }

    /// Goes below a heading; false when it is too long to be told in full.
    pub(super) fn enter(&mut self, level: u8, text: &str) -> bool {
        self.open.retain(|&(above, _)| above < level);
        let clipped = clip(text, self.max / 4, self.counter);
        let whole = clipped.len() == text.len();
        self.open.push((level, clipped));
        whole
    }

    /// The headings to tell: the innermost that fit in half of a chunk.
    pub(super) fn headings(&self) -> Vec<String> {
        let told = (0..self.open.len()).find(|&from| self.tokens(from) <= self.max / 2);
        let told = told.unwrap_or(self.open.len().saturating_sub(1));
        self.open[told..]
            .iter()
            .map(|(_, text)| text.clone())
            .collect()
    }

    /// The tokens that are left for text; at least half.
    pub(super) fn budget(&self) -> usize {
        let from = self.open.len() - self.headings().len();
        (self.max - self.tokens(from).min(self.max)).max(self.max / 2)
    }

    /// Tokens of what leads the text when it is embedded.
    fn tokens(&self, from: usize) -> usize {
        let headings = self.open[from..].iter().map(|(_, text)| text.as_str());
        let first = headings.clone().next();
        let title = self
            .title
            .filter(|&title| first != Some(title) && !title.is_empty());
        let path: Vec<_> = title.into_iter().chain(headings).collect();
        if path.is_empty() {
            0
        } else {
            self.counter.count(&(path.join(" > ") + "\n"))
        }
    }
}

/// At most `limit` tokens of `text`, with an ellipsis when there were more.
fn clip(text: &str, limit: usize, counter: &dyn TokenCounter) -> String {
    if counter.count(text) <= limit {
        return text.to_owned();
    }
    let offsets = counter.offsets(text);
    let mut ends = offsets.iter().take(limit).rev().map(|token| token.end);
    let fits = |end: &usize| {
        text.get(..*end)
            .is_some_and(|head| counter.count(&format!("{}…", head.trim_end())) <= limit)
    };
    ends.find(fits).map_or_else(
        || "…".to_owned(),
        |end| format!("{}…", text[..end].trim_end()),
    )
}
