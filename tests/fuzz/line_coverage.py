"""Prints which share of some files' lines a program reached, and the lines that it did not.

Usage: line_coverage.py NAME LCOV SOURCE...   (LCOV as `llvm-cov export -format=lcov` writes it)
"""

import sys


def read_lcov(path):
    """{file: {line: times reached}}"""
    files, lines = {}, {}
    for record in open(path):
        kind, _, value = record.strip().partition(":")
        if kind == "SF":
            lines = files.setdefault(value, {})
        elif kind == "DA":
            line, count = map(int, value.split(",")[:2])
            lines[line] = max(lines.get(line, 0), count)
    return files


def ranges(numbers):
    """[3, 4, 5, 9] -> "3-5, 9" """
    parts = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


name, lcov, *sources = sys.argv[1:]
files = read_lcov(lcov)
all_lines = all_reached = 0
for source in sources:
    lines = next(lines for file, lines in files.items() if file.endswith("/" + source))
    missed = sorted(line for line, count in lines.items() if count == 0)
    reached = len(lines) - len(missed)
    all_lines += len(lines)
    all_reached += reached
    rest = f"; not lines {ranges(missed)}" if missed else ""
    print(f"coverage: {name}: {source} {100 * reached / len(lines):.1f} % of {len(lines)} lines{rest}")
if len(sources) > 1:
    print(f"coverage: {name}: all {100 * all_reached / all_lines:.1f} % of {all_lines} lines")
