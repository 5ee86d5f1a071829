//! Bytes of tokens to text, piece by piece.

/// Gives out text as soon as its characters are whole. All pieces together are what decoding all bytes at once
/// gives, with U+FFFD for what is not UTF-8.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pending: Vec<u8>,
}

impl Pieces {
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            let error = match std::str::from_utf8(&self.pending) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.pending.clear();
                    return text;
                }
                Err(error) => error,
            };
            let valid: Vec<u8> = self.pending.drain(..error.valid_up_to()).collect();
            text.push_str(&String::from_utf8_lossy(&valid));
            let Some(invalid) = error.error_len() else {
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            self.pending.drain(..invalid);
        }
    }

    /// What is left when no more bytes come.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

/// Holds text back while it may be the beginning of a string at which the text is to stop.
#[derive(Debug)]
pub(super) struct Stops {
    stops: Vec<String>,
    held: String,
}

impl Stops {
    pub fn new(stops: &[String]) -> Self {
        let (stops, held) = (stops.to_vec(), String::new());
        Self { stops, held }
    }

    /// The text that may be given out, and whether it stops there.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop));
        if let Some(at) = found.min() {
            self.held.truncate(at);
            return (self.finish(), true);
        }
        let begun = self.stops.iter().map(|stop| begun(&self.held, stop)).max();
        let kept = self.held.len() - begun.unwrap_or(0);
        let held = self.held.split_off(kept);
        (std::mem::replace(&mut self.held, held), false)
    }

    /// What is still held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The length of the longest beginning of `stop` with which `text` ends.
fn begun(text: &str, stop: &str) -> usize {
    let mut lengths = stop.char_indices().map(|(at, _)| at).rev();
    let longest = lengths.find(|&length| text.ends_with(&stop[..length]));
    longest.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_out_whole_wherever_tokens_cut_them() {
        let texts = ["naïve 日本語 👩‍👩‍👧!", "", "a", "\u{10ffff}é"];
        for text in texts {
            for size in 1..5 {
                let mut pieces = Pieces::default();
                let mut got = String::new();
                for bytes in text.as_bytes().chunks(size) {
                    got += &pieces.push(bytes);
                }
                assert_eq!(pieces.finish(), "");
                assert_eq!(got, text);
            }
        }
    }

    #[test]
    fn what_is_not_utf8_is_what_decoding_at_once_gives() {
        let cases: [&[u8]; 6] = [
            b"a\xffb",
            b"\xe6\x97",
            b"\xe6\x97a",
            b"\xf0\x9f\x91\xc3\xa9",
            b"\xc3",
            b"\x80\x80x",
        ];
        for bytes in cases {
            let mut pieces = Pieces::default();
            let mut got: String = bytes.iter().map(|b| pieces.push(&[*b])).collect();
            got += &pieces.finish();
            assert_eq!(got, String::from_utf8_lossy(bytes), "{bytes:?}");
        }
    }

    fn until(stops: &[&str], parts: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut hold = Stops::new(&stops);
        let mut shown = Vec::new();
        for part in parts {
            let (text, stopped) = hold.push(part);
            shown.push(text);
            if stopped {
                return (shown, true);
            }
        }
        shown.push(hold.finish());
        (shown, false)
    }

    #[test]
    fn text_stops_before_the_first_stop_string_even_across_pieces() {
        let (shown, stopped) = until(&["\n\nUser:", "END"], &["Hi\n", "\nUs", "er: x"]);
        assert_eq!((shown.concat().as_str(), stopped), ("Hi", true));
        assert_eq!(shown[0], "Hi");
        let (shown, stopped) = until(&["\n\nUser:"], &["Hi\n", "\nUs", "able"]);
        assert_eq!(shown, ["Hi", "", "\n\nUsable", ""]);
        assert!(!stopped);
        let (shown, stopped) = until(&["bc", "abc"], &["xab", "c"]);
        assert_eq!((shown.concat().as_str(), stopped), ("x", true));
        let (shown, _) = until(&["日本"], &["日", "語"]);
        assert_eq!(shown, ["", "日語", ""]);
        let (shown, _) = until(&["aab"], &["aa", "a"]);
        assert_eq!(shown, ["", "a", "aa"]);
        assert_eq!(until(&[], &["a", "b"]).0, ["a", "b", ""]);
    }
}
