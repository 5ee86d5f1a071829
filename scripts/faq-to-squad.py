#!/usr/bin/env python3
"""Makes labelled questions, in the JSON of SQuAD, of FAQs in HTML: faq-to-squad.py OUT FILE...

A heading that ends with a question mark is a question, and the text from there to the next heading is the passage that answers
it, without the heading itself. Each file is an article.
"""
import html.parser
import json
import pathlib
import re
import sys

HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
SILENT = {"script", "style", "title"}
BLOCKS = {"p", "div", "li", "pre", "dt", "dd", "br", "tr", "section"}
# Menus of DocBook and Sphinx.
NAVIGATION = {"navheader", "navfooter", "toc", "sphinxsidebar", "related", "footer"}
SHORTEST = 40


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.heading, self.silent, self.menu = [], None, 0, 0

    def handle_starttag(self, tag, attrs):
        if tag == "div":
            classes = (dict(attrs).get("class") or "").split()
            # How many <div> are open within a menu, that of the menu included.
            self.menu += bool(self.menu or NAVIGATION & set(classes))
        self.silent += tag in SILENT
        if tag in HEADINGS and not self.menu:
            self.heading = ""
        elif tag in BLOCKS:
            self.handle_data("\n")

    def handle_endtag(self, tag):
        self.menu -= tag == "div" and self.menu > 0
        self.silent -= tag in SILENT
        if tag in HEADINGS and self.heading is not None:
            self.found.append([self.heading, ""])
            self.heading = None

    def handle_data(self, data):
        if self.silent or self.menu:
            return
        if self.heading is not None:
            self.heading += data
        elif self.found:
            self.found[-1][1] += data


def plain(text):
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return re.sub(r"\n{2,}", "\n\n", "\n".join(lines)).strip()


def question(heading):
    """Without its number and the link to itself."""
    return re.sub(r"^[\d.\s]+", "", " ".join(heading.replace("¶", "").split()))


def article(path):
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    paragraphs = []
    for heading, text in page.found:
        asked, text = question(heading), plain(text)
        if asked.endswith("?") and len(text) >= SHORTEST:
            qa = {"id": f"{path.stem}/{len(paragraphs)}", "question": asked, "answers": [{"text": text[:SHORTEST], "answer_start": 0}]}
            paragraphs.append({"context": text, "qas": [qa]})
    return {"title": path.stem, "paragraphs": paragraphs}


def main():
    out, files = sys.argv[1], sys.argv[2:]
    articles = [article(pathlib.Path(file)) for file in sorted(files)]
    data = [one for one in articles if one["paragraphs"]]
    count = sum(len(one["paragraphs"]) for one in data)
    pathlib.Path(out).write_text(json.dumps({"version": "1.1", "data": data}, ensure_ascii=False, indent=1))
    print(f"{out}: {count} questions of {len(data)} files")


main()
