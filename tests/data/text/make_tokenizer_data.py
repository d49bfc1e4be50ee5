#!/usr/bin/env python3
"""Writes the other files of this folder but nfc_samples.txt, with Hugging Face's tokenizers 0.23.3.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers==0.23.3
    /tmp/venv/bin/python tests/data/text/make_tokenizer_data.py

sample.txt         a text from a small grammar, with code and other scripts in it
trained.json       a tokenizer trained on it: what our trainer has to make as well
like_neox.json     the same with NFC and added runs of spaces, as GPT-NeoX's has them
like_olmo2.json    the same with the cl100k split, which OLMo-2 uses
*_cases.jsonl      texts and the ids that tokenizers gives for them
"""
import json
import pathlib
import random

import tokenizers

HERE = pathlib.Path(__file__).resolve().parent
VOCAB_SIZE = 560

NOUNS = "river gardener lantern engine harbour window teacher mountain kettle violin orchard letter".split()
VERBS = "watches carries remembers repairs follows paints answers measures hides borrows".split()
ADJECTIVES = "quiet old northern broken careful green distant heavy narrow cheerful".split()
ASIDES = ["I don't know why.", "They've never said.", "We'll see!", "It's 3.14 metres - or 1200 feet (more or less)."]
OTHER = ["Le café est fermé; naïve, déjà vu.", "Это простая строка.", "今日は良い天気です。", "ναι, βέβαια", "😀👍🏽 ok…"]
CODE = ["def area(width, height):\n    return width * height\n", "for i in range(10):\n        total += i  # sum\n",
        "if (x == 0) {\n\treturn -1;\n}\r\n"]


def sample_text():
    rng = random.Random(640)
    lines = []
    for _ in range(160):
        kind = rng.random()
        if kind < 0.7:
            lines.append(f"The {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)}, "
                         f"and the {rng.choice(NOUNS)} {rng.choice(VERBS)} a {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}.")
        else:
            lines.append(rng.choice(ASIDES if kind < 0.8 else OTHER if kind < 0.9 else CODE))
    return "\n".join(lines) + "\n"


def texts():
    rng = random.Random(1)
    fixed = ["", " ", "   ", "\n\n", "The quiet river watches the old kettle.", " the  garden   er", "don't DON'T we'll I'VE 'tis",
             "'s's 'ſt", "12345 67 1234567", "cafe\u0301 naïve \u2126 \u212b", "e\u0301\u0323", "\u1100\u1161\u11a8", "\u0958\u0f73",
             "\u00a0x\u2003y\u3000z\u0085w", "\x1c\x1d\u200b\ufeff", "²½Ⅳ٣", "日本語 今日は", "😀👍🏽", "a<|endoftext|>b", "<|padding|>",
             "  <|endoftext|>  ", "<|endoftext", "x" + " " * 30 + "y", "\r\n\r\n x", " \n \n x", "\t\tif (x == 0) {\n", "=" * 70,
             "z" * 200, "the" * 40]
    parts = NOUNS + ADJECTIVES + [" ", "  ", "    ", "\n", "\r\n", "\t", "'s", "'LL", "é", "e\u0301", "\u0323", "12", "½", "日", "-", "…",
                                  "\u00a0", "\u3000", "<|endoftext|>", "<|padding|>", "(", "😀", "\u1100", "\u1161"]
    return fixed + ["".join(rng.choice(parts) for _ in range(rng.randrange(1, 25))) for _ in range(150)]


def write(name, tokenizer):
    (HERE / f"{name}.json").write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n")
    encoder = tokenizers.Tokenizer.from_str(json.dumps(tokenizer))
    with (HERE / f"{name}_cases.jsonl").open("w") as out:
        for text in texts():
            out.write(json.dumps({"text": text, "ids": encoder.encode(text).ids}) + "\n")


def main():
    assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
    text = sample_text()
    (HERE / "sample.txt").write_bytes(text.encode())
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.train_from_iterator([text], tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    trained = json.loads(made.to_str())
    write("trained", trained)

    like_neox = json.loads(json.dumps(trained))
    like_neox["normalizer"] = {"type": "NFC"}
    like_neox["model"]["merges"] = [" ".join(m) for m in like_neox["model"]["merges"]]
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    like_neox["added_tokens"].append({"id": VOCAB_SIZE, "content": "<|padding|>", **flags, "normalized": False, "special": True})
    for n in range(24, 1, -1):
        like_neox["added_tokens"].append({"id": VOCAB_SIZE + 25 - n, "content": " " * n, **flags, "normalized": True, "special": False})
    write("like_neox", like_neox)

    like_olmo2 = json.loads(json.dumps(trained))
    cl100k = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
              r"\s*[\r\n]+|\s+(?!\S)|\s+")
    like_olmo2["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": cl100k}, "behavior": "Removed", "invert": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}
    write("like_olmo2", like_olmo2)


main()
