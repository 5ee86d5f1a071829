"""One peer of `loci bench search`, in a process of its own.

    bench_search.py usearch|hnswlib|faiss|qdrant TASK.json

It builds its graph, on all processors, then says what it is, and the bytes that it has in memory:
{"peer": "name version", "resident": n}. Then it reads commands from standard input, one a line, and answers each with one
line of JSON:
  run all    searches for all questions, one by one, on one thread
  run N      the same for some of them, behind filter N of the task; qdrant only
             {"milliseconds": [of each question], "rows": [[of each: what was found]]}
"""

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

# What Loci builds its graphs with: links, and candidates that are kept meanwhile.
LINKS, BUILDING = 16, 128


def usearch(task, passages):
    from usearch.index import Index

    index = Index(
        ndim=passages.shape[1], metric="ip", dtype="f16", connectivity=LINKS,
        expansion_add=BUILDING, expansion_search=task["candidates"],
    )
    index.add(np.arange(len(passages)), passages, threads=os.cpu_count())
    k = task["k"]
    return f"usearch {version('usearch')}, f16", lambda vector: index.search(vector, k, threads=1).keys


def hnswlib(task, passages):
    import hnswlib as library

    index = library.Index(space="ip", dim=passages.shape[1])
    index.init_index(max_elements=len(passages), ef_construction=BUILDING, M=LINKS)
    index.add_items(passages, np.arange(len(passages)), num_threads=os.cpu_count())
    k = task["k"]
    index.set_ef(max(task["candidates"], k))
    return f"hnswlib {version('hnswlib')}", lambda vector: index.knn_query(vector, k=k, num_threads=1)[0][0]


def faiss(task, passages):
    import faiss as library

    index = library.IndexHNSWFlat(passages.shape[1], LINKS, library.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILDING
    index.hnsw.efSearch = task["candidates"]
    library.omp_set_num_threads(os.cpu_count())
    index.add(passages)
    library.omp_set_num_threads(1)
    k = task["k"]
    return f"faiss {version('faiss-cpu')}, HNSW", lambda vector: index.search(vector[None], k)[1][0]


class Qdrant:
    """Qdrant's own engine, within this process, with indexes of the fields that filters name."""

    def __init__(self, task, passages):
        import qdrant_edge as library

        self.library, self.task = library, task
        config = library.EdgeConfig(
            vectors=library.EdgeVectorParams(size=passages.shape[1], distance=library.Distance.Dot),
            hnsw_config=library.HnswIndexConfig(m=LINKS, ef_construct=BUILDING, full_scan_threshold=10_000),
            optimizers=library.EdgeOptimizersConfig(default_segment_number=1),
            max_search_threads=1,
        )
        # Beside the task, so that it goes when that goes.
        self.shard = library.EdgeShard.create(str(Path(sys.argv[2]).parent / "qdrant"), config)
        update, kinds = library.UpdateOperation, library.PayloadSchemaType
        self.shard.update(update.create_field_index("sample", kinds.Keyword))
        self.shard.update(update.create_field_index("place", kinds.Integer))
        row, points = 0, []
        for document in task["documents"]:
            payload = {"sample": document["sample"], "place": document["place"]}
            for _ in range(document["rows"]):
                points.append(library.Point(row, passages[row].tolist(), payload))
                row += 1
            if len(points) >= 1000:
                self.shard.update(update.upsert_points(points))
                points = []
        if points:
            self.shard.update(update.upsert_points(points))
        self.shard.optimize()
        graph = "" if self.shard.info().indexed_vectors_count else ", without a graph"
        self.name = f"qdrant-edge {version('qdrant-edge-py')}{graph}"

    def filter(self, condition):
        library, must = self.library, []
        if condition["sample"] is not None:
            must.append(library.FieldCondition("sample", match=library.MatchValue(condition["sample"])))
        if condition["place"] is not None:
            start, end = condition["place"]
            must.append(library.FieldCondition("place", range=library.RangeFloat(gte=start, lt=end)))
        inner = library.Filter(must=must)
        return library.Filter(must_not=[inner]) if condition["not"] else inner

    def request(self, vector, condition):
        library = self.library
        return library.SearchRequest(
            query=library.Query.Nearest(vector.tolist()),
            limit=self.task["k"],
            filter=None if condition is None else self.filter(condition),
            params=library.SearchParams(hnsw_ef=max(self.task["candidates"], self.task["k"])),
        )

    def search(self, request):
        return [point.id for point in self.shard.search(request)]


def say(answer):
    print(json.dumps(answer), flush=True)


def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def answer(search, questions):
    """Only the search itself counts, not the reading of what it found."""
    milliseconds, rows = [], []
    for question in questions:
        start = time.perf_counter()
        found = search(question)
        milliseconds.append(1e3 * (time.perf_counter() - start))
        rows.append([int(row) for row in found if row >= 0])
    return {"milliseconds": milliseconds, "rows": rows}


def main():
    kind = sys.argv[1]
    task = json.loads(Path(sys.argv[2]).read_text())["search"]
    passages, questions = (
        np.fromfile(task[name], dtype="<f4").reshape(-1, task["dimensions"]) for name in ("passages", "questions")
    )
    if kind == "qdrant":
        qdrant = Qdrant(task, passages)
        name, search = qdrant.name, qdrant.search
    else:
        name, search = {"usearch": usearch, "hnswlib": hnswlib, "faiss": faiss}[kind](task, passages)
    say({"peer": name, "resident": resident()})
    for line in sys.stdin:
        command = line.strip().removeprefix("run ")
        if kind == "qdrant":
            condition = None if command == "all" else task["conditions"][int(command)]
            asked = questions if condition is None else questions[: task["filtered"]]
            say(answer(search, [qdrant.request(question, condition) for question in asked]))
        elif command == "all":
            say(answer(search, questions))
        else:
            sys.exit(f"{kind} has no filters")


main()
