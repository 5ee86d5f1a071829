#!/usr/bin/env python3
"""Writes the example's data: what is trained on, and the suite that judges it. Needs Python and nothing else.

    python3 examples/escalation/make/generate.py

The same seed gives the same bytes. check.py holds what the data promises.
"""

import json
from pathlib import Path

import overlap
import suite_words
import training_words
from draws import Decks, Draws
from protocol import EFFECTS, PLANS, SCOPES, TEAMS, Facts, line
from wording import about, fields

SEED = 20_260_105
HERE = Path(__file__).resolve().parent
SYSTEM = "You triage tickets for Pennyquay. Answer with the triage line and nothing else."

# Kinds of tickets, how many of each are trained on, and how many are asked.
KINDS = (
    ("danger", lambda f: f.effect == "danger", 24, 43),
    ("stopped everywhere", lambda f: f.effect == "stopped" and f.scope == "all", 18, 32),
    ("stopped, Gold", lambda f: f.effect == "stopped" and f.scope != "all" and f.plan == "gold", 18, 32),
    ("stopped, others", lambda f: f.effect == "stopped" and f.scope != "all" and f.plan != "gold", 24, 43),
    ("hampered everywhere, Gold", lambda f: f.effect == "hampered" and f.scope == "all" and f.plan == "gold", 8, 14),
    ("hampered everywhere, others", lambda f: f.effect == "hampered" and f.scope == "all" and f.plan != "gold", 10, 18),
    ("hampered, Gold", lambda f: f.effect == "hampered" and f.scope != "all" and f.plan == "gold", 16, 29),
    ("hampered, others", lambda f: f.effect == "hampered" and f.scope != "all" and f.plan != "gold", 36, 65),
    ("question", lambda f: f.effect == "question", 46, 84),
)

# Answers that no example has: their parts are learnt from others.
NEVER_TRAINED = (
    "SEV2 team=payments within=1h ESCALATE lead",
    "SEV3 team=shipping within=8h ESCALATE account",
    "SEV2 team=access within=4h ESCALATE lead",
    "SEV3 team=devices within=1d RESOLVE",
    "SEV2 team=website within=1h ESCALATE lead",
)


def is_asked(facts):
    """Whether a combination of facts belongs to the suite: a Latin third, and whatever has an answer that is never trained."""
    place = (
        TEAMS.index(facts.team)
        + 2 * EFFECTS.index(facts.effect)
        + SCOPES.index(facts.scope)
        + PLANS.index(facts.plan)
    )
    return place % 3 == 0 or line(facts) in NEVER_TRAINED


def combinations(asked):
    every = (Facts(t, e, s, p) for t in TEAMS for e in EFFECTS for s in SCOPES for p in PLANS)
    return [facts for facts in every if is_asked(facts) == asked]


class Writer:
    """Writes tickets by the words of one part, every word as often as the others."""

    def __init__(self, words, draws):
        self.words, self.decks = words, Decks(draws)

    def draw(self, name, items):
        return self.decks.draw(name, items)

    def problem(self, facts):
        if facts.effect == "danger":
            return self.draw(("danger", facts.team), self.words.DANGER[facts.team])
        subject = self.draw(("subject", facts.team), self.words.SUBJECTS[facts.team])
        sentence = self.draw(facts.effect, getattr(self.words, facts.effect.upper()))
        return about(sentence, subject)

    def scope(self, facts):
        calm = facts.effect == "question"
        scopes = self.words.CALM_SCOPES if calm else self.words.SCOPES
        sentence = self.draw((calm, facts.scope), scopes[facts.scope])
        towns = {name: self.draw("town", self.words.TOWNS) for name in sorted(fields(sentence))}
        if len(set(towns.values())) < len(towns):
            return self.scope(facts)
        return sentence.format(**towns)

    def ticket(self, facts):
        frame = self.draw("frame", self.words.FRAMES)
        plan = facts.plan.capitalize()
        parts = {"problem": self.problem(facts), "scope": self.scope(facts), "Plan": plan}
        if "plan" in fields(frame):
            parts["plan"] = self.draw("plan", self.words.PLANS).format(Plan=plan)
        if "extra" in fields(frame):
            parts["extra"] = self.draw("extra", self.words.EXTRAS)
        if "name" in fields(frame):
            parts["name"] = self.draw("name", self.words.NAMES)
        return frame.format(**parts)


def wanted(asked, decks):
    """The facts of all tickets of a part: of each kind as many as KINDS says, of each team as many as of the others."""
    every = combinations(asked)
    for kind, holds, trained, cases in KINDS:
        by_team = {}
        for facts in filter(holds, every):
            by_team.setdefault(facts.team, []).append(facts)
        for _ in range(cases if asked else trained):
            team = decks.draw((kind, "team"), sorted(by_team))
            yield kind, decks.draw((kind, team), by_team[team])


def tickets(asked, refused, draws):
    """Tickets with their kinds and facts, in an order that tells nothing; `refused` are redrawn."""
    writer = Writer(suite_words if asked else training_words, draws)
    seen, made = set(), []
    for kind, facts in wanted(asked, Decks(draws)):
        text = writer.ticket(facts)
        while overlap.same(text) in seen or len(overlap.words(text)) < overlap.WORDS or refused(text):
            text = writer.ticket(facts)
        seen.add(overlap.same(text))
        made.append((kind, facts, text))
    return draws.shuffled(made)


def identity(letter, number, facts):
    return "-".join((f"{letter}{number:03}", *facts))


def runbook(body, examples):
    """The runbook's text: a front matter of lines that are JSON, too, and the body."""
    lines = [f"- {json.dumps(example)}" for example in examples]
    matter = ["title: Triage of tickets", f"system: {json.dumps(SYSTEM)}", "examples:", *lines]
    return "\n".join(["---", *matter, "---", ""]) + body


def build():
    """The files by their names."""
    draws = Draws(SEED)
    examples = tickets(False, lambda text: False, draws)
    trained = set().union(*(overlap.runs(text, overlap.WORDS) for _, _, text in examples))
    cases = tickets(True, lambda text: overlap.runs(text, overlap.WORDS) & trained, draws)

    # The runbook has one of each kind, tickets.jsonl the others.
    shown = [next(e for e in examples if e[0] == kind) for kind, *_ in KINDS]
    rest = [e for e in examples if e not in shown]
    worked = [
        {"id": identity("r", n, facts), "prompt": text, "response": line(facts)}
        for n, (_, facts, text) in enumerate(shown, 1)
    ]
    chats = []
    for n, (_, facts, text) in enumerate(rest, 1):
        turns = (("system", SYSTEM), ("user", text), ("assistant", line(facts)))
        messages = [{"role": role, "content": content} for role, content in turns]
        chats.append({"id": identity("t", n, facts), "messages": messages})
    asked = [
        {"id": identity("c", n, facts), "system": SYSTEM, "prompt": text, "expected": line(facts)}
        for n, (_, facts, text) in enumerate(cases, 1)
    ]
    jsonl = lambda lines: "".join(json.dumps(line) + "\n" for line in lines)
    return {
        "runbooks/triage.md": runbook((HERE / "triage.md").read_text(), worked),
        "runbooks/tickets.jsonl": jsonl(chats),
        "suite.jsonl": jsonl(asked),
    }


if __name__ == "__main__":
    for name, text in build().items():
        (HERE.parent / name).write_text(text)
