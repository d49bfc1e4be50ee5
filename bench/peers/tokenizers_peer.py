#!/usr/bin/env python3
"""Our tokenizer beside Hugging Face's `tokenizers`: the same ids, and how fast.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers unicodedata2==16.0.0
    /tmp/venv/bin/python bench/peers/tokenizers_peer.py check --bench build/bench/tokenizer_bench T.json...
    /tmp/venv/bin/python bench/peers/tokenizers_peer.py train --bench build/bench/tokenizer_bench
    /tmp/venv/bin/python bench/peers/tokenizers_peer.py speed --bench build/bench/tokenizer_bench T.json

check: thousands of odd and random texts, encoded by both with each tokenizer.json; also with variants of
       added tokens and of the cl100k split, made here from the first file.
train: both train on the same text; vocabulary and merges have to be the same.
speed: both encode 20 MB of the Debian packages bible-kjv and wordnet-base in this run, on one thread.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers  # noqa: E402

FIXED = [
    "", " ", "  ", "   ", "\n", "\t", "\r\n\r\n", " \n\n x", "tab\t\tend  ", "a  b", "a   b\n", "x" + " " * 30 + "y",
    " hello", "don't I'LL we'll 'S 's's", "'\u017f 'ſt it'ſ", "12345 67 1234567", "naïve café", "cafe\u0301",
    "é\u0301", "日本語テスト", "\u00a0nbsp\u2003em", "🙂👍🏽", "\u0085x", "\u200bx", "\ufeffx", "\u180ex", "²½Ⅳ",
    "\x1c\x1d\x1e\x1fa", "ﬁ ﬁ Å", "\u2126 \u212b", "<|endoftext|>Hi", "  <|endoftext|>  ",
    "<|endoftext|><|endoftext|>", "<|endoftext|", "a<|padding|>b", "\u1100\u1161\u11a8", "\uac00\u11a8",
    "\u0344\u0f73\u0958", "x\u0315\u0300", "\u0300", "\u3099か\u3099", "|||EMAIL_ADDRESS|||", "'", "''", "' s", "'re're",
    "a" * 300, "ab" * 200, " " * 200, "\n" * 100, "=" * 150, "0" * 99, "\u0e01\u0e33", "𝒳𝓎𐐀", "\U0010ffff",
]


def random_texts(count, seed):
    rng = random.Random(seed)
    words = ("the of and to in it's don't we'll I'LL they've 'tis def return self. print( x+1 123 3.14 2026 — … “q” "
             "naïve café Ελλάδα Москва 日本語 한국어 العربية हिन्दी ไทย <|endoftext|> <|padding|> http://a.b/c?d=e").split()
    spaces = [" ", "  ", "   ", "    ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2003", " \n", "\n ", " " * 25, "\x0b", "\u3000",
              "\u0085", "\u2028"]
    marks = [chr(c) for c in [*range(0x300, 0x370), *range(0x591, 0x5C8), 0x3099, 0x309A, *range(0x93C, 0x94E),
                              *range(0x1D165, 0x1D16A)]]
    alphabets = [
        [chr(c) for c in range(0x20, 0x7F)],
        [chr(c) for c in range(0, 0x250)],
        list("'sStTreRElLvVmMdD \n\u017f\u212a"),
        list(" \n\r\t'a1.,\u00a0\u2003\u0085x"),
        list("abcéÅẛÇ") + marks,
        [chr(c) for c in [*range(0x1100, 0x1200), *range(0xAC00, 0xAC40), *range(0xD7A3, 0xD7B0)]],
        [chr(c) for c in range(0x2000, 0x3100)],
        [chr(c) for c in range(0x1F000, 0x1FA00)] + list(" \u200d\ufe0f"),
        list("²³½ⅣⅫ٣१0123456789 a.-"),
        list("<|endoftext|> pading"),
    ]
    for i in range(count):
        kind = i % 4
        if kind == 0:
            text = "".join(rng.choice(words) + rng.choice(spaces) for _ in range(rng.randrange(1, 30)))
        elif kind == 1:
            alphabet = rng.choice(alphabets)
            text = "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 80)))
        elif kind == 2:  # any code point
            text = ""
            while len(text) < rng.randrange(1, 60):
                c = rng.randrange(0x110000)
                if not 0xD800 <= c < 0xE000:
                    text += chr(c) + rng.choice(["", "", " ", "a", rng.choice(marks)])
        else:
            text = "".join(rng.choice(rng.choice(alphabets) + words + spaces) for _ in range(rng.randrange(1, 60)))
        yield text


def every_code_point():
    """All of Unicode in a few letters' company: a difference in any class shows."""
    block = []
    for c in range(0x110000):
        if not 0xD800 <= c < 0xE000:
            block.append(f"a{chr(c)}1{chr(c)}.{chr(c)} {chr(c)}\n")
        if len(block) == 128:
            yield "".join(block)
            block = []
    yield "".join(block)


CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")


def variants(path):
    """The tokenizer of the file, and others that use what it does not."""
    original = json.loads(pathlib.Path(path).read_text())
    yield "as it is", original

    def changed(change):
        copy = json.loads(json.dumps(original))
        change(copy)
        return copy

    def use_cl100k(t):
        t["normalizer"] = None
        t["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": CL100K}, "behavior": "Removed", "invert": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}

    def add_tokens(t):
        new_id = max(list(t["model"]["vocab"].values()) + [a["id"] for a in t["added_tokens"]])
        for content, flags in [("the", "single_word"), ("don't", "lstrip"), ("é", "normalized"), ("e\u0301a", "normalized"),
                               ("[M]", "lstrip rstrip"), ("[MASK]", "rstrip special"), ("日", "single_word lstrip normalized"),
                               ("print", "rstrip single_word normalized"), ("1", "special lstrip normalized")]:
            if content in t["model"]["vocab"]:
                continue
            new_id += 1
            t["added_tokens"].append({"id": new_id, "content": content, **{
                flag: flag in flags.split() for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")}})

    yield "cl100k split", changed(use_cl100k)
    yield "ignore_merges", changed(lambda t: t["model"].update(ignore_merges=True))
    yield "added tokens", changed(add_tokens)
    yield "add_prefix_space", changed(lambda t: t["pre_tokenizer"].update(add_prefix_space=True))
    yield "one piece", changed(lambda t: t["pre_tokenizer"].update(use_regex=False))
    yield "merges as pairs", changed(lambda t: t["model"].update(
        merges=[m.split(" ") if isinstance(m, str) else m for m in t["model"]["merges"]]))


def word_probes():
    """Every code point beside a token that stands alone only."""
    for c in range(0x110000):
        if not 0xD800 <= c < 0xE000:
            yield f"the{chr(c)}"


def run_check(args):
    failed = False
    for path in args.tokenizers:
        texts = FIXED + list(random_texts(args.count, seed=1)) + list(every_code_point())
        if pathlib.Path("/usr/share/wordnet/data.verb").exists():
            prose = pathlib.Path("/usr/share/wordnet/data.verb").read_text(errors="replace")
            texts += [prose[i * 4000:(i + 1) * 4000] for i in range(200)]
        for name, variant in variants(path):
            with tempfile.TemporaryDirectory() as folder:
                file, cases = pathlib.Path(folder, "t.json"), pathlib.Path(folder, "cases.jsonl")
                file.write_text(json.dumps(variant))
                theirs = tokenizers.Tokenizer.from_str(json.dumps(variant))
                all_texts = texts + (list(word_probes()) if name == "added tokens" else [])
                with cases.open("w") as out:
                    for text in all_texts:
                        ids = theirs.encode(text, add_special_tokens=False).ids
                        out.write(json.dumps({"text": text, "ids": ids}) + "\n")
                print(f"{path}, {name}:", flush=True)
                failed |= subprocess.call([args.bench, "--tokenizer", file, "--check", cases]) != 0
    return failed


def real_text(limit=None):
    """Documents of about 4 kB: the King James Bible and WordNet's nouns."""
    bible = subprocess.run(["bible", "-f"], input=b"Gen1:1-Rev22:21\n", capture_output=True, check=True).stdout.decode()
    nouns = pathlib.Path("/usr/share/wordnet/data.noun").read_text(errors="replace")
    documents, open_document = [], ""
    for line in (bible + nouns).splitlines(keepends=True):
        open_document += line
        if len(open_document) > 4000:
            documents.append(open_document)
            open_document = ""
    documents.append(open_document)
    return documents


def glosses():
    """Prose alone: the Bible, and the definitions and examples of all of WordNet."""
    documents = [d for d in real_text() if not d[:8].isdigit()]
    open_document = ""
    for part in ("noun", "verb", "adj", "adv"):
        for line in pathlib.Path(f"/usr/share/wordnet/data.{part}").read_text(errors="replace").splitlines():
            open_document += line.partition("| ")[2].strip() + "\n"
            if len(open_document) > 4000:
                documents.append(open_document)
                open_document = ""
    return documents


def run_train(args):
    text = "".join(glosses())[:3_000_000]
    documents = [text[i:i + 5000] for i in range(0, len(text), 5000)]
    with tempfile.TemporaryDirectory() as folder:
        source, ours_file = pathlib.Path(folder, "text"), pathlib.Path(folder, "ours.json")
        source.write_text("\0".join(documents))
        ours_seconds = json.loads(subprocess.run(
            [args.bench, "--text", source, "--train", ours_file, "--vocab-size", "8192"], check=True,
            capture_output=True).stdout)["train_seconds"]
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
        theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=8192, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
        start = time.perf_counter()
        theirs.train_from_iterator(documents, trainer)
        theirs_seconds = time.perf_counter() - start
        ours = json.loads(ours_file.read_text())["model"]
        them = json.loads(theirs.to_str())["model"]
        pairs = [" ".join(m) if isinstance(m, list) else m for m in them["merges"]]
        same = ours["vocab"] == them["vocab"] and ours["merges"] == pairs
        differing = next((i for i, (a, b) in enumerate(zip(ours["merges"], pairs)) if a != b), None)
        print(json.dumps({"text_bytes": len(text.encode()), "vocab_size": len(ours["vocab"]), "same": same,
                          "first_difference": differing, "ours_seconds": ours_seconds,
                          "theirs_seconds": theirs_seconds}))
        return not same


def random_words():
    """Words of random letters, hardly any of which comes twice: a cache of pieces is no help."""
    rng = random.Random(7)
    word = lambda: "".join(rng.choice("etaoinshrdlucmfwypvbgkjqxz") for _ in range(rng.randrange(3, 12)))
    return ["".join(" " + word() for _ in range(500)) for _ in range(2000)]


def run_speed(args):
    """Each side with fresh caches; the quickest of seven runs of ours and of three of theirs."""
    for name, documents in [("Bible and WordNet's noun file", real_text()), ("prose: Bible and all glosses", glosses()),
                            ("random words", random_words())]:
        num_bytes = sum(len(d.encode()) for d in documents)
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder, "text")
            source.write_bytes("\0".join(documents).encode())
            ours = json.loads(subprocess.run([args.bench, "--tokenizer", args.tokenizers[0], "--text", source],
                                             check=True, capture_output=True).stdout)
        wall, cpu = [], []
        for _ in range(3):
            theirs = tokenizers.Tokenizer.from_file(args.tokenizers[0])
            start, cpu_start = time.perf_counter(), time.process_time()
            num_tokens = sum(len(theirs.encode(d).ids) for d in documents)
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
        assert num_tokens == ours["num_tokens"], (num_tokens, ours)
        theirs_wall, theirs_cpu = num_bytes / 1e6 / min(wall), num_bytes / 1e6 / min(cpu)
        figures = {"theirs_mb_per_second": theirs_wall, "theirs_mb_per_cpu_second": theirs_cpu, **ours,
                   "ratio": ours["mb_per_second_1"] / theirs_wall, "ratio_cpu": ours["mb_per_cpu_second_1"] / theirs_cpu,
                   "threads_2_over_1": ours["mb_per_second_2"] / ours["mb_per_second_1"],
                   "threads_2_over_1_cpu": ours["mb_per_cpu_second_2"] / ours["mb_per_cpu_second_1"]}
        print(json.dumps({"text": name, "num_documents": len(documents),
                          **{k: round(v, 2) for k, v in figures.items()}}), flush=True)
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["check", "train", "speed"])
    parser.add_argument("tokenizers", nargs="*")
    parser.add_argument("--bench", required=True, help="the program tokenizer_bench")
    parser.add_argument("--count", type=int, default=6000, help="random texts")
    args = parser.parse_intermixed_args()
    print("tokenizers", tokenizers.__version__)
    sys.exit({"check": run_check, "train": run_train, "speed": run_speed}[args.what](args))


main()
