use loci_testbed::documents::{Pdf, pdf};
use pdf_extract::{Document, EncryptionState, EncryptionVersion, Permissions};

use super::parse;
use crate::document::BlockKind::{ListItem, Paragraph};
use crate::document::isolated::read::{Place, Reading};

fn read(bytes: &[u8]) -> Reading {
    parse(bytes).unwrap()
}

/// The text of each part, its blocks parted by bars.
fn texts(reading: &Reading) -> Vec<String> {
    let parts = reading.parts.iter();
    parts
        .map(|part| {
            let blocks: Vec<&str> = part.text.iter().map(|(_, text)| text.as_str()).collect();
            blocks.join("|")
        })
        .collect()
}

#[test]
fn pages_are_parts_with_paragraphs() {
    let mut file = Pdf::new();
    let pages = [
        file.page("A parcel can be sent\nback within thirty days.\n\n\nAsk at the (front) desk."),
        file.page(""),
        file.page("The workshop opens at nine."),
    ];
    file.kids(&pages);
    let information = file.object("<< /Title (The handbook) /Author <FEFF00C9> /Keywords () >>");
    file.trailer(&format!("/Info {information} 0 R"));
    let reading = read(&file.bytes());
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    assert_eq!(
        texts(&reading),
        [
            "A parcel can be sent\nback within thirty days.|Ask at the (front) desk.",
            "The workshop opens at nine."
        ]
    );
    let places: Vec<_> = reading
        .parts
        .iter()
        .map(|part| part.place.clone())
        .collect();
    assert_eq!(places, [Some(Place::Page(1)), Some(Place::Page(3))]);
    let part = &reading.parts[0];
    assert_eq!(part.title.as_deref(), Some("The handbook"));
    assert_eq!(part.metadata["author"], ["É"]);
    assert!(!part.metadata.contains_key("keywords"));
    assert_eq!(read(&file.bytes()), reading, "read twice");
}

#[test]
fn pages_inherit_and_lists_have_items() {
    let mut file = Pdf::new();
    let content = file.stream("", b"BT /F1 12 Tf 72 720 Td (hello) Tj ET");
    let node = file.object("");
    let page = file.object(&format!("<< /Type /Page /Contents {content} 0 R >>"));
    file.replace(
        node,
        &format!(
            "<< /Type /Pages /Resources << /Font << /F1 3 0 R >> >> /Kids [{page} 0 R] /Count 1 >>"
        ),
    );
    file.kids(&[node]);
    assert_eq!(texts(&read(&file.bytes())), ["hello"]);
    let blocks = super::text::blocks("Take\n• a pump\nwith a hose\n• a tube\n\nRide.");
    let expected = [
        (Paragraph, "Take"),
        (ListItem, "a pump\nwith a hose"),
        (ListItem, "a tube"),
        (Paragraph, "Ride."),
    ];
    let blocks: Vec<_> = blocks
        .iter()
        .map(|(kind, text)| (*kind, text.as_str()))
        .collect();
    assert_eq!(blocks, expected);
}

#[test]
fn a_page_that_fails_keeps_what_was_read_and_the_others_are_read() {
    let mut file = Pdf::new();
    let pages = [
        file.page("one"),
        // There is no such font.
        file.showing("BT /F1 12 Tf 72 720 Td (begun) Tj /F9 12 Tf (lost) Tj ET"),
        file.page("three"),
    ];
    file.kids(&pages);
    let reading = read(&file.bytes());
    assert_eq!(texts(&reading), ["one", "begun", "three"]);
    assert_eq!(reading.problems.len(), 1);
    assert!(reading.problems[0].contains("page 2 is read in part"));
}

#[test]
fn a_cyclic_page_tree_is_named() {
    let mut file = Pdf::new();
    let page = file.page("one");
    let inner = file.object(&format!(
        "<< /Type /Pages /Parent 2 0 R /Count 1 /Kids [{page} 0 R 2 0 R] >>"
    ));
    file.kids(&[inner]);
    let error = parse(&file.bytes()).unwrap_err();
    assert!(error.contains("page tree is cyclic: object 2"), "{error}");
    // Parents are not asked, so that theirs may be as cyclic as they like.
    let mut file = Pdf::new();
    let page = file.page("one");
    file.kids(&[page]);
    file.replace(
        2,
        &format!("<< /Type /Pages /Parent 2 0 R /Count 1 /Kids [{page} 0 R] >>"),
    );
    assert_eq!(texts(&read(&file.bytes())), ["one"]);
}

/// The PDF with passwords by RC4, as lopdf writes it.
fn encrypted(user: &str) -> Vec<u8> {
    let mut document = Document::load_mem(&pdf(&["sealed"])).unwrap();
    let version = EncryptionVersion::V2 {
        document: &document,
        owner_password: "owner",
        user_password: user,
        key_length: 128,
        permissions: Permissions::all(),
    };
    let state = EncryptionState::try_from(version).unwrap();
    document.encrypt(&state).unwrap();
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_encrypted_file_is_refused_unless_it_opens_without_a_password() {
    let error = parse(&encrypted("user")).unwrap_err();
    assert!(
        error.contains("encrypted") && error.contains("without a password"),
        "{error}"
    );
    assert_eq!(texts(&read(&encrypted(""))), ["sealed"]);
    // Of a kind that nobody knows.
    let mut file = Pdf::new();
    let page = file.page("sealed");
    file.kids(&[page]);
    file.trailer("/Encrypt << /Filter /Mine /V 9 >>");
    assert!(parse(&file.bytes()).unwrap_err().contains("encrypted"));
}

#[test]
fn what_is_no_readable_pdf_is_refused_with_the_way_out() {
    let good = pdf(&["text"]);
    let refused = |bytes: &[u8]| parse(bytes).unwrap_err();
    assert!(refused(b"PK\x03\x04").contains("does not begin as a PDF"));
    assert!(refused(&good[..good.len() / 2]).contains("damaged"));
    assert!(refused(b"%PDF-1.7\n").contains("damaged"));
    assert!(refused(&pdf(&["", ""])).contains("OCR"));
    assert!(refused(&pdf(&[])).contains("no pages"));
}

#[test]
fn images_are_not_taken_for_text() {
    let mut file = Pdf::new();
    let image = file.stream(
        "/Type /XObject /Subtype /Image /Width 1 /Height 1 /BitsPerComponent 8 /ColorSpace /DeviceGray",
        b"BT /F1 12 Tf (pixels) Tj ET",
    );
    let content = file.stream("", b"/I Do BT /F1 12 Tf 72 720 Td (words) Tj ET");
    let page = file.object(&format!(
        "<< /Type /Page /MediaBox [0 0 612 792] /Contents {content} 0 R \
         /Resources << /XObject << /I {image} 0 R >> /Font << /F1 3 0 R >> >> >>"
    ));
    file.kids(&[page]);
    let reading = read(&file.bytes());
    assert_eq!(texts(&reading), ["words"]);
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
}
