//! What outlives the files of a pipeline, and what does not.

use std::fs;

use crate::harness::{Site, best};

#[test]
fn without_its_files_a_pipeline_serves_what_the_store_knows_and_builds_nothing() {
    let site = Site::new();
    let mut up = site.up();
    up.ready();
    up.stop();
    fs::remove_dir_all(site.path("state/pipelines")).unwrap();
    let mut up = site.up();
    let url = up.ready();
    assert_eq!(
        best(&url, "When does the workshop open?").unwrap().0,
        "hours.md"
    );
    assert_eq!(site.serving(), Some(1));
    assert_eq!(site.json(&["runs"]).as_array().unwrap().len(), 0);
    up.stop();
}

#[test]
fn what_is_not_declared_any_more_goes_or_stays_as_its_policy_says() {
    let site = Site::new();
    let names = |policy: &str, name: &str| {
        let manifest = site.manifest(&format!("  deletionPolicy: {policy}\n"));
        manifest.replace("{name: shop}", &format!("{{name: {name}}}"))
    };
    let both = [names("Delete", "goes"), names("Retain", "stays")];
    site.write("pipeline.yaml", &both.join("---\n"));
    let mut up = site.up();
    up.ready();
    let record = |name: &str| site.path(&format!("state/store/documents/default/{name}.json"));
    let serves = |name: &str| {
        let record = fs::read_to_string(record(name)).ok()?;
        record.contains("\"desired\"").then_some(())
    };
    up.until("both serve", |_| serves("goes").and(serves("stays")));
    up.stop();

    site.write("pipeline.yaml", &site.manifest(""));
    let mut up = site.up_with(&["--deletion-grace", "1s"]);
    up.until("one is gone", |_| (!record("goes").exists()).then_some(()));
    up.until("its files, too", |_| {
        (!site.path("state/pipelines/default/goes").exists()).then_some(())
    });
    assert!(record("stays").exists() && site.path("state/pipelines/default/stays").exists());
    up.ready();
    up.stop();
}
