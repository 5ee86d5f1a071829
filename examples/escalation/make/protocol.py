"""The protocol: from a ticket's facts to the line that answers it."""

from typing import NamedTuple

TEAMS = ("payments", "shipping", "access", "devices", "website")
EFFECTS = ("danger", "stopped", "hampered", "question")
SCOPES = ("one", "some", "all")
PLANS = ("gold", "silver", "basic")


class Facts(NamedTuple):
    """What a ticket states."""

    team: str  # whose subject it is
    effect: str  # what happens
    scope: str  # in how many of the customer's shops
    plan: str  # what the customer pays for


def severity(facts):
    everywhere = facts.scope == "all"
    if facts.effect == "danger":
        return 1
    if facts.effect == "stopped":
        return 1 if everywhere else 2
    if facts.effect == "hampered":
        return 2 if everywhere else 3
    return 4


def line(facts):
    level = severity(facts)
    gold = facts.plan == "gold"
    within = {1: "15m", 2: "1h" if gold else "4h", 3: "8h" if gold else "1d", 4: "3d"}[level]
    told = {1: "duty", 2: "lead", 3: "account" if gold else None, 4: None}[level]
    decision = f"ESCALATE {told}" if told else "RESOLVE"
    return f"SEV{level} team={facts.team} within={within} {decision}"
