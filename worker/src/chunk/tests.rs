use proptest::prelude::*;

use super::*;
use crate::document::{Media, ParseContext, parse};

/// Words and punctuation, words longer than six characters in pieces: as WordPiece does.
struct Pieces;
/// Every character is a token, white space too.
struct Characters;

impl TokenCounter for Pieces {
    fn count(&self, text: &str) -> usize {
        self.offsets(text).len()
    }

    fn offsets(&self, text: &str) -> Vec<Range<usize>> {
        let mut tokens: Vec<(Range<usize>, usize)> = Vec::new();
        for (at, character) in text.char_indices() {
            let end = at + character.len_utf8();
            match tokens.last_mut() {
                _ if character.is_whitespace() => {}
                Some((last, length))
                    if character.is_alphanumeric()
                        && last.end == at
                        && *length < 6
                        && text[last.clone()].chars().all(char::is_alphanumeric) =>
                {
                    last.end = end;
                    *length += 1;
                }
                _ => tokens.push((at..end, 1)),
            }
        }
        tokens.into_iter().map(|(range, _)| range).collect()
    }
}

impl TokenCounter for Characters {
    fn count(&self, text: &str) -> usize {
        text.chars().count()
    }

    fn offsets(&self, text: &str) -> Vec<Range<usize>> {
        text.char_indices()
            .map(|(at, character)| at..at + character.len_utf8())
            .collect()
    }
}

/// Together texts count more than each alone: merges across a border are not what packing may trust.
struct Growing;

impl TokenCounter for Growing {
    fn count(&self, text: &str) -> usize {
        let characters = text.chars().count();
        characters + characters / 7
    }

    fn offsets(&self, text: &str) -> Vec<Range<usize>> {
        Characters.offsets(text)
    }
}

fn document(media: Media, source: &str) -> ParsedDocument {
    let parsed = parse(media, source.as_bytes(), &ParseContext { document: "d" }).unwrap();
    parsed.documents.into_iter().next().unwrap()
}

fn chunks(source: &str, max_tokens: usize, overlap_tokens: usize) -> Vec<Chunk> {
    let config = ChunkerConfig {
        max_tokens,
        overlap_tokens,
    };
    chunk(&document(Media::Markdown, source), None, &config, &Pieces).unwrap()
}

fn texts(chunks: &[Chunk]) -> Vec<&str> {
    chunks.iter().map(|chunk| chunk.text.as_str()).collect()
}

#[test]
fn sections_are_chunks_under_their_heading_path() {
    let chunks = chunks(
        "Intro.\n\n# A\n\n## B\n\nOne.\n\n- x\n- y\n\n## C\n\nTwo.\n\n# D\n",
        64,
        8,
    );
    assert_eq!(texts(&chunks), ["Intro.", "One.\n\n- x\n- y", "Two.", "D"]);
    let paths: Vec<_> = chunks
        .iter()
        .map(|chunk| chunk.headings.join("/"))
        .collect();
    assert_eq!(paths, ["", "A/B", "A/C", "D"]);
    assert_eq!(
        chunks.iter().map(|chunk| chunk.ordinal).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
}

#[test]
fn code_is_kept_whole_when_it_fits_and_cut_at_lines_when_not() {
    let code = "```\nfirst line here\nsecond line here\n```";
    let source = format!("Some words come before it all here now.\n\n{code}\n");
    assert_eq!(
        texts(&chunks(&source, 16, 0)),
        ["Some words come before it all here now.", code]
    );
    let long: String = (0..20).map(|line| format!("line {line} here\n")).collect();
    for chunk in chunks(&format!("```\n{long}```\n"), 20, 0) {
        let whole =
            |line: &str| line == "```" || (line.starts_with("line ") && line.ends_with(" here"));
        assert!(chunk.text.lines().all(whole), "{}", chunk.text);
    }
}

#[test]
fn a_long_table_repeats_its_header() {
    let rows: String = (0..30).map(|row| format!("| {row} | value |\n")).collect();
    let header = "| id | name |\n|---|---|\n";
    let chunks = chunks(&format!("{header}{rows}"), 48, 8);
    assert!(chunks.len() > 2);
    for chunk in &chunks {
        assert!(chunk.text.starts_with(header), "{}", chunk.text);
        assert_eq!(chunk.text.matches("id").count(), 1);
    }
    assert!(
        chunks[1].span.start > header.len() as u64,
        "the span is of the rows alone"
    );
}

#[test]
fn neighbours_overlap_by_sentences_and_else_by_words() {
    let sentences: String = (0..12)
        .map(|n| format!("Sentence number {n} is here. "))
        .collect();
    let cut = chunks(&sentences, 24, 8);
    for pair in cut.windows(2) {
        let last = pair[0].text.split_inclusive(". ").last().unwrap();
        assert!(pair[1].text.starts_with(last), "{:?}", texts(&cut));
        assert!(pair[1].span.start < pair[0].span.end);
    }
    let words: String = (0..60).map(|n| format!("word{n} ")).collect();
    let cut = chunks(&words, 24, 8);
    for pair in cut.windows(2) {
        let first = pair[1].text.split(' ').next().unwrap();
        let told: Vec<_> = pair[0].text.split(' ').collect();
        let again = told.len() - told.iter().position(|word| *word == first).unwrap();
        assert!((1..=8).contains(&again), "{:?}", texts(&cut));
    }
    assert_eq!(
        texts(&chunks("# A\n\nOne here.\n\n# B\n\nTwo here.\n", 16, 8)),
        ["One here.", "Two here."]
    );
}

#[test]
fn settings_out_of_range_are_refused_and_identify_the_chunker() {
    let config = |max_tokens, overlap_tokens| ChunkerConfig {
        max_tokens,
        overlap_tokens,
    };
    assert_eq!(config(15, 0).validate(), Err(ChunkerError::MaxTokens(15)));
    assert_eq!(
        config(64, 33).validate(),
        Err(ChunkerError::Overlap {
            overlap: 33,
            max: 64
        })
    );
    let (a, b) = (Digest::of("a"), Digest::of("b"));
    assert_eq!(config(64, 8).digest(a), config(64, 8).digest(a));
    assert_ne!(config(64, 8).digest(a), config(64, 8).digest(b));
    assert_ne!(config(64, 8).digest(a), config(64, 9).digest(a));
}

fn block_source() -> impl Strategy<Value = String> {
    let word = "[a-zA-Zéß語]{1,14}|[.!?,]|[a-z]{30,60}";
    let sentence = proptest::collection::vec(word, 1..16).prop_map(|words| words.join(" "));
    let prose =
        proptest::collection::vec(sentence, 1..6).prop_map(|sentences| sentences.join(". "));
    let code = proptest::collection::vec("[ -_a-z]{0,60}", 1..12)
        .prop_map(|lines| format!("~~~\n{}\n~~~", lines.join("\n")));
    let table = proptest::collection::vec("[a-z ]{1,30}", 1..12).prop_map(|cells| {
        let rows: String = cells
            .iter()
            .map(|cell| format!("| {cell} | x |\n"))
            .collect();
        format!("| key | value |\n|---|---|\n{rows}")
    });
    let heading =
        (1..4usize, "[a-z]{1,5}").prop_map(|(level, text)| format!("{} {text}", "#".repeat(level)));
    let list = proptest::collection::vec("[a-zA-Z]{1,12}( [a-z]{1,9}){0,9}", 1..8)
        .prop_map(|items| items.iter().map(|item| format!("- {item}\n")).collect());
    prop_oneof![3 => prose, 1 => code, 1 => table, 2 => heading, 1 => list]
}

fn check(source: &str, media: Media, config: &ChunkerConfig, counter: &dyn TokenCounter) {
    let document = document(media, source);
    let chunks = chunk(&document, Some("title"), config, counter).unwrap();
    assert_eq!(
        chunks,
        chunk(&document, Some("title"), config, counter).unwrap()
    );
    for chunk in &chunks {
        let path: Vec<_> = std::iter::once("title")
            .chain(chunk.headings.iter().map(String::as_str))
            .collect();
        let embedded = format!("{}\n{}", path.join(" > "), chunk.text);
        let tokens = counter.count(&embedded);
        assert!(tokens <= config.max_tokens, "{tokens} tokens: {embedded:?}");
        assert!(!chunk.text.trim().is_empty());
        assert!(chunk.span.start < chunk.span.end && chunk.span.end <= source.len() as u64);
    }
    for block in &document.blocks {
        let told = |heading: &String| {
            matches!(block.kind, BlockKind::Heading(_)) && *heading == block.text
        };
        if chunks.iter().any(|chunk| chunk.headings.iter().any(told)) {
            continue;
        }
        for (at, character) in block
            .text
            .char_indices()
            .filter(|(_, c)| !c.is_whitespace())
        {
            let source = block.source_range(at..at + character.len_utf8());
            let covers = |chunk: &Chunk| {
                chunk.span.start <= source.start
                    && source.end <= chunk.span.end
                    && chunk.text.contains(character)
            };
            assert!(
                chunks.iter().any(covers),
                "{character:?} at {at} of {block:?}"
            );
        }
    }
}

/// All characters but white space, in order: what a chunking without overlap must tell exactly once.
fn letters<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts
        .into_iter()
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_chunk_is_too_long_and_no_text_is_lost(
        blocks in proptest::collection::vec(block_source(), 1..8),
        max_tokens in 24..120usize,
        overlap in 0..3usize,
    ) {
        let source = blocks.join("\n\n");
        let config = ChunkerConfig { max_tokens, overlap_tokens: overlap * max_tokens / 5 };
        check(&source, Media::Markdown, &config, &Pieces);
        check(&source, Media::Text, &config, &Pieces);
        let config = ChunkerConfig { max_tokens: max_tokens * 3, ..config };
        check(&source, Media::Markdown, &config, &Characters);
        check(&source, Media::Markdown, &config, &Growing);
    }

    #[test]
    fn without_overlap_every_letter_is_told_once(
        source in "(?s)[ -~\n\té語]{0,900}",
        max_tokens in 16..60usize,
    ) {
        let document = document(Media::Text, &source);
        let config = ChunkerConfig { max_tokens, overlap_tokens: 0 };
        for counter in [&Pieces as &dyn TokenCounter, &Characters, &Growing] {
            let chunks = chunk(&document, None, &config, counter).unwrap();
            prop_assert!(chunks.iter().all(|chunk| counter.count(&chunk.text) <= max_tokens));
            prop_assert_eq!(
                letters(chunks.iter().map(|chunk| chunk.text.as_str())),
                letters(document.blocks.iter().map(|block| block.text.as_str()))
            );
        }
    }
}
