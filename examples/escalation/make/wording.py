"""How the parts of a ticket become sentences."""

import string

# The third person, and what it becomes after a subject that is plural.
PLURAL = {
    "is": "are",
    "has": "have",
    "does": "do",
    "it": "they",
    "works": "work",
    "fails": "fail",
    "hangs": "hang",
    "continues": "continue",
    "acts": "act",
    "takes": "take",
    "gets": "get",
    "needs": "need",
    "stutters": "stutter",
    "shows": "show",
    "goes": "go",
    "stops": "stop",
}


def about(template, subject):
    """A sentence about a subject: {s} is the subject, {S} the same at the beginning, {is} agrees with it."""
    text, plural = subject
    words = {word: other if plural else word for word, other in PLURAL.items()}
    return template.format(s=text, S=text[0].upper() + text[1:], **words)


def fields(template):
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}
