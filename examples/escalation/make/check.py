#!/usr/bin/env python3
"""Holds what the example's data promises. Ends with 1 and says what is broken, or prints the shares.

The facts of a ticket are read from its text here, by expressions that know nothing of the words that it was made of, and the
protocol is written once more: as a table, and not as protocol.py has it.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import generate
import overlap
import suite_words
import training_words

ROOT = Path(__file__).resolve().parent.parent
FAILURES = []

TEAMS = {
    "payments": r"card payments|paying by card|\bpayments to|refund|payout|contactless|gift card|voucher|invoice|instalment|"
    r"currenc|direct debit|transfer to our bank|stolen cards",
    "shipping": r"parcel|courier|customs forms|return labels|delivery|deliveries|postage|dispatch list|packing slips",
    "access": r"login|log(ged|s)? in\b|sign-in|signs in|password(s were| resets| page| and has|\?)|user permissions|"
    r"invitation emails|owner's account|two-step codes|(staff|user) accounts?",
    "devices": r"card reader|printer|scanner|drawer|screen|dock\b|customer display|tablet",
    "website": r"product pages|product photos|search|basket|gallery|on our site|form sends|contact form|newsletter form|"
    r"home page|size filter|web shop",
}
# The first that is found counts.
EFFECTS = {
    "danger": r"fire\b|smok|shock|stole|steal|fraud|thief|hacker|leak|injur|hurt|private|stranger took|broke into|burnt|burning|"
    r"flames|stranger is",
    "question": r"\?|wish for|suggestion|only want to know|nice to have|please tell me|nothing is broken",
    "hampered": r"\bbut (it|they|only|found|with|can|a second|still)|restart|detour|next (try|one)|before (it|they)|by hand|twice as|"
    r"several tries|three tries|patience|workaround|only slowly|wait long",
    "stopped": r"stopped|stops|down\b|not work|fails?\b|nothing (happens|works|goes)|cannot|out of service|does? nothing|do nothing|"
    r"no attempt|impossible|unusable|no longer|outage",
}
SCOPES = {
    "all": r"\b(all|every)( of)?( (our|the|single))? (shops?|branch(es)?)\b|whole chain|entire chain",
    "some": r"\b(two|three|four|a few|half|several|some|handful)( of)?( our)?( nine)? (shops|branches)\b|other shops do not|"
    r"the other shops are fine|not the other shops",
    "one": r"only our shop|one shop|a single (shop|branch)|only \w+ has it|one branch|for our shop in|limited to|shop alone",
}
# Severity, deadline and decision by effect, by whether it is in all shops, and by whether the plan is Gold.
TABLE = {
    "danger": "1 15m duty | 1 15m duty | 1 15m duty | 1 15m duty",
    "stopped": "2 4h lead | 2 1h lead | 1 15m duty | 1 15m duty",
    "hampered": "3 1d - | 3 8h account | 2 4h lead | 2 1h lead",
    "question": "4 3d - | 4 3d - | 4 3d - | 4 3d -",
}


def hold(condition, what):
    if not condition:
        FAILURES.append(what)


def facts(text):
    """Team, effect, scope and plan that a text states: None where it states none, or several."""
    low = text.lower()
    teams = [team for team, expression in TEAMS.items() if re.search(expression, low)]
    effects = [effect for effect, expression in EFFECTS.items() if re.search(expression, low)]
    scopes = [scope for scope, expression in SCOPES.items() if re.search(expression, low)]
    plans = set(re.findall(r"Gold|Silver|Basic", text))
    one = lambda found: next(iter(found)) if len(found) == 1 else None
    plan = one(plans)
    return one(teams), (effects or [None])[0], one(scopes), plan and plan.lower()


def answer(team, effect, scope, plan):
    cell = 2 * (scope == "all") + (plan == "gold")
    level, within, told = TABLE[effect].split(" | ")[cell].split()
    decision = "RESOLVE" if told == "-" else f"ESCALATE {told}"
    return f"SEV{level} team={team} within={within} {decision}"


def judge(name, text, line):
    """A ticket states the facts that its name says, and the line follows from them."""
    stated = tuple(name.split("-")[1:])
    read = facts(text)
    hold(read == stated, f"{name}: the text states {read}: {text!r}")
    hold(line == answer(*stated), f"{name}: {line} is not {answer(*stated)}")
    hold(text.isascii(), f"{name}: is not ASCII, and the port of the rules of words is for ASCII")


def examples():
    """All chats that are trained on, with their ids: the runbook's, then the tickets."""
    text = (ROOT / "runbooks/triage.md").read_text()
    matter = text.split("---\n")[1].splitlines()
    system = json.loads(next(l for l in matter if l.startswith("system: "))[8:])
    for item in (json.loads(l[2:]) for l in matter if l.startswith("- ")):
        turns = (("system", system), ("user", item["prompt"]), ("assistant", item["response"]))
        yield item["id"], [{"role": role, "content": content} for role, content in turns]
    for line in (ROOT / "runbooks/tickets.jsonl").read_text().splitlines():
        item = json.loads(line)
        yield item["id"], item["messages"]


def check_worked():
    """What the runbook's text gives as examples follows the protocol, too."""
    body = (ROOT / "make/triage.md").read_text()
    worked = re.findall(r"^> (.+)\n\n`(.+)`$", body, re.MULTILINE)
    hold(len(worked) == 5, f"the runbook has {len(worked)} worked examples")
    for text, line in worked:
        hold(line == answer(*facts(text)), f"the runbook answers {text!r} by {line}")


def check_words():
    """No word list of the suite shares an entry with that of the training, but for the names of teams and the like."""
    for name in ("FRAMES", "STOPPED", "HAMPERED", "QUESTION", "PLANS", "EXTRAS", "TOWNS", "NAMES"):
        both = set(getattr(suite_words, name)) & set(getattr(training_words, name))
        hold(not both, f"{name}: training and suite share {both}")
    for name in ("SUBJECTS", "DANGER", "SCOPES", "CALM_SCOPES"):
        for key, entries in getattr(suite_words, name).items():
            both = set(entries) & set(getattr(training_words, name)[key])
            hold(not both, f"{name}, {key}: training and suite share {both}")


def check_shares(trained, cases):
    resolved = lambda lines: sum("RESOLVE" in line for line in lines) / len(lines)
    lines = [chat[-1]["content"] for _, chat in trained]
    wanted = [case["expected"] for case in cases]
    hold(190 <= len(trained) <= 210, f"{len(trained)} examples")
    hold(len(cases) >= 300, f"{len(cases)} cases")
    for what, share in (("examples", resolved(lines)), ("cases", resolved(wanted))):
        hold(0.3 <= share <= 0.5, f"{share:.0%} of the {what} must not escalate")
    most = Counter(wanted).most_common(1)[0][1] / len(wanted)
    hold(most <= 0.1, f"one answer is right in {most:.0%} of the cases")
    for place, name in ((1, "team"), (2, "effect"), (3, "scope"), (4, "plan")):
        counts = Counter(case["id"].split("-")[place] for case in cases)
        hold(min(counts.values()) >= 0.08 * len(cases), f"cases by {name}: {dict(counts)}")
    combination = lambda name: tuple(name.split("-")[1:])
    both = {combination(name) for name, _ in trained} & {combination(c["id"]) for c in cases}
    hold(not both, f"training and suite share combinations: {sorted(both)}")
    new = sum(line not in lines for line in wanted)
    hold(new >= 30, f"{new} cases have an answer that no example has")
    print(
        f"{len(trained)} examples, {resolved(lines):.1%} not escalated; {len(cases)} cases, {resolved(wanted):.1%} not escalated, "
        f"{len(set(wanted))} different answers, the commonest {most:.1%}; {new} have an answer that no example has"
    )


def check_overlap(trained, cases):
    leaks, common = overlap.leaks([chat for _, chat in trained], cases)
    for (name, _), found in zip(trained, leaks):
        hold(not found, f"{name} shares with the suite: {sorted(map(str, found))}")
    hold(not common, f"forms of words that training and suite share: {sorted(map(str, common))}")
    prompts = Counter(overlap.same(chat[1]["content"]) for _, chat in trained)
    hold(max(prompts.values()) == 1, "an example stands twice")
    asked = Counter(overlap.same(case["prompt"]) for case in cases)
    hold(max(asked.values()) == 1, "a case stands twice")


def main():
    for name, text in generate.build().items():
        stored = (ROOT / name).read_text()
        hold(stored == text, f"{name} is not what generate.py writes: run it, or take the change back")
    trained = list(examples())
    cases = [json.loads(line) for line in (ROOT / "suite.jsonl").read_text().splitlines()]
    for name, (system, user, assistant) in trained:
        hold(system["content"] == generate.SYSTEM, f"{name}: another system message")
        judge(name, user["content"], assistant["content"])
    for case in cases:
        hold(case["system"] == generate.SYSTEM, f"{case['id']}: another system message")
        judge(case["id"], case["prompt"], case["expected"])
    check_worked()
    check_words()
    check_shares(trained, cases)
    check_overlap(trained, cases)
    for failure in FAILURES:
        print(failure, file=sys.stderr)
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main())
