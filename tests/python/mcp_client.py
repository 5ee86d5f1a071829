"""Asks a running `loci up` for passages as any host of the Model Context Protocol would, with the official client."""

import asyncio
import sys

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

url, token, loci, right_file, wrong_file = sys.argv[1:]
INVALID_PARAMS = -32602


def stdio(server, token_file):
    return StdioServerParameters(command=loci, args=["mcp", "--url", server, "--token-file", token_file])


async def said(client, arguments):
    """What the tool says of arguments that it refuses."""
    result = await client.call_tool("retrieve", arguments)
    assert result.is_error and result.structured_content is None, result
    return result.content[0].text


async def listed(client):
    (tool,) = (await client.list_tools()).tools
    assert tool.name == "retrieve" and tool.annotations.read_only_hint, tool
    assert set(tool.input_schema["properties"]) == {"query", "topK", "filter", "pipeline", "explain"}, tool
    assert tool.input_schema["required"] == ["query"], tool
    assert set(tool.output_schema["required"]) == {"release", "passages", "timings"}, tool


async def answered(client):
    """Passages with citations; the client compares the structure with the schema."""
    result = await client.call_tool("retrieve", {"query": "What does a lost key cost?", "topK": 2, "explain": True})
    assert not result.is_error, result
    found = result.structured_content
    assert len(found["passages"]) == 2 and found["explain"]["pipeline"] == "default/shop", found
    best = found["passages"][0]
    citation = best["citation"]
    assert citation["source"] == "docs" and citation["document"] == "keys.md", citation
    assert "twelve euros" in best["text"] and citation["span"][1] > citation["span"][0], best
    (text,) = [block.text for block in result.content]
    for part in (found["release"], citation["uri"], "keys.md", "twelve euros"):
        assert part in text, (part, text)

    filtered = {"query": "key", "filter": {"document": ["hours.md", "rain.md"], "not": {"document": "rain.md"}}}
    found = (await client.call_tool("retrieve", filtered)).structured_content
    assert {passage["citation"]["document"] for passage in found["passages"]} == {"hours.md"}, found
    nothing = await client.call_tool("retrieve", {"query": "key", "filter": {"source": "docs", "memory": "episodic"}})
    assert nothing.structured_content["passages"] == [] and "No passage" in nothing.content[0].text, nothing

    questions = [{"query": f"question {number}", "topK": 1} for number in range(8)]
    results = await asyncio.gather(*(client.call_tool("retrieve", question) for question in questions))
    assert all(len(result.structured_content["passages"]) == 1 for result in results), results


async def refused(client):
    """Errors say what is wrong, why, and the way out, by the names of arguments."""
    assert (await said(client, {})).startswith("query: missing")
    assert (await said(client, {"query": " "})).startswith("query: empty")
    assert (await said(client, {"query": "a", "topK": 0})).startswith("topK: 0 is not a whole number from 1 to 1000")
    unknown = await said(client, {"query": "a", "filters": {"document": "keys.md"}})
    assert unknown == "filters: no such field; did you mean filter?", unknown
    operator = await said(client, {"query": "a", "filter": {"document": {"like": "k%"}}})
    assert operator.startswith("filter.document.like: no such operator") and "prefix" in operator, operator
    pipeline = await said(client, {"query": "a", "pipeline": "absent"})
    assert pipeline.startswith('pipeline: there is no pipeline "absent"') and "default/shop" in pipeline, pipeline
    try:
        await client.call_tool("search", {"query": "a"})
        raise SystemExit("a tool that there is not was called")
    except MCPError as error:
        assert error.code == INVALID_PARAMS and "there is retrieve" in error.message, error


async def used(server, mode):
    async with Client(server, mode=mode) as client:
        assert (client.protocol_version == "2026-07-28") == (mode == "auto"), client.protocol_version
        assert client.server_info is None or client.server_info.name == "loci", client.server_info
        assert "cite" in client.instructions, client.instructions
        await listed(client)
        await answered(client)
        await refused(client)


def over_http(secret, codes):
    async def note(response):
        codes.append(response.status_code)

    return httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {secret}"}, timeout=60, event_hooks={"response": [note]}
    )


async def main():
    for mode in ("auto", "legacy"):
        async with over_http(token, codes := []) as http:
            await used(streamable_http_client(f"{url}/mcp", http_client=http), mode)
        assert set(codes) <= {200, 202, 405}, codes
        await used(stdio(url, right_file), mode)

        async with over_http("another-token-altogether", codes := []) as http:
            try:
                async with Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode):
                    raise SystemExit("a wrong token was let in")
            except* MCPError:
                pass
        assert set(codes) == {401}, codes

    # Where there is no way in, the tool is there all the same, and says why it has no answer.
    async with Client(stdio(url, wrong_file)) as client:
        await listed(client)
        wrong = await said(client, {"query": "a"})
        assert "the token is not one of this server's" in wrong, wrong
    async with Client(stdio("http://127.0.0.1:9", right_file)) as client:
        away = await said(client, {"query": "a"})
        assert away.startswith("no answer from http://127.0.0.1:9") and "--url" in away, away
    print("2 transports")


asyncio.run(main())
