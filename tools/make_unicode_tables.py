#!/usr/bin/env python3
"""Writes cresco/text/unicode_tables.cpp and tests/data/text/nfc_samples.txt.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install unicodedata2==16.0.0
    /tmp/venv/bin/python tools/make_unicode_tables.py

The tables are those of Unicode 16.0.0. What unicodedata2 does not know is listed here: White_Space
and the symbols among Other_Alphabetic (PropList.txt), Join_Control.
"""
import pathlib
import random

import unicodedata2 as ud

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAST = 0x110000

WHITE_SPACE = set(range(0x09, 0x0E)) | {0x20, 0x85, 0xA0, 0x1680} | set(range(0x2000, 0x200B)) | {
    0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
ALPHABETIC_SYMBOLS = [(0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)]
JOIN_CONTROL = {0x200C, 0x200D}
HANGUL = range(0xAC00, 0xAC00 + 11172)

# Bits of a code point's byte; cresco/text/unicode.h gives their meaning.
OTHER, LETTER, NUMBER, SPACE = 0, 1, 2, 3
WORD, HAS_COMBINING_CLASS, MAY_CHANGE, LOWER, UPPER = 4, 8, 16, 32, 64


def is_surrogate(c):
    return 0xD800 <= c < 0xE000


def full_decomposition(c):
    """Canonical, recursive; [] when there is none. Hangul is left to arithmetic."""
    if c in HANGUL or is_surrogate(c):
        return []
    decomposed = [ord(x) for x in ud.normalize("NFD", chr(c))]
    return [] if decomposed == [c] else decomposed


def compositions():
    """(first, second) -> composed, without Hangul and without the composition exclusions."""
    pairs = {}
    for c in range(LAST):
        if is_surrogate(c) or c in HANGUL:
            continue
        parts = ud.decomposition(chr(c)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            first, second = (int(p, 16) for p in parts)
            if ud.normalize("NFC", chr(first) + chr(second)) == chr(c):
                pairs[first, second] = c
    return pairs


def properties(pairs):
    seconds = {second for _, second in pairs} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    out = bytearray(LAST)
    for c in range(LAST):
        category = ud.category(chr(c))
        if c in WHITE_SPACE:
            bits = SPACE
        elif category[0] == "L":
            bits = LETTER
        elif category[0] == "N":
            bits = NUMBER
        else:
            bits = OTHER
        if (category[0] in "LM" or category in ("Nd", "Nl", "Pc") or c in JOIN_CONTROL
                or any(a <= c <= b for a, b in ALPHABETIC_SYMBOLS)):
            bits |= WORD
        bits |= {"Ll": LOWER, "Lu": UPPER}.get(category, 0)
        if not is_surrogate(c):
            if ud.combining(chr(c)):
                bits |= HAS_COMBINING_CLASS
            if c in seconds or ud.normalize("NFC", chr(c)) != chr(c):
                bits |= MAY_CHANGE
        out[c] = bits
    return out


def lines_of(numbers, per_line, form="{}"):
    items = [form.format(n) if not isinstance(n, tuple) else form.format(*n) for n in numbers]
    return "\n".join("    " + ", ".join(items[i:i + per_line]) + ","
                     for i in range(0, len(items), per_line))


def array(kind, name, numbers, per_line, form="{}"):
    return (f"const {kind} {name}[{len(numbers)}] = {{\n{lines_of(numbers, per_line, form)}\n}};\n"
            f"const std::size_t {name}Size = {len(numbers)};\n")


def write_tables():
    pairs = compositions()
    table = properties(pairs)

    blocks, block_of = [], []
    for start in range(0, LAST, 256):
        block = bytes(table[start:start + 256])
        if block not in blocks:
            blocks.append(block)
        block_of.append(blocks.index(block))
    assert len(blocks) <= 256

    combining = []  # (first, last, class)
    for c in range(LAST):
        k = 0 if is_surrogate(c) else ud.combining(chr(c))
        if not k:
            continue
        if combining and combining[-1][1] == c - 1 and combining[-1][2] == k:
            combining[-1] = (combining[-1][0], c, k)
        else:
            combining.append((c, c, k))

    decompositions, characters = [], []  # (code point, place in characters, length)
    for c in range(LAST):
        parts = full_decomposition(c)
        if parts:
            decompositions.append((c, len(characters), len(parts)))
            characters += parts

    text = f"""// Made by tools/make_unicode_tables.py from Unicode {ud.unidata_version}. Do not edit.
#include "cresco/text/unicode_tables.h"

// clang-format off
namespace cresco::text::tables {{

"""
    text += array("std::uint8_t", "kBlockOf", block_of, 24)
    text += array("std::uint8_t", "kProperties", [b for block in blocks for b in block], 32)
    text += array("CombiningRange", "kCombining", combining, 5, "{{0x{:04X}, 0x{:04X}, {}}}")
    text += array("Decomposition", "kDecompositions", decompositions, 6, "{{0x{:04X}, {}, {}}}")
    text += array("char32_t", "kDecomposed", characters, 12, "0x{:04X}")
    text += array("Composition", "kCompositions",
                  [(a, b, c) for (a, b), c in sorted(pairs.items())], 4,
                  "{{0x{:04X}, 0x{:04X}, 0x{:04X}}}")
    text += "\n}  // namespace cresco::text::tables\n"
    (ROOT / "cresco/text/unicode_tables.cpp").write_text(text)
    return pairs


def write_samples(pairs):
    """Lines of code points in hexadecimal: a text, a tab, its NFC."""
    random.seed(16)
    marks = [c for c in range(0x300, LAST) if not is_surrogate(c) and ud.combining(chr(c))]
    changing = [c for c in range(LAST) if full_decomposition(c)]
    starters = [a for a, _ in pairs] + list(range(0x41, 0x7B)) + [0x20, 0x4E00, 0x0915, 0x1100, 0xAC00]
    samples = [chr(c) for c in random.sample(changing, 120)]
    samples += [chr(a) + chr(b) for a, b in random.sample(sorted(pairs), 80)]
    for _ in range(250):  # piles of marks, in disorder
        samples.append("".join(
            chr(random.choice(starters)) + "".join(chr(random.choice(marks))
                                                   for _ in range(random.randrange(6)))
            for _ in range(random.randrange(1, 4))))
    for _ in range(80):  # jamo, loose and in syllables
        samples.append("".join(chr(random.choice([random.randrange(0x1100, 0x1113),
                                                  random.randrange(0x1161, 0x1176),
                                                  random.randrange(0x11A7, 0x11C3),
                                                  random.choice(HANGUL), 0x0301]))
                               for _ in range(random.randrange(1, 7))))
    for _ in range(120):  # whatever decomposes, with marks behind it
        samples.append("".join(chr(random.choice(random.choice([changing, marks, starters])))
                               for _ in range(random.randrange(2, 8))))
    hexes = lambda s: " ".join(f"{ord(c):04X}" for c in s)
    lines = [f"{hexes(s)}\t{hexes(ud.normalize('NFC', s))}" for s in samples]
    (ROOT / "tests/data/text/nfc_samples.txt").write_text(
        f"# Made by tools/make_unicode_tables.py with unicodedata2, Unicode {ud.unidata_version}: a text and"
        " its NFC, as code points.\n" + "\n".join(lines) + "\n")


assert ud.unidata_version == "16.0.0", ud.unidata_version
write_samples(write_tables())
