//! Sitemaps and indexes of sitemaps, as sitemaps.org describes them.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

/// The most bytes of a sitemap, uncompressed: what the protocol allows.
pub(super) const MOST_BYTES: usize = 50 << 20;
/// The most entries of a sitemap: what the protocol allows.
const MOST_ENTRIES: usize = 50_000;
/// Elements inside one another; sitemaps and their extensions have five.
const DEEPEST: usize = 16;
/// The most bytes of a location or a date.
const LONGEST: usize = 4_096;

/// What a file lists.
#[derive(Debug, PartialEq)]
pub(super) enum File {
    /// Pages, with the time of their last change.
    Pages(Vec<Entry>),
    /// Other files.
    Index(Vec<Entry>),
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Entry {
    pub(super) location: String,
    pub(super) lastmod: Option<String>,
}

/// The text of a file that may be compressed.
pub(super) fn unpacked(content: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if !content.starts_with(&[0x1f, 0x8b]) {
        return Ok(Cow::Borrowed(content));
    }
    let mut text = Vec::new();
    let unpacked = MultiGzDecoder::new(content)
        .take(MOST_BYTES as u64 + 1)
        .read_to_end(&mut text);
    match unpacked {
        Err(error) => Err(format!("is no whole gzip file ({error})")),
        Ok(_) if text.len() > MOST_BYTES => Err(format!(
            "is more than the {MOST_BYTES} bytes that a sitemap may be, uncompressed"
        )),
        Ok(_) => Ok(Cow::Owned(text)),
    }
}

/// # Errors
/// In words, what is wrong with it.
pub(super) fn parse(text: &[u8]) -> Result<File, String> {
    let text = std::str::from_utf8(text)
        .map_err(|error| format!("is not UTF-8, as sitemaps are ({error})"))?;
    let mut reader = Reader::from_str(text);
    let mut parsing = Parsing::default();
    loop {
        let event = reader.read_event();
        let event = event
            .map_err(|error| format!("is no XML at byte {}: {error}", reader.error_position()))?;
        match event {
            Event::Start(start) => parsing.enter(start.local_name().as_ref())?,
            Event::Empty(start) => {
                parsing.enter(start.local_name().as_ref())?;
                parsing.leave()?;
            }
            Event::End(_) => parsing.leave()?,
            Event::Text(text) => parsing.text(&text)?,
            Event::CData(text) => parsing.text(&text)?,
            Event::GeneralRef(name) => {
                let of_char = name.resolve_char_ref().map_err(|error| error.to_string())?;
                match (of_char, resolve_xml_entity(&name)) {
                    (Some(c), _) => parsing.text(c.encode_utf8(&mut [0; 4]))?,
                    (None, Some(text)) => parsing.text(text)?,
                    (None, None) => return Err(format!("has the unknown entity &{};", &*name)),
                }
            }
            Event::Eof => return parsing.finish(),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

#[derive(Default)]
struct Parsing {
    /// The elements around, by their names without prefix.
    path: Vec<String>,
    root: Option<String>,
    entry: Entry,
    entries: Vec<Entry>,
}

impl Parsing {
    fn enter(&mut self, name: &str) -> Result<(), String> {
        if self.path.len() == DEEPEST {
            return Err("has elements too deep inside one another for a sitemap".into());
        }
        if self.path.is_empty() {
            if !matches!(name, "urlset" | "sitemapindex") {
                return Err(format!(
                    "is no sitemap: it begins with <{name}>, not with <urlset> or <sitemapindex>"
                ));
            }
            self.root = Some(name.to_owned());
        }
        self.path.push(name.to_owned());
        if self.is_entry() {
            self.entry = Entry::default();
        }
        Ok(())
    }

    /// Inside of `<url>` or `<sitemap>`, directly below the root.
    fn is_entry(&self) -> bool {
        matches!(&self.path[..], [_, name] if matches!(&name[..], "url" | "sitemap"))
    }

    fn leave(&mut self) -> Result<(), String> {
        if self.is_entry() {
            if self.entries.len() == MOST_ENTRIES {
                return Err(format!(
                    "has more than the {MOST_ENTRIES} entries that a sitemap may have"
                ));
            }
            self.entries.push(std::mem::take(&mut self.entry));
        }
        self.path.pop();
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        let [_, entry, field] = &self.path[..] else {
            return Ok(());
        };
        if !matches!(&entry[..], "url" | "sitemap") {
            return Ok(());
        }
        let into = match &field[..] {
            "loc" => &mut self.entry.location,
            "lastmod" => self.entry.lastmod.get_or_insert_default(),
            _ => return Ok(()),
        };
        into.push_str(text);
        match into.len() > LONGEST {
            true => Err(format!("has a location of more than {LONGEST} bytes")),
            false => Ok(()),
        }
    }

    fn finish(self) -> Result<File, String> {
        if !self.path.is_empty() {
            return Err("ends in the middle: it was cut off".into());
        }
        let entries = self.entries.into_iter().map(|entry| Entry {
            location: entry.location.trim().to_owned(),
            lastmod: entry
                .lastmod
                .map(|time| time.trim().to_owned())
                .filter(|time| !time.is_empty()),
        });
        let entries = entries.filter(|entry| !entry.location.is_empty()).collect();
        match self.root.as_deref() {
            Some("sitemapindex") => Ok(File::Index(entries)),
            Some(_) => Ok(File::Pages(entries)),
            None => Err("is no sitemap: it is empty".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn entry(location: &str, lastmod: Option<&str>) -> Entry {
        Entry {
            location: location.into(),
            lastmod: lastmod.map(str::to_owned),
        }
    }

    #[test]
    fn pages_and_indexes_are_told_apart_and_extensions_are_passed_over() {
        let pages = br#"<?xml version="1.0" encoding="UTF-8"?>
            <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
              <url>
                <loc> https://a.test/?a=1&amp;b=&#50; </loc>
                <lastmod>2024-05-01</lastmod>
                <image:image><image:loc>https://a.test/x.png</image:loc></image:image>
              </url>
              <!-- nothing --><url><loc><![CDATA[https://a.test/b]]></loc><lastmod/></url><url/>
            </urlset>"#;
        assert_eq!(
            parse(pages).unwrap(),
            File::Pages(vec![
                entry("https://a.test/?a=1&b=2", Some("2024-05-01")),
                entry("https://a.test/b", None),
            ])
        );
        let index =
            b"<s:sitemapindex xmlns:s='x'><s:sitemap><s:loc>https://a.test/1.xml</s:loc></s:sitemap></s:sitemapindex>";
        assert_eq!(
            parse(index).unwrap(),
            File::Index(vec![entry("https://a.test/1.xml", None)])
        );
    }

    #[test]
    fn what_is_no_sitemap_is_refused_with_the_reason() {
        let deep = format!("<urlset>{}", "<a>".repeat(20));
        let many = format!("<urlset>{}</urlset>", "<url/>".repeat(MOST_ENTRIES + 1));
        let long = format!(
            "<urlset><url><loc>{}</loc></url></urlset>",
            "a".repeat(5_000)
        );
        let cases: [(&[u8], &str); 9] = [
            (b"<html><body>Not found</body></html>", "begins with <html>"),
            (b"", "it is empty"),
            (b"<urlset><url><loc>https://a.test/", "cut off"),
            (b"<urlset><url></loc></urlset>", "is no XML"),
            (b"<urlset><url><loc>&bomb;</loc></url></urlset>", "&bomb;"),
            (
                b"<urlset><url><loc>\xff</loc></url></urlset>",
                "is not UTF-8",
            ),
            (deep.as_bytes(), "too deep"),
            (many.as_bytes(), "more than the 50000 entries"),
            (long.as_bytes(), "more than 4096 bytes"),
        ];
        for (text, reason) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }

    #[test]
    fn gzip_is_unpacked_up_to_a_bound() {
        let packed = |content: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(unpacked(b"<urlset/>").unwrap(), &b"<urlset/>"[..]);
        assert_eq!(unpacked(&packed(b"<urlset/>")).unwrap(), &b"<urlset/>"[..]);
        let bomb = packed(&vec![b' '; MOST_BYTES + 1]);
        assert!(bomb.len() < 1 << 20);
        assert!(unpacked(&bomb).unwrap_err().contains("uncompressed"));
        let cut = &packed(b"<urlset/>")[..12];
        assert!(unpacked(cut).unwrap_err().contains("no whole gzip file"));
    }
}
