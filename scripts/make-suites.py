#!/usr/bin/env python3
"""Writes the behaviour suites that come with Loci, worker/suites/*.jsonl. With --check it compares them only.

The same lines with every Python from 3.8 on: the only source of chance is Random.random(), whose sequence is fixed.
"""
import json
import operator
import pathlib
import random
import re
import sys

from suite_words import (
    CAPITALS, FACTS, FALSE, GRAMMAR, KINDS, NAMED, NUMBERS, OPPOSITES, PLURALS, SENTENCES, TENSES, TRUE, WORDS,
)

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "worker" / "suites"
SEED = 20261127


class Draws:
    def __init__(self, seed):
        self.random = random.Random(seed).random

    def below(self, count):
        return int(self.random() * count)

    def pick(self, values):
        return values[self.below(len(values))]

    def some(self, values, count):
        """So many of the values, in a random order."""
        values = list(values)
        return [values.pop(self.below(len(values))) for _ in range(count)]

    def shuffled(self, values):
        return self.some(values, len(values))


class Suite:
    """Cases with their ids: a part, and a number that counts in it."""

    def __init__(self, seed):
        self.draws = Draws(seed)
        self.cases = []
        self.counts = {}

    def add(self, part, prompt, **judge):
        self.counts[part] = self.counts.get(part, 0) + 1
        self.cases.append({"id": f"{part}-{self.counts[part]:03}", "prompt": prompt, **judge})

    def choose(self, part, prompt, answer, others):
        choices = self.draws.shuffled([answer, *others])
        assert len(set(choices)) == len(choices) >= 2, (prompt, choices)
        self.add(part, prompt, choices=choices, answer=answer)

    def say(self, part, prompt, pattern, tokens=32):
        assert not re.search(pattern, ""), pattern
        self.add(part, prompt, pattern=pattern, maxTokens=tokens)

    def text(self):
        prompts = [case["prompt"] for case in self.cases]
        assert len(set(prompts)) == len(prompts), [p for p in prompts if prompts.count(p) > 1]
        return "".join(json.dumps(case, ensure_ascii=False) + "\n" for case in self.cases)


# Arithmetic: of one and two digits, each result a whole number from 0 on.

SUM = [
    "What is {a} + {b}?",
    "What is {a} plus {b}?",
    "Calculate {a} + {b}.",
    "Add {a} and {b}.",
    "{a} + {b} = ?",
    "Ann has {a} coins and gets {b} more. How many coins does she have now?",
]
DIFFERENCE = [
    "What is {a} - {b}?",
    "What is {a} minus {b}?",
    "Calculate {a} - {b}.",
    "Subtract {b} from {a}.",
    "{a} - {b} = ?",
    "Ben has {a} coins and gives away {b}. How many coins are left?",
]
PRODUCT = [
    "What is {a} x {b}?",
    "What is {a} times {b}?",
    "Calculate {a} x {b}.",
    "Multiply {a} by {b}.",
    "{a} x {b} = ?",
    "There are {a} bags with {b} coins each. How many coins are there?",
]


def near(draws, result, steps):
    """Three wrong results not far from the right one."""
    wrong = {result + sign * step for step in steps for sign in (1, -1)}
    wrong = sorted(value for value in wrong if value >= 0 and value != result)
    return draws.some(wrong, 3)


SIGNS = {"sum": "+", "difference": "-", "product": "x"}


def arithmetic():
    suite = Suite(SEED)
    draws = suite.draws
    seen = set()

    # A small model tells the right equation from a wrong one, but not the right number where it stands alone.
    def ask(part, forms, a, b, result, steps):
        prompt = draws.pick(forms).format(a=a, b=b)
        if prompt in seen:
            return False
        seen.add(prompt)
        equation = f"{a} {SIGNS[part.split('-')[0]]} {b} = "
        wrong = [f"{equation}{value}" for value in near(draws, result, steps)]
        suite.choose(part, prompt, f"{equation}{result}", wrong)
        return True

    def ask_twice(part, forms, pairs, result, steps):
        """Each pair in two forms."""
        for a, b in pairs:
            asked = 0
            while asked < 2:
                asked += ask(part, forms, a, b, result(a, b), steps)

    def ask_some(part, forms, count, pair, result, steps):
        asked = 0
        while asked < count:
            a, b = pair()
            asked += ask(part, forms, a, b, result(a, b), steps)

    digit, teen, two = range(1, 10), range(11, 20), range(10, 100)
    plus, minus, times = operator.add, operator.sub, operator.mul

    def pair(first, second):
        return lambda: tuple(sorted((draws.pick(first), draws.pick(second)), reverse=True))

    pairs = [(a, b) for a in digit for b in digit]
    ask_twice("sum", SUM, pairs, plus, (1, 2, 3))
    ask_twice("difference", DIFFERENCE, [(a, b) for a, b in pairs if b <= a], minus, (1, 2, 3))
    ask_twice("product", PRODUCT, [(a, b) for a, b in pairs if 2 <= b <= a], times, (1, 2, 3, 10))
    ask_some("sum-two", SUM, 120, pair(two, digit), plus, (1, 2, 10))
    ask_some("sum-tens", SUM, 90, pair(two, two), plus, (1, 2, 10, 20))
    ask_some("difference-two", DIFFERENCE, 90, pair(two, digit), minus, (1, 2, 10))
    ask_some("difference-tens", DIFFERENCE, 60, pair(two, two), minus, (1, 2, 10, 20))
    ask_some("product-teens", PRODUCT, 30, pair(teen, range(2, 6)), times, (1, 2, 10))
    assert len(suite.cases) >= 700
    return suite


# Ability: what a model of any use can do.


def in_order(numbers):
    """One number after the other, as digits or words, whatever stands between."""
    spelled = [f"\\b({number}|{NUMBERS[number - 1]})\\b" for number in numbers]
    return "(?is)" + ".*".join(spelled)


def following(suite):
    def say(prompt, pattern, tokens=32):
        suite.say("following", prompt, pattern, tokens)

    for word in ["yes", "hello", "apple", "green", "stop", "thanks", "river", "seven"]:
        say(f'Say only the word "{word}".', f"(?i)^\\W*{word}\\W*$", 16)
    for word in WORDS:
        say(f'Write a short sentence with the word "{word}".', f"(?i)\\b{word}s?\\b")
    for kind, names in NAMED.items():
        article = "an" if kind[0] in "aeiou" else "a"
        say(f"Name {article} {kind}.", f"(?i)\\b({names})s?\\b")
    for last in range(3, 7):
        say(f"Count from 1 to {last}.", in_order(range(1, last + 1)), 48)
    for first in (3, 5):
        say(f"Count down from {first} to 1.", in_order(range(first, 0, -1)), 48)
    for word in ["yes", "tea", "home", "blue"]:
        say(f'Write the word "{word}" three times.', f"(?is)\\b{word}\\b.*\\b{word}\\b.*\\b{word}\\b")
    for day, after in [("Monday", "Tuesday"), ("Wednesday", "Thursday"), ("Saturday", "Sunday")]:
        say(f"Which day comes after {day}? Answer with one word.", f"(?i)\\b{after}\\b", 16)
    for month, after in [("April", "May"), ("June", "July"), ("November", "December")]:
        say(f"Which month comes after {month}? Answer with one word.", f"(?i)\\b{after}\\b", 16)
    for word in ["cat", "sun", "tea"]:
        say(f'Spell the word "{word}" with hyphens between its letters.', f"(?i)\\b{'-'.join(word)}\\b")
    for word in ["dog", "moon", "peace", "water"]:
        say(f'Write the word "{word}" in capital letters.', f"\\b{word.upper()}\\b")
    for country in ["France", "Italy", "Japan", "Egypt", "Spain"]:
        say(f"In one word: what is the capital of {country}?", f"(?i)\\b{CAPITALS[country]}\\b", 24)
    say("Greet me.", r"(?i)\b(hello|hi|hey|greetings|welcome|good (morning|day|afternoon|evening))\b")
    say("Say goodbye to me.", r"(?i)\b(goodbye|good-bye|bye|farewell|see you|take care)\b")
    say("Say thank you in one short sentence.", r"(?i)\bthank")
    say("Say in one short sentence that you are sorry.", r"(?i)\b(sorry|apolog)")
    for sentence in ["The sky is blue", "My cat likes fish", "We meet at noon", "Tea is ready", "The door is open", "I like music"]:
        say(f'Repeat this sentence: "{sentence}."', f"(?i){sentence}")
    for many in ["animals", "fruits", "colours", "countries"]:
        say(f"Make a list of three {many}.", r"(?s)(,[^,]+,|,[^,]+ and |\n[^\n]+\n)", 48)
    for thing, count in [("legs does a dog", 4), ("wheels does a bicycle", 2), ("eyes does a person", 2), ("fingers does one hand", 5), ("sides does a square", 4)]:
        say(f"How many {thing} have? Answer with a number.", f"(?i)\\b({count}|{NUMBERS[count - 1]})\\b", 24)


def ability():
    suite = Suite(SEED + 1)
    draws = suite.draws
    for country, capital in CAPITALS.items():
        others = [other for other in CAPITALS.values() if other != capital]
        suite.choose("capitals", f"What is the capital of {country}?", capital, draws.some(others, 3))
    for question, answer, others in FACTS:
        suite.choose("facts", question, answer, others)
    for questions, answer in [(TRUE, "Yes"), (FALSE, "No")]:
        for question in questions:
            suite.add("truths", f"{question} Answer yes or no.", choices=["Yes", "No"], answer=answer)
    for word, opposite, unfit in OPPOSITES:
        others = [o for w, o, _ in OPPOSITES if o not in (opposite, *unfit) and w != opposite]
        suite.choose("opposites", f'What is the opposite of "{word}"? Answer with one word.', opposite, draws.some(others, 3))
    for word, plural, others in PLURALS:
        suite.choose("plurals", f'What is the plural of "{word}"? Answer with one word.', plural, others)
    for verb, past, others in TENSES:
        suite.choose("tenses", f'What is the past tense of "{verb}"? Answer with one word.', past, others)
    for kind, members in KINDS.items():
        for member in members[:3]:
            kinds = draws.some([other for other in KINDS if other != kind], 3)
            others = [draws.pick(KINDS[other]) for other in kinds]
            listed = ", ".join(draws.shuffled([member, *others]))
            suite.choose("kinds", f"Which of these is {kind}: {listed}? Answer with one word.", member, others)
    for beginning, end, others in SENTENCES:
        suite.choose("sentences", f'Which word ends the sentence "{beginning} ..."? Answer with one word.', end, others)
    for sentence, fits, others in GRAMMAR:
        suite.choose("grammar", f'Which word fits into the gap of "{sentence}"? Answer with one word.', fits, others)
    following(suite)
    assert len(suite.cases) >= 200
    return suite


def main():
    stale = []
    for name, suite in [("arithmetic", arithmetic()), ("ability", ability())]:
        path, text = FOLDER / f"{name}.jsonl", suite.text()
        if sys.argv[1:] == ["--check"]:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(path.name)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path.name, len(suite.cases), suite.counts)
    if stale:
        sys.exit(f"{', '.join(stale)}: not what scripts/make-suites.py writes; run it")


main()
