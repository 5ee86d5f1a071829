/// A PDF as it is put together: its objects by number, from 1. Object 1 is the catalog, 2 the root of the page tree, 3 a
/// font (Helvetica).
pub struct Pdf {
    objects: Vec<Vec<u8>>,
    trailer: String,
}

/// A PDF with a page for each text; blank lines part paragraphs.
pub fn pdf(pages: &[&str]) -> Vec<u8> {
    let mut pdf = Pdf::new();
    let kids: Vec<usize> = pages.iter().map(|text| pdf.page(text)).collect();
    pdf.kids(&kids);
    pdf.bytes()
}

impl Default for Pdf {
    fn default() -> Self {
        Self::new()
    }
}

impl Pdf {
    /// One without pages.
    pub fn new() -> Self {
        let font =
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>";
        let mut pdf = Self {
            objects: Vec::new(),
            trailer: String::new(),
        };
        pdf.object("<< /Type /Catalog /Pages 2 0 R >>");
        pdf.object("<< /Type /Pages /Count 0 /Kids [] >>");
        pdf.object(font);
        pdf
    }

    /// Adds an object and gives its number.
    pub fn object(&mut self, content: &str) -> usize {
        self.objects.push(content.as_bytes().to_vec());
        self.objects.len()
    }

    /// Puts another object in the place of one.
    pub fn replace(&mut self, number: usize, content: &str) {
        self.objects[number - 1] = content.as_bytes().to_vec();
    }

    /// Adds a stream whose dictionary also has `entries`.
    pub fn stream(&mut self, entries: &str, content: &[u8]) -> usize {
        let mut object =
            format!("<< /Length {} {entries} >>\nstream\n", content.len()).into_bytes();
        object.extend(content);
        object.extend(b"\nendstream");
        self.objects.push(object);
        self.objects.len()
    }

    /// Adds a page that shows `text`.
    pub fn page(&mut self, text: &str) -> usize {
        let mut content = "BT /F1 12 Tf 72 720 Td\n".to_owned();
        for line in text.lines() {
            let escaped = line
                .replace('\\', "\\\\")
                .replace('(', "\\(")
                .replace(')', "\\)");
            if !line.is_empty() {
                content.push_str(&format!("({escaped}) Tj\n"));
            }
            content.push_str("0 -14 Td\n");
        }
        content.push_str("ET\n");
        self.showing(&content)
    }

    /// Adds a page of such content.
    pub fn showing(&mut self, content: &str) -> usize {
        let content = self.stream("", content.as_bytes());
        self.object(&format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R \
             /Resources << /Font << /F1 3 0 R >> >> >>"
        ))
    }

    /// Makes these objects the children of the root of the page tree.
    pub fn kids(&mut self, kids: &[usize]) {
        let list: Vec<String> = kids.iter().map(|kid| format!("{kid} 0 R")).collect();
        let (count, list) = (kids.len(), list.join(" "));
        self.replace(
            2,
            &format!("<< /Type /Pages /Count {count} /Kids [{list}] >>"),
        );
    }

    /// Adds an entry to the trailer.
    pub fn trailer(&mut self, entry: &str) {
        self.trailer.push_str(entry);
        self.trailer.push(' ');
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
        let mut offsets = Vec::new();
        for (number, object) in (1..).zip(&self.objects) {
            offsets.push(bytes.len());
            bytes.extend(format!("{number} 0 obj\n").into_bytes());
            bytes.extend(object);
            bytes.extend(b"\nendobj\n");
        }
        let start = bytes.len();
        let size = offsets.len() + 1;
        let mut table = format!("xref\n0 {size}\n0000000000 65535 f \n");
        for offset in offsets {
            table.push_str(&format!("{offset:010} 00000 n \n"));
        }
        let id = "<00112233445566778899aabbccddeeff>";
        table.push_str(&format!(
            "trailer\n<< /Size {size} /Root 1 0 R /ID [{id} {id}] {}>>\nstartxref\n{start}\n%%EOF\n",
            self.trailer
        ));
        bytes.extend(table.into_bytes());
        bytes
    }
}
