//! How a ticket is put to the model.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::data::{Case, Chat, Section, answer, turn};
use crate::draws::Draws;

/// As the suite has it.
pub fn plain(case: &Case) -> Chat {
    vec![turn("system", &case.system), turn("user", &case.prompt)]
}

/// With the whole protocol in the system message.
pub fn with_protocol(case: &Case, protocol: &str) -> Chat {
    let system = format!("{}\n\n{protocol}", case.system);
    vec![turn("system", system), turn("user", &case.prompt)]
}

/// After examples, each as a ticket that was answered.
pub fn with_examples(case: &Case, shown: &[&Chat]) -> Chat {
    let mut chat = vec![turn("system", &case.system)];
    let answered = shown.iter().flat_map(|example| example.iter());
    chat.extend(answered.filter(|turn| turn.role != "system").cloned());
    chat.push(turn("user", &case.prompt));
    chat
}

/// With sections of the runbook before the ticket.
pub fn with_sections(case: &Case, sections: &[&Section]) -> Chat {
    let quoted: Vec<String> = sections
        .iter()
        .map(|section| format!("## {}\n\n{}\n\n", section.heading, section.text))
        .collect();
    let content = format!(
        "From the runbook:\n\n{}The ticket:\n\n{}",
        quoted.concat(),
        case.prompt
    );
    vec![turn("system", &case.system), turn("user", content)]
}

/// Chooses `count` examples at random, but so that they show as many severities and teams as so many can.
pub fn chosen<'a>(examples: &'a [Chat], count: usize, draws: &mut Draws) -> Vec<&'a Chat> {
    let mut left: Vec<&Chat> = examples.iter().collect();
    draws.shuffle(&mut left);
    let (mut taken, mut seen) = (Vec::new(), BTreeSet::new());
    while taken.len() < count && !left.is_empty() {
        let news = |example: &Chat| parts(example).filter(|part| !seen.contains(*part)).count();
        let place = (0..left.len()).min_by_key(|at| Reverse(news(left[*at])));
        let example = left.remove(place.unwrap_or(0));
        seen.extend(parts(example));
        taken.push(example);
    }
    draws.shuffle(&mut taken);
    taken
}

/// The severity and the team of an answer.
fn parts(example: &Chat) -> impl Iterator<Item = &str> {
    answer(example).split_whitespace().take(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::story;

    fn said(chat: &Chat) -> Vec<(&str, &str)> {
        let turns = chat.iter();
        turns
            .map(|t| (t.role.as_str(), t.content.as_str()))
            .collect()
    }

    fn case() -> Case {
        Case {
            id: "c1".into(),
            system: "S".into(),
            prompt: "T".into(),
            expected: "L".into(),
        }
    }

    #[test]
    fn controls_differ_in_what_stands_around_the_ticket() {
        assert_eq!(said(&plain(&case())), [("system", "S"), ("user", "T")]);
        assert_eq!(
            said(&with_protocol(&case(), "P")),
            [("system", "S\n\nP"), ("user", "T")]
        );
        let example = vec![
            turn("system", "S"),
            turn("user", "U"),
            turn("assistant", "A"),
        ];
        assert_eq!(
            said(&with_examples(&case(), &[&example])),
            [
                ("system", "S"),
                ("user", "U"),
                ("assistant", "A"),
                ("user", "T")
            ]
        );
        let section = Section {
            heading: "H".into(),
            text: "B".into(),
        };
        assert_eq!(
            said(&with_sections(&case(), &[&section])),
            [
                ("system", "S"),
                ("user", "From the runbook:\n\n## H\n\nB\n\nThe ticket:\n\nT")
            ]
        );
    }

    #[test]
    fn five_examples_show_every_team_and_every_severity() {
        let examples = story().examples;
        let mut all = BTreeSet::new();
        for seed in 0..20 {
            let shown = chosen(&examples, 5, &mut Draws::new(seed));
            let seen: BTreeSet<&str> = shown.iter().flat_map(|e| parts(e)).collect();
            assert_eq!((shown.len(), seen.len()), (5, 9), "{seen:?}");
            let again = chosen(&examples, 5, &mut Draws::new(seed));
            assert_eq!(shown, again);
            all.extend(shown.iter().map(|e| e[1].content.as_str()));
        }
        assert!(all.len() > 50, "{}", all.len());
        assert_eq!(chosen(&examples[..3], 5, &mut Draws::new(1)).len(), 3);
    }
}
