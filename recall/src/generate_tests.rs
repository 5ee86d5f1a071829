//! Who gets a place, and who loses it.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use loci_models::{DeviceRequest, Finish, Prompt};

use super::*;

/// A decoder of random weights that ends no text.
static DECODER: LazyLock<Arc<Decoder>> = LazyLock::new(|| {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let tiny = Path::new(&here).join("../models/tests/reference/decoder/tiny");
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(tiny).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    let no_end = dir.path().join("generation_config.json");
    fs::write(no_end, "{\"eos_token_id\": []}").unwrap();
    let config = dir.path().join("config.json");
    let mut shape: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    shape["max_position_embeddings"] = 1_000_000.into();
    fs::write(config, shape.to_string()).unwrap();
    Arc::new(Decoder::load(dir.path(), DeviceRequest::Cpu).unwrap())
});

/// Tells how many are held.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn one(count: &Arc<AtomicUsize>) -> Box<Self> {
        count.fetch_add(1, Ordering::SeqCst);
        Box::new(Self(count.clone()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn generator(seats: usize, queue: usize) -> Generator {
    Generator::start(DECODER.clone(), BulkGate::default(), seats, queue).unwrap()
}

fn task(max_tokens: usize, within: Duration, held: Box<dyn Any + Send>) -> Task {
    Task {
        prompt: vec![5, 6, 7],
        options: Generation {
            max_tokens,
            ..Generation::default()
        },
        adapter: None,
        deadline: Instant::now() + within,
        held,
    }
}

const LONG: Duration = Duration::from_secs(600);
const ENDLESS: usize = 500_000;

async fn tokens(mut written: UnboundedReceiver<Written>) -> Vec<Token> {
    let mut tokens = Vec::new();
    while let Some(token) = written.recv().await {
        tokens.push(token.unwrap());
    }
    tokens
}

/// Waits until so many places can be had, and gives them.
async fn places(generator: &Generator, count: u32) -> OwnedSemaphorePermit {
    let places = generator.places.clone();
    let all = tokio::time::timeout(LONG, places.acquire_many_owned(count));
    all.await.expect("places become free").unwrap()
}

#[tokio::test]
async fn answers_together_are_those_of_the_decoder() {
    let generator = generator(2, 3);
    let count = Arc::new(AtomicUsize::new(0));
    let mut answers = Vec::new();
    for length in [3, 30, 12, 1, 7] {
        let place = generator.enter().unwrap();
        answers.push((
            length,
            generator.begin(place, task(length, LONG, Held::one(&count))),
        ));
    }
    for (length, written) in answers {
        let options = task(length, LONG, Box::new(())).options;
        let prompt = Prompt {
            tokens: &[5, 6, 7],
            options: &options,
            adapter: None,
        };
        let alone = DECODER
            .generate(&[prompt], &mut |_| ControlFlow::Continue(()))
            .unwrap()
            .remove(0);
        let tokens = tokens(written).await;
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        assert_eq!(ids, alone.tokens);
        let text: String = tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(text, alone.text);
        assert_eq!(tokens.last().unwrap().finish, Some(Finish::Length));
    }
    drop(places(&generator, 5).await);
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn who_goes_away_frees_the_place_whether_seated_or_waiting() {
    let generator = generator(1, 2);
    let count = Arc::new(AtomicUsize::new(0));
    let begin = |max_tokens: usize| {
        let place = generator.enter().unwrap();
        generator.begin(place, task(max_tokens, LONG, Held::one(&count)))
    };
    let (mut seated, waiting, last) = (begin(ENDLESS), begin(ENDLESS), begin(3));
    assert!(generator.enter().is_none());
    seated.recv().await.unwrap().unwrap();
    // The one that waits goes first: its place is free while the other is still written.
    drop(waiting);
    let freed = places(&generator, 1).await;
    assert!(seated.recv().await.unwrap().is_ok());
    drop((freed, seated));
    assert_eq!(tokens(last).await.len(), 3);
    drop(places(&generator, 3).await);
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_takes_too_long_is_given_up() {
    let generator = generator(1, 1);
    let begin = |within: Duration| {
        let place = generator.enter().unwrap();
        generator.begin(place, task(ENDLESS, within, Box::new(())))
    };
    let mut seated = begin(Duration::from_millis(300));
    let mut waiting = begin(Duration::from_millis(100));
    assert_eq!(waiting.recv().await, Some(Err(GenerateError::Overdue)));
    assert_eq!(waiting.recv().await, None);
    let mut written = 0;
    let end = loop {
        match seated.recv().await.unwrap() {
            Ok(_) => written += 1,
            Err(end) => break end,
        }
    };
    assert_eq!(end, GenerateError::Overdue);
    assert!(written > 0);
    drop(places(&generator, 2).await);
}

#[tokio::test]
async fn what_cannot_be_written_costs_nobody_else() {
    let generator = generator(2, 2);
    let place = generator.enter().unwrap();
    let wrong = Task {
        prompt: vec![1 << 20],
        ..task(3, LONG, Box::new(()))
    };
    let mut wrong = generator.begin(place, wrong);
    let right = generator.begin(generator.enter().unwrap(), task(4, LONG, Box::new(())));
    let refusal = wrong.recv().await.unwrap();
    assert!(
        matches!(&refusal, Err(GenerateError::Failed(reason)) if reason.contains("vocabulary")),
        "{refusal:?}"
    );
    assert_eq!(tokens(right).await.len(), 4);
    // Without its owner the thread still writes what it has.
    let place = generator.enter().unwrap();
    let last = generator.begin(place, task(5, LONG, Box::new(())));
    drop(generator);
    assert_eq!(tokens(last).await.len(), 5);
}
