//! Files that cannot be read.

use std::fs;
use std::path::{Path, PathBuf};

use loci_manifest::load;
use tempfile::TempDir;

use crate::{GOOD, rendered};

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What is wrong with the files, without the directory's name.
    fn bad(&self, paths: &[PathBuf]) -> Vec<String> {
        let directory = format!("{}/", self.0.path().display());
        let problems = load(paths).expect_err("a file is bad");
        let all = rendered(&problems);
        all.iter().map(|p| p.replace(&directory, "")).collect()
    }
}

#[test]
fn files_are_read_together() {
    let files = Files::new();
    let (pipeline, rest) = GOOD.split_once("--- # a comment\n").unwrap();
    let paths = [
        files.write("a.yaml", pipeline),
        files.write("b.yaml", format!("\u{feff}{rest}")),
    ];
    let manifests = load(&paths).unwrap();
    assert_eq!(manifests.pipelines[0].file(), paths[0]);
    assert_eq!(manifests.pipelines[0].directory(), files.0.path());
    assert_eq!(manifests.config_maps[0].file(), paths[1]);
}

#[test]
fn one_object_in_two_files_names_both() {
    let files = Files::new();
    let config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let paths = [
        files.write("a.yaml", config_map),
        files.write("b.yaml", config_map),
    ];
    let directory = files.0.path().display();
    let problems = load(&paths).unwrap_err();
    assert_eq!(
        rendered(&problems),
        [format!(
            "{directory}/b.yaml:3:18: metadata.name: ConfigMap default/a is declared twice; \
             it stands at {directory}/a.yaml:3:18 already: keep one of them"
        )]
    );
}

#[test]
fn what_is_no_manifest_file_is_refused_with_the_way_out() {
    let files = Files::new();
    let directory = files.0.path().join("folder");
    fs::create_dir(&directory).unwrap();
    let paths = [
        files.0.path().join("absent.yaml"),
        directory,
        files.write("latin.yaml", b"kind: ConfigMap\nname: K\xf6ln\n"),
        files.write("large.yaml", vec![b'#'; 3 * 1024 * 1024 + 1]),
        Path::new("/dev/null").to_owned(),
        Path::new("-").to_owned(),
    ];
    assert_eq!(
        files.bad(&paths),
        [
            "absent.yaml: cannot be read: No such file or directory (os error 2); name a YAML file that exists and is readable",
            "folder: a directory; name the YAML files in it",
            "latin.yaml:2:8: not UTF-8; save the file as UTF-8",
            "large.yaml: larger than 3 MiB; no cluster takes an object of that size: let a source read the documents (directory, git, http)",
            "/dev/null: not a regular file; name a YAML file",
            "-: standard input is not read; name a file",
        ]
    );
}

#[test]
fn an_object_that_no_cluster_takes_is_refused() {
    let files = Files::new();
    let text = "x".repeat(1024 * 1024 + 1);
    let config_map =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{a: {text}}}\n");
    let path = files.write("a.yaml", config_map);
    assert_eq!(
        files.bad(&[path]),
        [
            "a.yaml:4:1: data: 1048577 bytes of values; a cluster takes 1 MiB in one object: use several, or another source"
        ]
    );
}
