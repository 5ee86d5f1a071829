//! What was measured already, in a folder: what takes hours can be broken off, and goes on where it was.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use loci_digest::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::data::Story;
use crate::options::{Arm, Options};

/// The file that says of what the folder's measurements are.
const SETTINGS: &str = "settings.json";

/// A folder with a file for each measurement; or none, and everything is measured anew.
#[derive(Debug)]
pub struct Kept(Option<PathBuf>);

impl Kept {
    /// Opens or makes the folder of `--keep`. One with other settings, another model or other data is refused: which seeds
    /// and arms are wanted does not matter, since each of them has its own file.
    pub fn open(options: &Options, weights: &Digest, story: &Story) -> Result<Self> {
        let Some(dir) = &options.keep else {
            return Ok(Self(None));
        };
        fs::create_dir_all(dir).with_context(|| format!("--keep {}", dir.display()))?;
        let path = dir.join(SETTINGS);
        let own = settings(options, weights, story)?;
        // As text: a number need not be read as it was written.
        match read(&path)? {
            Some(other) => ensure!(
                other == own,
                "--keep {}: what was measured there had other settings, another model or other data; name another folder\n\
                 there: {other}\n  now: {own}",
                dir.display()
            ),
            None => write(&path, own.as_bytes())?,
        }
        Ok(Self(Some(dir.clone())))
    }

    /// What was measured under this name, or what is measured now.
    pub fn or<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        measure: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(dir) = &self.0 else {
            return measure();
        };
        let path = dir.join(format!("{}.json", name.replace(' ', "-")));
        if let Some(text) = read(&path)? {
            eprintln!("{name}: from {}", path.display());
            let found = serde_json::from_str(&text);
            return found
                .with_context(|| format!("{}: delete it to measure it anew", path.display()));
        }
        let measured = measure()?;
        write(&path, &serde_json::to_vec(&measured)?)?;
        Ok(measured)
    }
}

/// All that decides what is measured.
fn settings(options: &Options, weights: &Digest, story: &Story) -> Result<String> {
    let settings = json!({
        "weights": weights,
        "examples": Digest::of_json(&story.examples)?,
        "protocol": Digest::of(&story.protocol),
        "cases": Digest::of_json(&story.cases)?,
        "lora": options.lora(),
        "training": [options.training(Arm::Adapter, 0), options.training(Arm::Aggressive, 0)],
        "shots": options.shots,
        "sections": options.sections,
        "maxTokens": options.max_tokens,
        "arithmetic": options.arithmetic,
    });
    Ok(settings.to_string())
}

fn read(path: &Path) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(path);
    text.map(Some).with_context(|| path.display().to_string())
}

/// A file is there as a whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(dir).with_context(|| dir.display().to_string())?;
    file.write_all(bytes)
        .and_then(|()| file.persist(path).map_err(|e| e.error))
        .with_context(|| path.display().to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use clap::Parser;

    use super::*;

    fn kept(dir: &Path, more: &[&str]) -> Result<Kept> {
        let dir = dir.to_str().unwrap();
        let own = ["escalation", "--model", "m", "--keep", dir];
        let options = Options::try_parse_from(own.iter().chain(more)).unwrap();
        let story = Story {
            examples: Vec::new(),
            protocol: "Ask twice.".to_owned(),
            sections: Vec::new(),
            cases: Vec::new(),
        };
        Kept::open(&options, &Digest::of(b"weights"), &story)
    }

    #[test]
    fn what_was_measured_is_not_measured_again() {
        let dir = tempfile::tempdir().unwrap();
        let times = Cell::new(0);
        let measure = || {
            times.set(times.get() + 1);
            Ok(vec![0.1_f64, f64::from(times.get())])
        };
        let first = kept(dir.path(), &["--seeds", "1"]).unwrap();
        assert_eq!(first.or("adapter 1", measure).unwrap(), [0.1, 1.0]);
        let again = kept(dir.path(), &["--seeds", "1,2", "--arms", "base"]).unwrap();
        assert_eq!(again.or("adapter 1", measure).unwrap(), [0.1, 1.0]);
        assert_eq!(again.or("adapter 2", measure).unwrap(), [0.1, 2.0]);
        let failed = again.or::<u8>("base", || anyhow::bail!("no"));
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert_eq!(again.or("base", || Ok(3_u8)).unwrap(), 3);
        assert_eq!(Kept(None).or("adapter 1", measure).unwrap(), [0.1, 3.0]);
    }

    #[test]
    fn other_settings_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        kept(dir.path(), &[]).unwrap();
        for other in [["--epochs", "5"], ["--shots", "4"], ["--aggressive", "9"]] {
            let error = kept(dir.path(), &other).unwrap_err().to_string();
            assert!(error.contains("name another folder"), "{error}");
        }
        std::fs::write(dir.path().join("adapter-1.json"), "[0.").unwrap();
        let kept = kept(dir.path(), &[]).unwrap();
        let error = kept.or::<Vec<f64>>("adapter 1", || Ok(Vec::new()));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("adapter-1.json: delete it"), "{error}");
    }
}
