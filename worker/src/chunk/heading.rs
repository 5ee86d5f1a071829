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
        let told =
            (0..self.open.len()).find(|&from| self.counter.count(&self.lead(from)) <= self.max / 2);
        let told = told.unwrap_or(self.open.len().saturating_sub(1));
        self.open[told..]
            .iter()
            .map(|(_, text)| text.clone())
            .collect()
    }

    /// What leads the text when it is embedded, and the tokens that both may have together. A lead
    /// that takes more than half is not counted: the embedder will cut it.
    pub(super) fn room(&self) -> (String, usize) {
        let lead = self.lead(self.open.len() - self.headings().len());
        match self.counter.count(&lead) <= self.max / 2 {
            true => (lead, self.max),
            false => (String::new(), self.max / 2),
        }
    }

    /// The title and the headings from `from` on, as they lead the text.
    fn lead(&self, from: usize) -> String {
        let headings = self.open[from..].iter().map(|(_, text)| text.as_str());
        let first = headings.clone().next();
        let title = self
            .title
            .filter(|&title| first != Some(title) && !title.is_empty());
        let path: Vec<_> = title.into_iter().chain(headings).collect();
        if path.is_empty() {
            String::new()
        } else {
            path.join(" > ") + "\n"
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
