use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const RELATIONS: &str = "http://schemas.openxmlformats.org/package/2006/relationships";
const KINDS: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const CORE: &str =
    "http://schemas.openxmlformats.org/package/2006/relationships/metadata/core-properties";
const WORD: &str = "xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"";
const SLIDES: &str = "xmlns:p=\"http://schemas.openxmlformats.org/presentationml/2006/main\" \
     xmlns:a=\"http://schemas.openxmlformats.org/drawingml/2006/main\" \
     xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\"";
const SHEETS: &str = "xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" \
     xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\"";

/// A part: its name and content.
pub type Entry = (String, Vec<u8>);

/// A ZIP archive of these parts.
///
/// # Errors
/// When it cannot be written.
pub fn archive(parts: &[Entry]) -> std::io::Result<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, content) in parts {
        writer.start_file(name.as_str(), options)?;
        writer.write_all(content)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// A Word document of such a body, with headings ("Heading1", "Heading2"), a title and a list among its styles.
///
/// # Errors
/// When it cannot be written.
pub fn docx(body: &str) -> std::io::Result<Vec<u8>> {
    docx_with(body, &[])
}

/// The same with more parts.
///
/// # Errors
/// When it cannot be written.
pub fn docx_with(body: &str, more: &[Entry]) -> std::io::Result<Vec<u8>> {
    let style = |id: &str, name: &str, rest: &str| {
        format!(
            "<w:style w:type=\"paragraph\" w:styleId=\"{id}\"><w:name w:val=\"{name}\"/>{rest}</w:style>"
        )
    };
    let styles = [
        style("Heading1", "heading 1", ""),
        style("Heading2", "heading 2", "<w:basedOn w:val=\"Heading1\"/>"),
        style("Title", "Title", ""),
        style(
            "ListBullet",
            "List Bullet",
            "<w:pPr><w:numPr><w:numId w:val=\"1\"/></w:numPr></w:pPr>",
        ),
        style("Mine", "mine", "<w:basedOn w:val=\"Heading2\"/>"),
    ];
    let mut parts = package("word/document.xml");
    parts.extend([
        part(
            "word/document.xml",
            format!("<w:document {WORD}><w:body>{body}</w:body></w:document>"),
        ),
        part(
            "word/styles.xml",
            format!("<w:styles {WORD}>{}</w:styles>", styles.concat()),
        ),
        part(
            "word/_rels/document.xml.rels",
            relations(&[
                ("rId1", "styles", "styles.xml"),
                ("rId2", "footnotes", "footnotes.xml"),
            ]),
        ),
    ]);
    parts.extend(more.iter().cloned());
    archive(&parts)
}

/// A presentation of these slides, by what stands in their trees of shapes; and the notes of the first.
///
/// # Errors
/// When it cannot be written.
pub fn pptx(slides: &[&str], notes: Option<&str>) -> std::io::Result<Vec<u8>> {
    let mut parts = package("ppt/presentation.xml");
    let (mut ids, mut links) = (String::new(), Vec::new());
    for (n, shapes) in slides.iter().enumerate() {
        // The names say another order than the presentation.
        let (id, name) = (
            format!("rId{n}"),
            format!("slides/slide{}.xml", slides.len() - n),
        );
        ids.push_str(&format!("<p:sldId id=\"{}\" r:id=\"{id}\"/>", 256 + n));
        let shapes =
            format!("<p:sld {SLIDES}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:sld>");
        parts.push(part(&format!("ppt/{name}"), shapes));
        links.push((id, name));
    }
    let list: Vec<_> = links
        .iter()
        .map(|(id, name)| (id.as_str(), "slide", name.as_str()))
        .collect();
    parts.push(part("ppt/_rels/presentation.xml.rels", relations(&list)));
    parts.push(part(
        "ppt/presentation.xml",
        format!("<p:presentation {SLIDES}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>"),
    ));
    if let Some(notes) = notes {
        let first = slides.len();
        parts.push(part(
            &format!("ppt/slides/_rels/slide{first}.xml.rels"),
            relations(&[("rId1", "notesSlide", "../notesSlides/notesSlide1.xml")]),
        ));
        parts.push(part(
            "ppt/notesSlides/notesSlide1.xml",
            format!("<p:notes {SLIDES}><p:cSld><p:spTree>{notes}</p:spTree></p:cSld></p:notes>"),
        ));
    }
    archive(&parts)
}

/// A workbook of these sheets: name, attributes of its entry in the workbook, content of `sheetData`. Style 1 is a date.
///
/// # Errors
/// When it cannot be written.
pub fn xlsx(sheets: &[(&str, &str, &str)]) -> std::io::Result<Vec<u8>> {
    let mut parts = package("xl/workbook.xml");
    let (mut list, mut links) = (String::new(), Vec::new());
    for (n, (name, attributes, rows)) in (1..).zip(sheets) {
        list.push_str(&format!(
            "<sheet name=\"{name}\" sheetId=\"{n}\" {attributes} r:id=\"rId{n}\"/>"
        ));
        let rows = format!("<worksheet {SHEETS}><sheetData>{rows}</sheetData></worksheet>");
        parts.push(part(&format!("xl/worksheets/sheet{n}.xml"), rows));
        links.push((format!("rId{n}"), format!("worksheets/sheet{n}.xml")));
    }
    let mut related: Vec<_> = links
        .iter()
        .map(|(id, name)| (id.as_str(), "worksheet", name.as_str()))
        .collect();
    related.push(("rIdS", "styles", "styles.xml"));
    parts.push(part("xl/_rels/workbook.xml.rels", relations(&related)));
    parts.push(part(
        "xl/workbook.xml",
        format!("<workbook {SHEETS}><sheets>{list}</sheets></workbook>"),
    ));
    parts.push(part(
        "xl/styles.xml",
        format!("<styleSheet {SHEETS}><cellXfs count=\"2\"><xf numFmtId=\"0\"/><xf numFmtId=\"14\"/></cellXfs></styleSheet>"),
    ));
    archive(&parts)
}

/// What an Office program writes when it is given a password: a compound file with a stream of this name. Only what tells
/// it apart is there.
pub fn encrypted_office() -> Vec<u8> {
    let mut bytes = vec![0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
    bytes.resize(512, 0);
    bytes.extend("EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes));
    bytes.resize(2048, 0);
    bytes
}

fn part(name: &str, content: String) -> Entry {
    let declared =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>{content}");
    (name.to_owned(), declared.into_bytes())
}

/// What all have: their main part, and properties.
fn package(main: &str) -> Vec<Entry> {
    let types = "http://schemas.openxmlformats.org/package/2006/content-types";
    let properties = "<cp:coreProperties \
         xmlns:cp=\"http://schemas.openxmlformats.org/package/2006/metadata/core-properties\" \
         xmlns:dc=\"http://purl.org/dc/elements/1.1/\"><dc:title>The title</dc:title>\
         <dc:creator>Ops &amp; Co</dc:creator><cp:keywords></cp:keywords></cp:coreProperties>";
    let core = format!("<Relationship Id=\"rId2\" Type=\"{CORE}\" Target=\"docProps/core.xml\"/>");
    let links = relations(&[("rId1", "officeDocument", main)]);
    vec![
        part(
            "[Content_Types].xml",
            format!(
                "<Types xmlns=\"{types}\"><Default Extension=\"xml\" ContentType=\"application/xml\"/></Types>"
            ),
        ),
        part(
            "_rels/.rels",
            links.replace("</Relationships>", &format!("{core}</Relationships>")),
        ),
        part("docProps/core.xml", properties.to_owned()),
    ]
}

fn relations(links: &[(&str, &str, &str)]) -> String {
    let links: Vec<String> = links
        .iter()
        .map(|(id, kind, target)| {
            format!("<Relationship Id=\"{id}\" Type=\"{KINDS}/{kind}\" Target=\"{target}\"/>")
        })
        .collect();
    format!(
        "<Relationships xmlns=\"{RELATIONS}\">{}</Relationships>",
        links.concat()
    )
}
