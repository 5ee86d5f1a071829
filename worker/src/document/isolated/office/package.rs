use std::io::{Cursor, Read, Write, copy, sink};

use zip::ZipArchive;
use zip::result::ZipError;

use super::xml::{self, Node};
use crate::document::Format;
use crate::document::isolated::child::exhausted;

/// The most bytes that all parts that are read may inflate to.
const INFLATED: u64 = 256 << 20;
/// A part that inflates to more than this many times its size is a bomb, if it is large. XML in Office files shrinks to a
/// twentieth, rarely to a hundredth; deflate's utmost is 1032.
const RATIO: u64 = 250;
const LARGE: u64 = 8 << 20;
/// The most parts.
const PARTS: usize = 20_000;

/// The first bytes of a compound file: Office 97 to 2003, and the wrapping of encrypted Office files (MS-OFFCRYPTO).
const COMPOUND: &[u8] = &[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
/// The stream that only encrypted ones have.
const ENCRYPTED: &str = "EncryptedPackage";

const LOCKED: &str = "it is encrypted; save it without a password, or exclude it";

/// An Office file.
pub(super) struct Package<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    /// What may still be inflated.
    left: u64,
}

/// A link from one part to another.
#[derive(Debug, PartialEq)]
pub(super) struct Relation {
    pub(super) id: String,
    /// The last word of its type: `styles`, `slide`.
    pub(super) kind: String,
    /// The part that it leads to.
    pub(super) target: String,
}

impl<'a> Package<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.starts_with(COMPOUND) {
            let name: Vec<u8> = ENCRYPTED
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect();
            return Err(match bytes.windows(name.len()).any(|found| found == name) {
                true => LOCKED.to_owned(),
                false => "it is in the format of Office 97 to 2003; save it as .docx, .pptx or .xlsx, or exclude it".to_owned(),
            });
        }
        if !bytes.starts_with(b"PK") {
            return Err(
                "it is no Office file (no ZIP archive); correct its name, or exclude it".to_owned(),
            );
        }
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(&error))?;
        if archive.len() > PARTS {
            return Err(format!(
                "it has more than {PARTS} parts; save it anew, or exclude it"
            ));
        }
        Ok(Self {
            archive,
            left: INFLATED,
        })
    }

    /// The part that all others hang on.
    pub(super) fn main(&mut self, format: Format) -> Result<String, String> {
        let relations = self.relations("")?;
        let main = relations
            .into_iter()
            .find(|relation| relation.kind == "officeDocument")
            .ok_or("it is no Office file (no officeDocument); correct its name, or exclude it")?
            .target;
        let found = [
            ("word/", Format::Docx),
            ("ppt/", Format::Pptx),
            ("xl/", Format::Xlsx),
        ];
        let found = found.iter().find(|(folder, _)| main.starts_with(folder));
        match found {
            Some((_, found)) if *found != format => Err(format!(
                "it is {found} by its content; name it .{}, or exclude it",
                found.as_str()
            )),
            _ => Ok(main),
        }
    }

    /// Where `part` links to within the file; the empty name is the file's own.
    pub(super) fn relations(&mut self, part: &str) -> Result<Vec<Relation>, String> {
        let (folder, file) = part.rsplit_once('/').unwrap_or(("", part));
        let name = resolve(folder, &format!("_rels/{file}.rels"));
        let mut relations = Vec::new();
        let Some(content) = self.part(&name)? else {
            return Ok(relations);
        };
        xml::read(&content, &name, |node| {
            let Node::Start(element) = node else { return };
            let external = element.get("TargetMode").as_deref() == Some("External");
            if element.name() != "Relationship" || external {
                return;
            }
            let [id, kind, target] = ["Id", "Type", "Target"].map(|name| element.get(name));
            let kind = kind.unwrap_or_default();
            relations.push(Relation {
                id: id.unwrap_or_default(),
                kind: kind.rsplit('/').next().unwrap_or_default().to_owned(),
                target: resolve(folder, &target.unwrap_or_default()),
            });
        })?;
        Ok(relations)
    }

    /// A part that has to be there.
    pub(super) fn needed(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let missing = || format!("{} lacks {name}; save it anew, or exclude it", xml::DAMAGED);
        self.part(name)?.ok_or_else(missing)
    }

    /// A part's content, if it is there.
    pub(super) fn part(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(index) = self.index(name) else {
            return Ok(None);
        };
        let mut content = Vec::new();
        self.inflate(index, &mut content)?;
        Ok(Some(content))
    }

    /// Inflates all XML for the sake of the bounds: for a library that then does so without any.
    pub(super) fn vet(&mut self) -> Result<(), String> {
        for index in 0..self.archive.len() {
            let name = self.archive.name_for_index(index);
            let name = name.and_then(Result::ok).unwrap_or_default();
            let name = name.to_ascii_lowercase();
            if name.ends_with(".xml") || name.ends_with(".rels") {
                self.inflate(index, &mut sink())?;
            }
        }
        Ok(())
    }

    /// Names of parts are compared without regard to case (ECMA-376 part 2, 6.3).
    fn index(&self, name: &str) -> Option<usize> {
        self.archive.index_for_name(name).or_else(|| {
            self.archive
                .file_names_raw()
                .position(|other| other.eq_ignore_ascii_case(name.as_bytes()))
        })
    }

    fn inflate(&mut self, index: usize, into: &mut impl Write) -> Result<(), String> {
        let left = self.left;
        let file = self.archive.by_index(index);
        let file = file.map_err(|error| broken(&error))?;
        let packed = file.compressed_size().max(1);
        let inflated = copy(&mut file.take(left.saturating_add(1)), into)
            .inspect_err(exhausted)
            .map_err(|error| broken(&ZipError::Io(error)))?;
        if inflated > left {
            let most = INFLATED >> 20;
            return Err(format!(
                "it inflates to more than {most} MiB, as ZIP bombs do; split or exclude it"
            ));
        }
        if inflated > LARGE && inflated / packed > RATIO {
            return Err(format!(
                "a part of it inflates to {} times its size, as ZIP bombs do; save it anew, or exclude it",
                inflated / packed
            ));
        }
        self.left -= inflated;
        Ok(())
    }
}

fn broken(error: &ZipError) -> String {
    match error {
        ZipError::UnsupportedArchive(reason) if *reason == ZipError::PASSWORD_REQUIRED => {
            LOCKED.to_owned()
        }
        ZipError::InvalidPassword => LOCKED.to_owned(),
        error => format!("{} {error}; save it anew, or exclude it", xml::DAMAGED),
    }
}

/// The part that `target` names, seen from a folder.
fn resolve(folder: &str, target: &str) -> String {
    let (start, target) = match target.strip_prefix('/') {
        Some(absolute) => ("", absolute),
        None => (folder, target),
    };
    let mut path: Vec<&str> = start.split('/').filter(|step| !step.is_empty()).collect();
    for step in target.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(path.pop()),
            step => path.push(step),
        }
    }
    path.join("/")
}

#[cfg(test)]
mod tests {
    use loci_testbed::documents::archive;

    use super::*;

    #[test]
    fn targets_are_seen_from_their_folder() {
        for (folder, target, part) in [
            ("ppt", "slides/slide1.xml", "ppt/slides/slide1.xml"),
            ("ppt/slides", "../notes/n.xml", "ppt/notes/n.xml"),
            ("ppt", "/word/./document.xml", "word/document.xml"),
            ("", "../../x.xml", "x.xml"),
        ] {
            assert_eq!(resolve(folder, target), part);
        }
    }

    #[test]
    fn all_that_is_inflated_is_counted() {
        let parts = ["a.xml", "b.xml", "c.png"].map(|name| (name.to_owned(), vec![b'x'; 100]));
        let bytes = archive(&parts).unwrap();
        let with = |left| {
            let mut package = Package::open(&bytes).unwrap();
            package.left = left;
            package
        };
        // Images are not read.
        assert_eq!(with(200).vet(), Ok(()));
        assert!(with(199).vet().unwrap_err().contains("ZIP bombs"));
        let mut package = with(150);
        assert_eq!(package.part("A.XML").unwrap().unwrap().len(), 100);
        assert!(package.part("b.xml").unwrap_err().contains("ZIP bombs"));
        assert_eq!(package.part("none.xml"), Ok(None));
    }

    #[test]
    fn a_part_that_inflates_beyond_measure_is_a_bomb() {
        let size = LARGE as usize + 1;
        let bytes = archive(&[("a.xml".to_owned(), vec![b' '; size])]).unwrap();
        let error = Package::open(&bytes).unwrap().part("a.xml").unwrap_err();
        assert!(error.contains("times its size"), "{error}");
    }
}
