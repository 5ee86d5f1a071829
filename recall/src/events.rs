//! Server-sent events, as they arrive.

use std::collections::VecDeque;

/// The longest line that is waited for, in bytes.
const LONGEST: usize = 1 << 20;

/// Reads the data of events out of bytes that are cut anywhere. Names and numbers of events are passed over.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pending: Vec<u8>,
    data: Option<String>,
    ready: VecDeque<String>,
}

impl Events {
    /// Takes in more bytes.
    ///
    /// # Errors
    /// When a line does not end.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.pending.extend_from_slice(bytes);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            self.line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
        }
        match self.pending.len() {
            ..=LONGEST => Ok(()),
            length => Err(format!("a line of {length} bytes has no end")),
        }
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            self.ready.extend(self.data.take());
        } else if let Some(more) = line.strip_prefix("data:") {
            let more = more.strip_prefix(' ').unwrap_or(more);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(more);
                }
                None => self.data = Some(more.to_owned()),
            }
        }
    }

    /// The data of the next event that is whole.
    pub(crate) fn next(&mut self) -> Option<String> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], size: usize) -> Vec<String> {
        let mut events = Events::default();
        let mut read = Vec::new();
        for part in bytes.chunks(size) {
            events.push(part).unwrap();
            read.extend(std::iter::from_fn(|| events.next()));
        }
        read
    }

    #[test]
    fn events_are_the_same_wherever_they_are_cut() {
        let text = "data: {\"a\": \"日本\"}\n\n: still there\n\nevent: x\r\nid: 5\r\ndata:one\r\ndata: two\r\n\r\ndata:\n\ndata: [DONE]\n\ndata: cut";
        for size in 1..text.len() {
            let read = read(text.as_bytes(), size);
            assert_eq!(
                read,
                ["{\"a\": \"日本\"}", "one\ntwo", "", "[DONE]"],
                "{size}"
            );
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut events = Events::default();
        events.push(&vec![b'x'; LONGEST]).unwrap();
        assert!(events.push(b"x").unwrap_err().contains("1048577"));
    }
}
