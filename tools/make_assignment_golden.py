#!/usr/bin/env python3
"""Makes tests/goldens/assignment.json: the largest totals of one-to-one assignments, by scipy.

    python3 -m venv /tmp/scipy && /tmp/scipy/bin/pip install numpy scipy==1.15.3
    /tmp/scipy/bin/python tools/make_assignment_golden.py

Values are integers that cresco/dictionaries/assignment_test.cpp makes by the same rule. A row may stay alone,
which adds 0: the same as an assignment of all rows with negative values made 0.
"""
import json
import pathlib

import numpy
import scipy
from scipy.optimize import linear_sum_assignment

CASES = {  # rows, columns, modulus, subtract
    "square": (200, 200, 1009, 0),
    "wide": (120, 300, 1009, 0),
    "tall": (300, 120, 1009, 0),
    "signed": (180, 180, 1009, 500),
    "mostly_negative": (150, 140, 1009, 950),
    "ties": (200, 210, 5, 0),
    "large": (500, 500, 100003, 0),
}


def values_of(rows, columns, modulus, subtract):
    i, j = numpy.arange(rows)[:, None], numpy.arange(columns)[None, :]
    return (i * 7919 + j * 104729 + i * i * j * 31 + (i ^ j) * 13) % modulus - subtract


cases = []
for name, (rows, columns, modulus, subtract) in CASES.items():
    values = numpy.maximum(values_of(rows, columns, modulus, subtract), 0)
    total = values[linear_sum_assignment(values, maximize=True)].sum()
    cases.append(dict(name=name, rows=rows, columns=columns, modulus=modulus, subtract=subtract, total=int(total)))
path = pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens" / "assignment.json"
path.write_text(json.dumps({"scipy": scipy.__version__, "numpy": numpy.__version__, "cases": cases}, indent=1) + "\n")
