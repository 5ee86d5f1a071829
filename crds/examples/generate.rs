//! Writes the CustomResourceDefinitions to `crds/yaml`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    std::fs::create_dir_all(&dir)?;
    for (name, crd) in loci_crds::definitions() {
        std::fs::write(dir.join(name), serde_saphyr::to_string(&crd)?)?;
    }
    Ok(())
}
