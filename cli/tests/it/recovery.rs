//! kill -9, damaged files, two owners.

use std::fs;
use std::time::Duration;

use crate::harness::{Site, best, loci, text};

#[test]
fn killed_at_any_point_it_goes_on_to_the_same_content() {
    let whole = Site::new();
    let mut up = whole.up();
    up.ready();
    up.stop();
    let expected = whole.json(&["releases"])[0]["spec"]["index"]["contentId"].clone();
    let site = Site::new();
    for milliseconds in [30, 80, 150, 250, 400, 600, 900, 1300, 1800] {
        let up = site.up();
        std::thread::sleep(Duration::from_millis(milliseconds));
        up.kill();
    }
    let mut up = site.up();
    let url = up.ready();
    assert_eq!(
        best(&url, "What does a lost key cost?").unwrap().0,
        "keys.md"
    );
    up.stop();
    let releases = site.json(&["releases"]);
    let releases = releases.as_array().unwrap();
    assert_eq!(releases.len(), 1, "one content, one release: {releases:?}");
    assert_eq!(releases[0]["spec"]["index"]["contentId"], expected);
    let done = site
        .json(&["runs"])
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["status"]["phase"] == "Succeeded")
        .count();
    assert!(done >= 1);
}

#[test]
fn after_a_restart_it_serves_at_once_what_it_served() {
    let site = Site::new();
    let mut up = site.up();
    up.ready();
    up.kill();
    fs::rename(site.path("docs"), site.path("docs.away")).unwrap();
    fs::create_dir(site.path("docs")).unwrap();
    let mut up = site.up();
    let url = up.ready();
    assert_eq!(
        best(&url, "What does a lost key cost?").unwrap().0,
        "keys.md",
        "an empty listing deletes nothing"
    );
    up.stop();
}

#[test]
fn two_of_them_cannot_share_a_state_directory() {
    let site = Site::new();
    let mut up = site.up();
    up.ready();
    let second = loci()
        .arg("up")
        .arg(site.path("pipeline.yaml"))
        .args(["--listen", "127.0.0.1:0", "--state"])
        .arg(site.path("state"))
        .output()
        .unwrap();
    let error = text(&second.stderr);
    assert!(!second.status.success());
    assert!(
        error.contains("in use by another") && error.contains(&up.pid().to_string()),
        "{error}"
    );
    up.stop();
}

#[test]
fn a_corrupt_blob_is_named_and_nothing_wrong_is_served() {
    let site = Site::new();
    let mut up = site.up();
    up.ready();
    up.stop();
    fs::remove_dir_all(site.path("state/revisions")).unwrap();
    let mut damaged = 0;
    let mut folders = vec![site.path("state/store/blobs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            let Some(last) = bytes.last_mut() else {
                continue;
            };
            *last ^= 0xff;
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 5);
    let mut up = site.up();
    up.until("the damage is reported", |_| {
        site.log().contains("cannot be loaded").then_some(())
    });
    let log = site.log();
    assert!(log.contains("sha256") || log.contains("digest"), "{log}");
    up.stop();
}

#[test]
fn what_serves_goes_on_when_the_disk_is_full_and_the_run_when_it_is_not() {
    let site = Site::new();
    let Some(mut up) = site.up_on_small_disk(16 << 20) else {
        eprintln!("skipped: this system lets no test mount a disk of its own");
        return;
    };
    let url = up.ready();
    site.write("docs/huge.md", &"All work and no play. ".repeat(1_000_000));
    up.until("the disk is full", |_| {
        let told = "Snapshot  failed: source \"docs\": its content could not be stored";
        let log = site.log();
        (log.contains(told) && log.contains("No space left on device")).then_some(())
    });
    assert_eq!(
        best(&url, "When does the workshop open?").unwrap().0,
        "hours.md"
    );

    std::fs::remove_file(site.path("docs/huge.md")).unwrap();
    site.write(
        "docs/hours.md",
        "# Opening hours\n\nThe workshop opens at seven.\n",
    );
    up.until("the new hours are served", |_| {
        best(&url, "When does the workshop open?").filter(|(_, text)| text.contains("seven"))
    });
    assert_eq!(site.serving(), Some(2));
}
