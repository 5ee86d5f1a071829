"""Runs a health check as Argo CD does: Lua 5.1 with `obj`, and of its libraries only base, table and a little of os.

Reads {"lua": …, "object": …} and answers with {"status": …, "message": …}."""

import json
import sys

from lupa.lua51 import LuaRuntime

lua = LuaRuntime(register_eval=False, register_builtins=False)
for library in ("string", "io", "math", "debug", "coroutine", "package", "require", "python"):
    lua.globals()[library] = None
lua.execute("getmetatable('').__index = nil")


def table(value):
    if isinstance(value, dict):
        return lua.table_from({key: table(v) for key, v in value.items()})
    if isinstance(value, list):
        return lua.table_from([table(v) for v in value])
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


given = json.load(sys.stdin)
lua.globals().obj = table(given["object"])
health = lua.execute(given["lua"])
json.dump({"status": health["status"], "message": health["message"]}, sys.stdout)
