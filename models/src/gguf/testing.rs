//! Writes GGUF files by hand.

/// A value of the metadata.
#[derive(Clone, Copy)]
pub(crate) enum Item<'a> {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(&'a str),
    Texts(&'a [&'a str]),
    I32s(&'a [i32]),
}

pub(crate) struct Writer {
    version: u32,
    metadata: Vec<u8>,
    entries: u64,
    infos: Vec<u8>,
    tensors: u64,
    data: Vec<u8>,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Writer {
    pub fn new(version: u32) -> Self {
        Self {
            version,
            metadata: Vec::new(),
            entries: 0,
            infos: Vec::new(),
            tensors: 0,
            data: Vec::new(),
        }
    }

    pub fn meta(&mut self, key: &str, item: Item<'_>) -> &mut Self {
        let out = &mut self.metadata;
        text(out, key);
        let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
        let list = |out: &mut Vec<u8>, of: u32, count: usize| {
            out.extend(9u32.to_le_bytes());
            out.extend(of.to_le_bytes());
            out.extend((count as u64).to_le_bytes());
        };
        match item {
            Item::U32(value) => {
                kind(out, 4);
                out.extend(value.to_le_bytes());
            }
            Item::F32(value) => {
                kind(out, 6);
                out.extend(value.to_le_bytes());
            }
            Item::Bool(value) => {
                kind(out, 7);
                out.push(value.into());
            }
            Item::Text(value) => {
                kind(out, 8);
                text(out, value);
            }
            Item::Texts(values) => {
                list(out, 8, values.len());
                values.iter().for_each(|value| text(out, value));
            }
            Item::I32s(values) => {
                list(out, 5, values.len());
                values
                    .iter()
                    .for_each(|value| out.extend(value.to_le_bytes()));
            }
        }
        self.entries += 1;
        self
    }

    /// A tensor whose dimensions are given as GGUF has them, the rows' length first.
    pub fn tensor(&mut self, name: &str, sides: &[u64], kind: u32, bytes: &[u8]) -> &mut Self {
        text(&mut self.infos, name);
        self.infos.extend((sides.len() as u32).to_le_bytes());
        sides
            .iter()
            .for_each(|side| self.infos.extend(side.to_le_bytes()));
        self.infos.extend(kind.to_le_bytes());
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.infos.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes);
        self.tensors += 1;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensors.to_le_bytes());
        out.extend(self.entries.to_le_bytes());
        out.extend(&self.metadata);
        out.extend(&self.infos);
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&self.data);
        out
    }
}
