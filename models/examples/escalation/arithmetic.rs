//! The guard: sums of one and two digits, each with four equations to choose from, of which the model should find the right
//! one the likeliest (it is at chance where the number stands alone). What an adapter makes it forget shows here.

use std::collections::HashSet;

use indicatif::ProgressBar;
use loci_models::{Adapter, Continuation, Decoder, ModelError};

use crate::data::turn;
use crate::draws::Draws;

/// The share that is right by chance.
pub const CHANCE: f64 = 0.25;

/// Items that are asked together.
const TOGETHER: usize = 64;

/// How far off the wrong choices may be.
const NEAR: [i64; 8] = [-10, -3, -2, -1, 1, 2, 3, 10];

/// One sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What is asked.
    pub question: String,
    /// Equations, whose results have as many digits.
    pub choices: Vec<String>,
    /// Which of them is right.
    pub answer: usize,
}

/// `count` different sums. There are some 16,000; ask for far fewer.
pub fn items(count: usize, seed: u64) -> Vec<Item> {
    let mut draws = Draws::new(seed);
    let (mut seen, mut items) = (HashSet::new(), Vec::with_capacity(count));
    while items.len() < count {
        let (sum, result) = sum(&mut draws);
        if seen.insert(sum.clone()) {
            items.push(item(&sum, result, &mut draws));
        }
    }
    items
}

fn sum(draws: &mut Draws) -> (String, i64) {
    let kind = draws.below(7);
    let (first, second) = match kind {
        0 | 1 => (draws.between(1, 9), draws.between(1, 9)),
        2 => (draws.between(2, 9), draws.between(2, 9)),
        3 | 4 => (draws.between(10, 99), draws.between(2, 9)),
        _ => (draws.between(10, 99), draws.between(10, 99)),
    };
    let (more, less) = (first.max(second), first.min(second));
    match kind {
        0 | 3 | 5 => (format!("{first} + {second}"), first + second),
        2 => (format!("{first} times {second}"), first * second),
        _ => (format!("{more} - {less}"), more - less),
    }
}

fn item(sum: &str, result: i64, draws: &mut Draws) -> Item {
    let digits = |number: i64| number.to_string().len();
    let near = NEAR.map(|far| result + far);
    let alike = |number: &i64| *number >= 0 && digits(*number) == digits(result);
    let mut choices: Vec<i64> = near.into_iter().filter(alike).collect();
    draws.shuffle(&mut choices);
    choices.truncate(3);
    let answer = draws.below(choices.len() + 1);
    choices.insert(answer, result);
    Item {
        question: format!("What is {sum}?"),
        choices: choices
            .iter()
            .map(|each| format!("{sum} = {each}"))
            .collect(),
        answer,
    }
}

/// Whether each item is answered right: by the choice that is the likeliest answer in a chat.
pub fn right(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    items: &[Item],
    bar: &ProgressBar,
) -> Result<Vec<bool>, ModelError> {
    let mut right = Vec::with_capacity(items.len());
    for together in items.chunks(TOGETHER) {
        let mut texts = Vec::with_capacity(together.len());
        for item in together {
            let prompt = decoder.chat_tokens(&[turn("user", &item.question)], true)?;
            let choices = item.choices.iter();
            let choices = choices.map(|choice| decoder.tokenizer().encode_bare(choice));
            texts.push((prompt, choices.collect::<Result<Vec<_>, _>>()?));
        }
        let continuations: Vec<Continuation<'_>> = texts
            .iter()
            .flat_map(|(prompt, choices)| {
                choices.iter().map(move |tokens| Continuation {
                    prompt,
                    tokens,
                    adapter,
                })
            })
            .collect();
        let likely = decoder.log_probabilities(&continuations)?;
        let mut rest = likely.iter().map(|each| each.iter().sum::<f32>());
        for item in together {
            let own: Vec<f32> = rest.by_ref().take(item.choices.len()).collect();
            right.push(likeliest(&own) == item.answer);
        }
        bar.inc(together.len() as u64);
    }
    Ok(right)
}

/// The place of the largest; of equals, the first.
fn likeliest(values: &[f32]) -> usize {
    let better = |best: usize, at: usize| if values[at] > values[best] { at } else { best };
    (0..values.len()).fold(0, better)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the question asks, computed anew.
    fn computed(question: &str) -> i64 {
        let sum = question.strip_prefix("What is ").unwrap();
        let (sum, _) = sum.split_once('?').unwrap();
        let parts: Vec<&str> = sum.split(' ').collect();
        let [first, sign, second] = parts[..] else {
            panic!("{sum}")
        };
        let (first, second): (i64, i64) = (first.parse().unwrap(), second.parse().unwrap());
        assert!((1..100).contains(&first) && (1..100).contains(&second));
        match sign {
            "+" => first + second,
            "-" => first - second,
            "times" => first * second,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn items_are_right_distinct_and_near() {
        let items = items(1000, 7);
        let questions: HashSet<&str> = items.iter().map(|i| i.question.as_str()).collect();
        assert_eq!(questions.len(), 1000);
        for item in &items {
            let result = computed(&item.question);
            let number = |choice: &String| choice.rsplit_once(" = ").unwrap().1.parse().unwrap();
            let choices: Vec<i64> = item.choices.iter().map(number).collect();
            let different: HashSet<&i64> = choices.iter().collect();
            assert_eq!((choices.len(), different.len()), (4, 4), "{item:?}");
            assert_eq!(choices[item.answer], result, "{item:?}");
            assert!(choices.iter().all(|c| (c - result).abs() <= 10), "{item:?}");
            let digits = item.choices[0].len();
            assert!(item.choices.iter().all(|c| c.len() == digits), "{item:?}");
        }
    }

    #[test]
    fn the_answer_stands_in_every_place_as_often_and_seeds_differ() {
        let drawn = items(1000, 1);
        for place in 0..4 {
            let count = drawn.iter().filter(|item| item.answer == place).count();
            assert!((200..300).contains(&count), "{place}: {count}");
        }
        assert_eq!(drawn, items(1000, 1));
        assert_ne!(drawn, items(1000, 2));
        assert_eq!(likeliest(&[-2.0, -1.0, -1.0, -3.0]), 1);
    }
}
