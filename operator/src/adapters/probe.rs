//! Whether an adapter is what it should be, before it is loaded and by its answers afterwards.

use anyhow::{Result, ensure};
use loci_models::Probe;
use loci_worker::step::AdapterManifest;

use crate::fleet::WantedAdapter;

/// The file that binds an adapter to its base; its digest is the adapter's own.
const BINDING: &str = "loci.json";

/// Sees that a manifest is that of the adapter that a release names, and that vLLM can load it.
pub fn fits(manifest: &AdapterManifest, wanted: &WantedAdapter, most: Option<usize>) -> Result<()> {
    let (own, named) = (manifest.content, wanted.adapter);
    ensure!(
        own == named,
        "manifest {} is of the adapter {own}, and the release names {named}: judge the adapter anew",
        wanted.manifest
    );
    let binding = manifest.tree.get(BINDING).map(|file| file.digest);
    ensure!(
        binding == Some(own),
        "its file {BINDING} is not that of {own}, so that nothing says which base it belongs to: train it anew"
    );
    ensure!(
        !manifest.probes.is_empty(),
        "nothing was recorded of it by which to tell that it is whole: train it anew"
    );
    if let Some(most) = most {
        let rank = manifest.lora.rank;
        ensure!(
            rank <= most,
            "its rank is {rank}, and this vLLM loads up to {most}: start it and `loci adapters` with a larger --max-lora-rank"
        );
    }
    Ok(())
}

/// A fixed prompt and the answer to it, as vLLM's tokenizer has them.
pub struct Asked {
    pub prompt: Vec<u32>,
    pub answer: Vec<u32>,
}

/// What an adapter and its base, each by vLLM, say of the fixed answers: the logarithm of the probability of each token.
#[derive(Default)]
pub struct Said {
    pub adapter: Vec<Vec<f64>>,
    pub base: Vec<Vec<f64>>,
}

/// How far answers are from what was recorded of them: of each the difference of its logarithms by the number of its
/// tokens, in nats; the largest.
pub fn distance(recorded: &[Probe], said: &[Vec<f64>]) -> f64 {
    let of = |(probe, said): (&Probe, &Vec<f64>)| {
        let apart = (probe.log_probability - said.iter().sum::<f64>()).abs();
        apart / said.len().max(1) as f64
    };
    // What is no number is the largest.
    let larger = |a: f64, b: f64| if b <= a { a } else { b };
    recorded.iter().zip(said).map(of).fold(0.0, larger)
}

/// Refuses an adapter that does not say what it said when it was trained; otherwise the distances of its answers and of
/// its base's.
pub fn check(manifest: &AdapterManifest, said: &Said, tolerance: f64) -> Result<(f64, f64)> {
    ensure!(
        said.adapter != said.base,
        "vLLM answers by its name as its base does without adapter: it does not apply it"
    );
    let own = distance(&manifest.probes, &said.adapter);
    let base = distance(&manifest.probes, &said.base);
    ensure!(
        own <= tolerance,
        "its answers to fixed prompts are {own:.4} nats a token from those recorded when it was trained, and {tolerance} are allowed: vLLM serves other weights than {} has, or rounds more than --tolerance allows for",
        manifest.base
    );
    Ok((own, base))
}

#[cfg(test)]
mod tests {
    use super::super::made::{manifest, wanted};
    use super::*;

    #[test]
    fn an_adapter_that_is_not_the_releases_is_refused_before_it_is_loaded() {
        let (whole, named) = (manifest("-0.5"), wanted(&manifest("-0.5")));
        fits(&whole, &named, Some(8)).unwrap();
        fits(&whole, &named, None).unwrap();
        let refused = |manifest: &AdapterManifest, most| {
            fits(manifest, &named, most).unwrap_err().to_string()
        };
        let told = refused(&whole, Some(7));
        assert!(
            told.contains("rank is 8") && told.contains("up to 7"),
            "{told}"
        );
        assert!(refused(&manifest("-0.6"), None).contains("the release names"));
        let mut other = whole.clone();
        other.tree.remove(BINDING);
        assert!(refused(&other, None).contains("loci.json"));
        let mut silent = whole.clone();
        silent.probes.clear();
        assert!(refused(&silent, None).contains("nothing was recorded"));
    }

    #[test]
    fn answers_are_compared_by_the_token() {
        let manifest = manifest("-0.5");
        let say = |value: f64| vec![vec![value; 2]; manifest.probes.len()];
        let told = |adapter: f64, base: f64| {
            let said = Said {
                adapter: say(adapter),
                base: say(base),
            };
            check(&manifest, &said, 0.1)
        };
        let (own, base) = told(-0.55, -1.0).unwrap();
        assert!((own - 0.05).abs() < 1e-9 && (base - 0.5).abs() < 1e-9);
        assert!(
            told(-0.7, -1.0)
                .unwrap_err()
                .to_string()
                .contains("0.2000 nats")
        );
        assert!(told(f64::NAN, -1.0).is_err());
        assert!(
            told(-0.5, -0.5)
                .unwrap_err()
                .to_string()
                .contains("not apply")
        );
        // One bad answer among good ones counts.
        let mut said = Said {
            adapter: say(-0.5),
            base: say(-1.0),
        };
        said.adapter[1] = vec![-0.3, -0.3];
        assert!((distance(&manifest.probes, &said.adapter) - 0.2).abs() < 1e-6);
        assert!(check(&manifest, &said, 0.1).is_err());
    }
}
