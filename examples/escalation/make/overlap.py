"""The rules by which Collect leaves out what suites ask (docs/training-data.md), written once more."""

WORDS, LEAST, COMMON, FORMULA = 13, 8, 10, 1


def words(text):
    """A text's words in lower case, without punctuation; of scripts with spaces between words."""
    spaced = "".join(c.lower() if c.isalnum() else " " for c in text)
    return spaced.split()


def runs(text, length):
    of = words(text)
    return {" ".join(of[i : i + length]) for i in range(len(of) - length + 1)}


def same(text):
    return " ".join(text.split()).lower()


def protected(cases):
    """Whole prompts, and runs of words as (length, run): how many examples may share each."""
    prompts, known = set(), {}
    for case in cases:
        prompts.add(same(case["prompt"]))
    for field, most in (("prompt", COMMON), ("expected", FORMULA)):
        for case in cases:
            count = len(words(case[field]))
            if count >= LEAST:
                length = min(count, WORDS)
                for run in runs(case[field], length):
                    known.setdefault((length, run), most)
    return prompts, known


def shared(chat, prompts, known):
    """What an example shares with the cases."""
    lengths = {length for length, _ in known}
    found = set()
    for message in chat:
        if message["role"] == "user" and same(message["content"]) in prompts:
            found.add(("prompt", same(message["content"])))
        for length in lengths:
            mine = ((length, run) for run in runs(message["content"], length))
            found.update(entry for entry in mine if entry in known)
    return found


def leaks(chats, cases):
    """Of each example what it shares with the cases that counts as a leak, and what is common to too many to be one."""
    prompts, known = protected(cases)
    all_shared = [shared(chat, prompts, known) for chat in chats]
    counts = {}
    for found in all_shared:
        for entry in found:
            counts[entry] = counts.get(entry, 0) + 1
    leak = {e for e, n in counts.items() if e[0] == "prompt" or n <= known[e]}
    return [found & leak for found in all_shared], set(counts) - leak
