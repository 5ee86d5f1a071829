"""Chats with a running server as any program with the OpenAI client would."""

import sys

from openai import APIError, AuthenticationError, BadRequestError, NotFoundError, OpenAI, RateLimitError

url, token, pipeline, pinned = sys.argv[1:]
client = OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
alias = pinned.split("@")[0]
models = {model.id: model for model in client.models.list()}
assert set(models) == {pipeline, alias}, models
assert models[alias].adapter == pinned

question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "When are refunds paid?"}]
options = {"messages": question, "temperature": 0, "seed": 1}
whole = client.chat.completions.create(model=alias, max_tokens=20, **options)
choice = whole.choices[0]
assert whole.model == pinned and whole.object == "chat.completion", whole
assert choice.message.role == "assistant" and choice.finish_reason == "length", choice
assert whole.usage.completion_tokens == 20
assert whole.usage.total_tokens == whole.usage.prompt_tokens + 20
assert [cited["number"] for cited in whole.citations] == [1, 2, 3, 4, 5]
assert whole.citations[0]["citation"]["document"] == "refunds.md"

# The same in pieces, and with what was said sent back.
stream = client.chat.completions.create(
    model=pinned, max_completion_tokens=20, stream=True, stream_options={"include_usage": True}, **options
)
chunks = list(stream)
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert text == choice.message.content, (text, choice.message.content)
assert chunks[0].choices[0].delta.role == "assistant"
assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
assert chunks[-1].citations == whole.citations
again = question + [choice.message, {"role": "user", "content": "Really?"}]
more = client.chat.completions.create(model=pipeline, messages=again, max_tokens=3, extra_body={"k": 0})
assert more.model == pipeline and more.citations == []


def refused(kind, api_key=token, **fields):
    try:
        OpenAI(base_url=f"{url}/v1", api_key=api_key, max_retries=0).chat.completions.create(
            **{"model": alias, "max_tokens": 3, **options, **fields}
        )
    except kind as error:
        return error
    raise SystemExit(f"taken: {fields}")


error = refused(BadRequestError, tools=[{"type": "function", "function": {"name": "f"}}])
assert error.param == "tools" and error.code == "unsupported_parameter", error
assert refused(BadRequestError, n=2).param == "n"
assert refused(NotFoundError, model=f"{pipeline}:other").code == "unknown_model"
refused(AuthenticationError, api_key="another-token-altogether")

# While one is written there is no place for another; hanging up makes one.
with client.chat.completions.create(model=alias, max_tokens=6000, stream=True, **options) as stream:
    next(iter(stream))
    busy = refused(RateLimitError)
    assert busy.code == "too_many_chats" and busy.response.headers["retry-after"] == "1", busy
patient = OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=8)
patient.chat.completions.create(model=alias, max_tokens=3, **options)
assert issubclass(RateLimitError, APIError)
print(f"{len(whole.citations)} citations")
