"""Asks a running `loci up` for embeddings as any program with the OpenAI client would."""

import sys

from openai import AuthenticationError, OpenAI

url, token = sys.argv[1:]
client = OpenAI(base_url=f"{url}/v1", api_key=token)
texts = ["a lost key", "a key that was lost", "oil the chain"]
model = client.models.list().data[0].id
for form in ("float", None):
    extra = {"encoding_format": form} if form else {}
    answer = client.embeddings.create(model=model, input=texts, **extra)
    rows = [row.embedding for row in answer.data]
    assert [row.index for row in answer.data] == [0, 1, 2]
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))
    assert abs(dot(rows[0], rows[0]) - 1) < 1e-3, "unit length"
    assert dot(rows[0], rows[1]) > dot(rows[0], rows[2]), "nearer in meaning"
    assert answer.usage.total_tokens > 0
try:
    OpenAI(base_url=f"{url}/v1", api_key="another-token-altogether").embeddings.create(model=model, input="x")
    raise SystemExit("a wrong token was let in")
except AuthenticationError:
    pass
print(f"{len(rows[0])} dimensions")
