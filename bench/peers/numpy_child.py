"""Multiplies matrices when told to: the other side of numpy.ts."""

import json
import sys

import numpy

print(json.dumps({"version": numpy.__version__}), flush=True)
for line in sys.stdin:
    question = json.loads(line)
    if "x" in question:
        x = numpy.fromfile(question["x"], dtype=numpy.float32).reshape(question["rows"], -1)
        weight = numpy.fromfile(question["weight"], dtype=numpy.float32)
        weight = weight.reshape(-1, x.shape[1])
        out = numpy.full((x.shape[0], weight.shape[0]), numpy.nan, dtype=numpy.float32)
        print("{}", flush=True)
    elif "repeat" in question:
        for _ in range(question["repeat"]):
            numpy.matmul(x, weight.T, out=out)
        print("{}", flush=True)
    else:
        out.tofile(question["out"])
        print("{}", flush=True)
