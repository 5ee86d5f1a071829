//! PDF and Office files, each parsed in a process of its own: the built program under its real bounds.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use loci_testbed::documents::{Pdf, docx, encrypted_office, pdf, xlsx};
use loci_worker::document::{DocumentError, Format, Parsed, ParserLimits, Parsers};
use serde_json::Value;

use crate::harness::{Site, loci, retrieve};

fn parsers(limits: ParserLimits) -> Parsers {
    Parsers::of(loci().get_program().into(), limits)
}

async fn parse(
    limits: ParserLimits,
    format: Format,
    bytes: Vec<u8>,
) -> Result<Parsed, DocumentError> {
    let parsers = parsers(limits);
    let parsed = parsers.parse(format, Bytes::from(bytes), "a").await;
    parsed.unwrap()
}

async fn refused(limits: ParserLimits, format: Format, bytes: Vec<u8>) -> String {
    let error = parse(limits, format, bytes).await.unwrap_err();
    assert!(!error.is_passing(), "{error}");
    error.to_string()
}

fn paragraph(text: &str) -> String {
    format!("<w:p><w:r><w:t>{text}</w:t></w:r></w:p>")
}

/// A page of forms each of which draws the next one twice.
fn doubling(forms: usize) -> Vec<u8> {
    let mut file = Pdf::new();
    let mut last = file.stream("/Type /XObject /Subtype /Form", b"");
    for _ in 0..forms {
        let resources =
            format!("/Type /XObject /Subtype /Form /Resources << /XObject << /X {last} 0 R >> >>");
        last = file.stream(&resources, b"/X Do /X Do");
    }
    drawing(file, last)
}

/// A page that draws a form.
fn drawing(mut file: Pdf, form: usize) -> Vec<u8> {
    let content = file.stream("", b"/X Do");
    let page = file.object(&format!(
        "<< /Type /Page /MediaBox [0 0 612 792] /Contents {content} 0 R \
         /Resources << /XObject << /X {form} 0 R >> >> >>"
    ));
    file.kids(&[page]);
    file.bytes()
}

#[tokio::test]
async fn documents_are_parsed_the_same_each_time_and_side_by_side() {
    let limits = ParserLimits::default();
    let parsers = parsers(limits);
    let files = [
        (Format::Pdf, pdf(&["The workshop opens at nine."])),
        (
            Format::Docx,
            docx(&paragraph("A lost key is replaced.")).unwrap(),
        ),
        (
            Format::Xlsx,
            xlsx(&[(
                "Fees",
                "",
                "<row r=\"1\"><c r=\"A1\" t=\"inlineStr\"><is><t>late</t></is></c></row>",
            )])
            .unwrap(),
        ),
    ];
    let mut tasks = Vec::new();
    for (format, bytes) in files.iter().cycle().take(12) {
        let (parsers, bytes) = (parsers.clone(), Bytes::from(bytes.clone()));
        let format = *format;
        tasks.push(tokio::spawn(async move {
            parsers.parse(format, bytes, "a").await.unwrap().unwrap()
        }));
    }
    let mut read = Vec::new();
    for task in tasks {
        read.push(task.await.unwrap().documents);
    }
    assert_eq!(read[..3], read[3..6]);
    assert_eq!(read[..6], read[6..]);
    let parts: Vec<_> = read[..3].iter().map(|d| d[0].part.as_deref()).collect();
    assert_eq!(parts, [Some("page=1"), None, Some("sheet=Fees")]);
}

#[tokio::test]
async fn memory_and_processor_time_are_bounded() {
    // Each operation of a page takes many times its bytes.
    let mut file = Pdf::new();
    let page = file.showing(&"0 0 m\n".repeat(4_000_000));
    file.kids(&[page]);
    let small = ParserLimits {
        memory: 512 << 20,
        ..ParserLimits::default()
    };
    let error = refused(small, Format::Pdf, file.bytes()).await;
    assert!(error.contains("512 MiB of memory"), "{error}");
    let short = ParserLimits {
        cpu: Duration::from_secs(1),
        ..ParserLimits::default()
    };
    let error = refused(short, Format::Pdf, doubling(40)).await;
    assert!(error.contains("1 s of processor time"), "{error}");
}

#[tokio::test]
async fn a_deadline_ends_a_parser_and_is_not_the_documents_fault() {
    let limits = ParserLimits {
        deadline: Duration::from_millis(300),
        ..ParserLimits::default()
    };
    let error = parse(limits, Format::Pdf, doubling(40)).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert!(error.to_string().contains("300ms"), "{error}");
}

#[tokio::test]
async fn a_parser_that_crashes_costs_its_document() {
    // A form that draws itself.
    let mut file = Pdf::new();
    let form = 4;
    let entries =
        format!("/Type /XObject /Subtype /Form /Resources << /XObject << /X {form} 0 R >> >>");
    assert_eq!(file.stream(&entries, b"/X Do"), form);
    let error = refused(ParserLimits::default(), Format::Pdf, drawing(file, form)).await;
    assert!(error.contains("nests too deeply"), "{error}");
}

#[tokio::test]
async fn what_goes_in_and_what_comes_out_is_bounded() {
    let limits = ParserLimits {
        output: 64 << 10,
        ..ParserLimits::default()
    };
    let long = docx(&paragraph("many words ").repeat(20_000)).unwrap();
    let error = refused(limits, Format::Docx, long).await;
    assert!(error.contains("65536 bytes of text"), "{error}");
    let limits = ParserLimits {
        input: 1 << 20,
        ..ParserLimits::default()
    };
    let error = refused(limits, Format::Pdf, vec![b'x'; (1 << 20) + 1]).await;
    assert!(error.contains("larger than 1 MiB"), "{error}");
}

#[test]
fn documents_that_are_no_text_are_found_and_cited_and_bad_ones_are_told() {
    let site = Site::new();
    let write = |name: &str, bytes: Vec<u8>| fs::write(site.path(name), bytes).unwrap();
    let pages = [
        "Chains are oiled once a week.",
        "Guests may borrow a helmet from the cupboard beside the stairs.",
    ];
    write("docs/manual.pdf", pdf(&pages));
    let body = paragraph("The canteen serves pancakes on the last Thursday of a month.");
    write("docs/canteen.docx", docx(&body).unwrap());
    write("docs/sealed.docx", encrypted_office());
    write("docs/broken.pdf", b"%PDF-1.7\nnothing else".to_vec());
    let mut up = site.up();
    let url = up.ready();
    let cited = |question: &str| -> Value {
        let body = serde_json::json!({"query": question, "k": 1});
        let (status, answer) = retrieve(&url, &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        answer["passages"][0]["citation"].clone()
    };
    let helmet = cited("Where can guests borrow a helmet?");
    assert_eq!(helmet["document"], "manual.pdf#page=2");
    let uri = helmet["uri"].as_str().unwrap();
    assert!(uri.ends_with("/manual.pdf#page=2"), "{uri}");
    let canteen = cited("When does the canteen serve pancakes?");
    assert_eq!(canteen["document"], "canteen.docx");
    assert_eq!(canteen["title"], "The title");
    let run = &site.json(&["runs"])[0];
    let said = run["status"]["steps"].to_string();
    assert!(said.contains("2 problems"), "{said}");
    assert!(
        said.contains("docs: broken.pdf: not readable as PDF"),
        "{said}"
    );
    up.stop();
}
