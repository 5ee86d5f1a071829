use loci_testbed::documents::{archive, docx, docx_with, encrypted_office, pdf, pptx, xlsx};

use super::{document, presentation, workbook};
use crate::document::BlockKind::{self, Heading, ListItem, Paragraph, Table};
use crate::document::isolated::read::{Part, Place, Reading};

fn shown(part: &Part) -> Vec<(BlockKind, &str)> {
    let blocks = part.text.iter();
    blocks.map(|(kind, text)| (*kind, text.as_str())).collect()
}

fn refused(read: Result<Reading, String>) -> String {
    read.unwrap_err()
}

fn styled(style: &str, text: &str) -> String {
    format!("<w:p><w:pPr><w:pStyle w:val=\"{style}\"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>")
}

fn plain(text: &str) -> String {
    format!("<w:p><w:r><w:t xml:space=\"preserve\">{text}</w:t></w:r></w:p>")
}

#[test]
fn a_word_document_keeps_its_structure() {
    let cell = |text: &str| format!("<w:tc>{}</w:tc>", plain(text));
    let row = |cells: &[&str]| {
        let cells: String = cells.iter().map(|text| cell(text)).collect();
        format!("<w:tr>{cells}</w:tr>")
    };
    let body = [
        styled("Title", "Handbook"),
        styled("Heading1", "Returns"),
        "<w:p><w:pPr><w:tabs><w:tab w:pos=\"1\"/></w:tabs></w:pPr><w:r><w:t>Within </w:t></w:r>\
         <w:del><w:r><w:delText>ten</w:delText></w:r></w:del>\
         <w:ins><w:r><w:t>thirty</w:t><w:br/><w:t>days &amp; nights</w:t></w:r></w:ins></w:p>"
            .to_owned(),
        styled("Mine", "Where"),
        styled("ListBullet", "by post"),
        "<w:p><w:pPr><w:numPr><w:numId w:val=\"2\"/></w:numPr></w:pPr><w:r><w:t>in person</w:t></w:r></w:p>"
            .to_owned(),
        plain("  "),
        format!(
            "<w:tbl><w:tblPr><w:tblLook w:val=\"0020\"/></w:tblPr>{}{}</w:tbl>",
            row(&["part", "price"]),
            row(&["tyre", "20"])
        ),
        "<w:p><w:r><mc:AlternateContent><mc:Choice><w:t>once</w:t></mc:Choice>\
         <mc:Fallback><w:t>twice</w:t></mc:Fallback></mc:AlternateContent></w:r></w:p>"
            .to_owned(),
    ];
    let footnotes = (
        "word/footnotes.xml".to_owned(),
        format!("<w:footnotes>{}</w:footnotes>", plain("A note.")).into_bytes(),
    );
    let bytes = docx_with(&body.concat(), &[footnotes]).unwrap();
    let reading = document(&bytes).unwrap();
    assert!(reading.problems.is_empty());
    let part = &reading.parts[0];
    assert_eq!(part.place, None);
    assert_eq!(part.title.as_deref(), Some("The title"));
    assert_eq!(part.metadata["author"], ["Ops & Co"]);
    assert!(!part.metadata.contains_key("keywords"));
    let expected = [
        (Heading(1), "Handbook"),
        (Heading(1), "Returns"),
        (Paragraph, "Within thirty\ndays & nights"),
        (Heading(2), "Where"),
        (ListItem, "by post"),
        (ListItem, "in person"),
        (Table { header: 13 }, "part | price\ntyre | 20"),
        (Paragraph, "once"),
        (Paragraph, "A note."),
    ];
    assert_eq!(shown(part), expected);
    assert_eq!(document(&bytes).unwrap(), reading, "read twice");
}

#[test]
fn slides_are_parts_in_the_order_in_which_they_are_shown() {
    let shape = |kind: &str, paragraphs: &str| {
        format!(
            "<p:sp><p:nvSpPr><p:nvPr>{kind}</p:nvPr></p:nvSpPr><p:txBody>{paragraphs}</p:txBody></p:sp>"
        )
    };
    let text = |properties: &str, text: &str| {
        format!("<a:p>{properties}<a:r><a:t>{text}</a:t></a:r></a:p>")
    };
    let cell = |cell: &str| format!("<a:tc><a:txBody>{}</a:txBody></a:tc>", text("", cell));
    let first = [
        shape("<p:ph idx=\"1\"/>", &text("", "three modes")),
        shape("<p:ph type=\"sldNum\"/>", &text("", "1")),
        shape("", &text("", "a caption")),
        shape("<p:ph type=\"title\"/>", &text("", "Brakes")),
        format!(
            "<p:graphicFrame><a:tbl><a:tblPr firstRow=\"1\"/><a:tr>{}{}</a:tr><a:tr>{}{}</a:tr></a:tbl></p:graphicFrame>",
            cell("mode"),
            cell("use"),
            cell("eco"),
            cell("rain")
        ),
    ];
    let second = shape(
        "<p:ph type=\"body\"/>",
        &text("<a:pPr><a:buNone/></a:pPr>", "plain"),
    );
    let notes = [
        shape("<p:ph type=\"sldImg\"/>", &text("", "not this")),
        shape("<p:ph type=\"body\"/>", &text("", "Say it slowly.")),
    ];
    let bytes = pptx(&[&first.concat(), &second], Some(&notes.concat())).unwrap();
    let reading = presentation(&bytes).unwrap();
    let places: Vec<_> = reading
        .parts
        .iter()
        .map(|part| part.place.clone())
        .collect();
    assert_eq!(places, [Some(Place::Slide(1)), Some(Place::Slide(2))]);
    let expected = [
        (Heading(1), "Brakes"),
        (ListItem, "three modes"),
        (Paragraph, "a caption"),
        (Table { header: 11 }, "mode | use\neco | rain"),
        (Heading(2), "Notes"),
        (Paragraph, "Say it slowly."),
    ];
    assert_eq!(shown(&reading.parts[0]), expected);
    assert_eq!(shown(&reading.parts[1]), [(Paragraph, "plain")]);
}

fn words(at: &str, text: &str) -> String {
    format!("<c r=\"{at}\" t=\"inlineStr\"><is><t>{text}</t></is></c>")
}

fn number(at: &str, style: u8, value: &str) -> String {
    format!("<c r=\"{at}\" s=\"{style}\"><v>{value}</v></c>")
}

fn row(n: u32, cells: &[String]) -> String {
    format!("<row r=\"{n}\">{}</row>", cells.concat())
}

#[test]
fn sheets_are_parts_and_their_runs_of_rows_are_tables() {
    let prices = [
        row(1, &[words("B1", "Prices of 2026")]),
        row(
            3,
            &[
                words("B3", "part"),
                words("D3", "price"),
                words("E3", "since"),
            ],
        ),
        row(
            4,
            &[
                words("B4", "tyre"),
                number("D4", 0, "19.9"),
                number("E4", 1, "45943"),
            ],
        ),
        row(5, &[words("B5", "bell"), number("E5", 1, "45944")]),
    ];
    let hidden = row(1, &[words("A1", "secret")]);
    let sheets = [
        ("Price list", "", prices.concat()),
        ("Scratch", "state=\"hidden\"", hidden),
        ("Empty", "", String::new()),
    ];
    let sheets: Vec<_> = sheets
        .iter()
        .map(|(name, state, rows)| (*name, *state, rows.as_str()))
        .collect();
    let reading = workbook(&xlsx(&sheets).unwrap()).unwrap();
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    assert_eq!(reading.parts.len(), 1);
    let part = &reading.parts[0];
    assert_eq!(part.place, Some(Place::Sheet("Price list".to_owned())));
    let expected = [
        (Heading(1), "Price list"),
        (Paragraph, "Prices of 2026"),
        (
            Table { header: 21 },
            "part | price | since\ntyre | 19.9 | 2025-10-13\nbell |  | 2025-10-14",
        ),
    ];
    assert_eq!(shown(part), expected);
}

#[test]
fn a_sheet_that_breaks_off_is_read_so_far_and_reported() {
    let good = row(1, &[words("A1", "good")]);
    let broken = format!(
        "{}<row r=\"2\"><c r=\"A2\" t=\"s\"><v>no number</v></c></row>",
        row(1, &[words("A1", "kept")])
    );
    let reading = workbook(&xlsx(&[("One", "", &broken), ("Two", "", &good)]).unwrap()).unwrap();
    assert_eq!(reading.parts.len(), 2);
    assert!(
        reading.problems[0].contains("sheet One is read in part"),
        "{:?}",
        reading.problems
    );
}

#[test]
fn what_is_no_readable_office_file_is_refused_with_the_way_out() {
    let encrypted = refused(document(&encrypted_office()));
    assert!(encrypted.contains("encrypted") && encrypted.contains("without a password"));
    let mut old = encrypted_office();
    old.truncate(512);
    assert!(refused(workbook(&old)).contains("Office 97"));
    assert!(refused(document(b"plain text")).contains("no ZIP archive"));
    assert!(refused(document(&pdf(&["x"]))).contains("no ZIP archive"));
    let other = archive(&[("a.txt".to_owned(), b"x".to_vec())]).unwrap();
    assert!(refused(presentation(&other)).contains("no officeDocument"));
    let word = docx(&plain("x")).unwrap();
    assert!(refused(workbook(&word)).contains("name it .docx"));
    assert!(refused(document(&docx("").unwrap())).contains("no text"));
    let cut = &word[..word.len() / 2];
    assert!(refused(document(cut)).contains("damaged"));
}

#[test]
fn xml_that_is_broken_or_declares_entities_is_refused() {
    let unmatched = refused(document(&docx("<w:p></w:q>").unwrap()));
    assert!(unmatched.contains("word/document.xml") && unmatched.contains("damaged"));
    let entity = refused(document(
        &docx("<w:p><w:r><w:t>&bomb;</w:t></w:r></w:p>").unwrap(),
    ));
    assert!(entity.contains("&bomb;"), "{entity}");
    let declared = "<!DOCTYPE a [<!ENTITY b \"bbbb\">]><a>&b;</a>";
    let main = ("word/document.xml".to_owned(), declared.as_bytes().to_vec());
    let links = "<Relationships><Relationship Id=\"r\" Type=\"x/officeDocument\" Target=\"word/document.xml\"/></Relationships>";
    let links = ("_rels/.rels".to_owned(), links.as_bytes().to_vec());
    let refused = refused(document(&archive(&[main, links]).unwrap()));
    assert!(refused.contains("document type"), "{refused}");
}
