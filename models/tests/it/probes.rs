//! Probes of adapters: recorded, kept as JSON, asked again.

use loci_models::{Adapter, ModelError, Probe};

use crate::decoder::load;
use crate::lora::{TINY, message, trained, written};
use crate::reference;

fn recorded(adapter: Option<&Adapter>) -> Probe {
    let prompt = TINY.render(&[message("user", "Is 9 even?")], true).unwrap();
    Probe::record(&TINY, adapter, prompt, "No, not it.".to_owned()).unwrap()
}

#[test]
fn a_probe_knows_its_adapter_again() {
    let (one, two) = (trained(&["q_proj"], 1), trained(&["q_proj", "up_proj"], 2));
    let probe = recorded(Some(&one));
    assert!(probe.log_probability < -1.0, "{probe:?}");
    let json = serde_json::to_string(&probe).unwrap();
    assert!(json.contains("\"logProbability\":-"), "{json}");
    let probe: Probe = serde_json::from_str(&json).unwrap();
    let dir = written(&one);
    let back = Adapter::read(dir.path(), &TINY).unwrap();
    probe.check(&TINY, Some(&back)).unwrap();
    for other in [None, Some(&two)] {
        let refusal = probe.check(&TINY, other).unwrap_err();
        assert!(matches!(refusal, ModelError::Probe { .. }), "{refusal}");
        let message = refusal.to_string();
        assert!(message.contains("\"No, not it.\""), "{message}");
    }
    recorded(None).check(&TINY, None).unwrap();
}

#[test]
fn other_weights_and_other_numbers_are_found_out() {
    let probe = recorded(None);
    let other = load(&reference("decoder/llama3"));
    assert!(probe.check(&other, None).is_err());
    let tokens = TINY.tokenizer().encode_bare(&probe.completion).unwrap();
    let off = |by: f64| Probe {
        log_probability: probe.log_probability + by * tokens.len() as f64,
        ..probe.clone()
    };
    off(5e-5).check(&TINY, None).unwrap();
    for by in [2e-4, -2e-4, f64::NAN] {
        assert!(off(by).check(&TINY, None).is_err(), "{by}");
    }
    let none = Probe::record(&TINY, None, "a".to_owned(), String::new());
    let message = none.unwrap_err().to_string();
    assert!(message.contains("completion of no tokens"), "{message}");
}
