#!/usr/bin/env python3
"""Measures what `cresco lint` finds and what it complains of without cause.

    python3 -m venv /tmp/power && /tmp/power/bin/pip install numpy
    CRESCO=build/cresco /tmp/power/bin/python tools/lint_power.py --folder /tmp/lint_power --out docs/lint_power.md

24 small GPT-NeoX models are trained for real on a seeded language: snapshots at powers of two, at irregular
and at even steps; stored as fp32, fp16 and bf16; at a learning rate and at four times that; some with a loss
spike (a few steps at 30 times the rate). Each has two siblings: the same initialisation on other data, and
another initialisation. Lint must be silent about all 72 of them. Then every kind of defect is put into each of
the 24 at a random place, and lint must say so: at the right step, and with an error or warning that is not
there without the defect. Trained runs are kept in --folder and used again.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess

import numpy

PROGRAM = os.environ.get("CRESCO", "build/cresco")
SIBLINGS = ("base", "other_data", "other_seed")


def run(*arguments, check=True):
    command = [PROGRAM, *map(str, arguments), "--quiet", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr.decode()}")
    return done


# --- trajectories by training ------------------------------------------------------------------

def write_corpus(folder):
    """Words of a Zipf law, each followed by one of a few: text that a small model learns something of."""
    chance = random.Random(7)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 3))) for _ in range(300)]
    weights = [1 / (i + 1) for i in range(len(words))]
    follow = [chance.choices(range(len(words)), weights, k=6) for _ in words]
    with (folder / "text.jsonl").open("w") as out:
        for _ in range(1500):
            at, text = chance.randrange(len(words)), []
            for _ in range(120):
                text.append(words[at])
                at = chance.choice(follow[at]) if chance.random() < 0.8 else \
                    chance.choices(range(len(words)), weights)[0]
            out.write(json.dumps({"text": " ".join(text)}) + "\n")
    run("tokenizer", "train", folder / "text.jsonl", "--vocab-size", 500, "--out", folder / "tokenizer.json")
    run("tokenize", folder / "text.jsonl", "--tokenizer", folder / "tokenizer.json", "--out", folder / "corpus")


RECIPE = """
model: {{vocab_size: 0, hidden_size: 48, num_hidden_layers: 3, num_attention_heads: 4, intermediate_size: 192,
        max_position_embeddings: 64, rotary_pct: 0.5}}
data: {{tokens: {corpus}, validation: 0.02, sequence_length: 32, seed: {order}}}
batch: {{sequences: 8}}
budget: {{steps: {until}}}
optimizer: {{lr: {lr}, betas: [0.9, 0.95], weight_decay: 0.1, grad_clip: 1.0}}
schedule: {{name: {schedule}, warmup_steps: {warmup}, decay_steps: {total}, min_lr_ratio: 0.1}}
snapshots: {{at: "{steps}", dtype: {dtype}}}
state: {{every: 100, keep: 2}}
eval: {{every: 0, tokens: 1000}}
log: {{every: 50}}
seed: {seed}
"""


def conditions():
    """What each of the 24 is trained with."""
    chance = random.Random(11)
    plain = [(s, d, lr, False) for s in ("log2", "irregular", "linear") for d in ("fp32", "fp16", "bf16")
             for lr in (1, 4)]
    spiked = [(s, d, 1, True) for s in ("log2", "irregular", "linear") for d in ("fp32", "fp16")]
    for number, (kind, dtype, lr, spike) in enumerate(plain + spiked):
        total = {"log2": 512, "irregular": 600, "linear": 400}[kind]
        if kind == "log2":
            steps = [0] + [2**i for i in range(10)]
        elif kind == "linear":
            steps = list(range(0, total + 1, 25))
        else:  # powers of two first, as Pythia has them, then anything
            steps = sorted({0, 1, 2, 4, 8, 16, *chance.sample(range(20, total), 10), total})
        yield {"name": f"{number:02}_{kind}_{dtype}_lr{lr}{'_spike' if spike else ''}", "kind": kind,
               "dtype": dtype, "lr": 3e-3 * lr, "spike": chance.randrange(total // 4, total // 2) if spike else 0,
               "steps": steps, "total": total, "warmup": 20 if number % 4 else 0, "seed": 100 + number,
               "schedule": ("cosine", "constant", "linear")[number % 3]}


def train(folder, corpus, condition, sibling):
    """One run; a spike is four steps at 30 times the rate, after which it goes on as before."""
    if (folder / "COMPLETE").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    settings = dict(condition, corpus=corpus / "corpus", order=condition["seed"] + (5000 * (sibling == "other_data")),
                    seed=condition["seed"] + 7000 * (sibling == "other_seed"),
                    steps=",".join(map(str, condition["steps"])))
    spike = condition["spike"]
    stages = [(spike, 1), (spike + 4, 30), (condition["total"], 1)] if spike else [(condition["total"], 1)]
    for until, factor in stages:
        recipe = folder.parent / f"{sibling}.yaml"
        recipe.write_text(RECIPE.format(**{**settings, "until": until, "lr": condition["lr"] * factor}))
        if (folder / "COMPLETE").exists():  # the next stage of the same run, at another rate
            (folder / "COMPLETE").unlink()
            own = (folder / "recipe.yaml").read_text().splitlines()
            last, last_factor = stages[stages.index((until, factor)) - 1]
            own = [line.replace(f"steps: {last}", f"steps: {until}") if line.strip() == f"steps: {last}" else
                   f"{line.split('lr:')[0]}lr: {condition['lr'] * factor!r}" if line.strip().startswith("lr:") else line
                   for line in own]
            (folder / "recipe.yaml").write_text("\n".join(own) + "\n")
        run("pretrain", recipe, "--out", folder)
    for path in (folder / "snapshots").iterdir():
        if int(path.name[4:]) not in condition["steps"]:  # a stage's last
            shutil.rmtree(path)


def make(folder):
    corpus = folder / "corpus"
    if not (corpus / "corpus.idx").exists():
        corpus.mkdir(parents=True, exist_ok=True)
        write_corpus(corpus)
    for condition in conditions():
        for sibling in SIBLINGS:
            (folder / condition["name"]).mkdir(exist_ok=True)
            train(folder / condition["name"] / sibling, corpus, condition, sibling)


# --- files ------------------------------------------------------------------------------------

TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read_tensors(path):
    """name -> (type, array in float32 for arithmetic)."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw = numpy.frombuffer(data[8 + size + begin:8 + size + end], TYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            raw = (raw.astype(numpy.uint32) << 16).view(numpy.float32)
        tensors[name] = (entry["dtype"], raw.astype(numpy.float32).reshape(entry["shape"]))
    return tensors


def write_tensors(path, tensors):
    header, chunks, at = {}, [], 0
    for name, (dtype, array) in tensors.items():
        if dtype == "BF16":  # to the nearest, ties to even
            bits = numpy.ascontiguousarray(array, numpy.float32).view(numpy.uint32)
            rounded = ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16).astype("<u2")
            raw = numpy.where(numpy.isfinite(array), rounded, (bits >> 16).astype("<u2")).tobytes()
        else:
            raw = array.astype(TYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(raw)]}
        chunks.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    replace(path, struct.pack("<Q", len(text)) + text + b"".join(chunks))


def replace(path, data):
    """The files of a copy are links to those of the original: a new file, never a write into one."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def distance(a, b):
    return sum(float(((a[n][1] - b[n][1])**2).sum()) for n in a) ** 0.5


class Case:
    """A copy of one trained run, to put one defect into."""

    def __init__(self, group, condition, folder, chance):
        self.group, self.folder, self.chance, self.remark = group, folder, chance, ""
        self.steps = condition["steps"]
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(group / "base", folder, copy_function=os.link)

    def file(self, step, sibling=None):
        return (self.group / sibling if sibling else self.folder) / "snapshots" / f"step{step}" / "model.safetensors"

    def tensors(self, step, sibling="base"):
        return read_tensors(self.file(step, sibling))

    def same(self, a, b, sibling="base"):
        return self.file(a, "base").read_bytes() == self.file(b, sibling).read_bytes()

    def any_step(self):
        return self.chance.choice(self.steps)

    def inner_step(self):
        """One with neighbours that are not its equals, on both sides."""
        return self.chance.choice([s for i, s in enumerate(self.steps) if 0 < i < len(self.steps) - 1 and s > 1])

    def two_steps(self):
        while True:
            a, b = self.chance.sample(self.steps, 2)
            if min(a, b) > 1 and not self.same(a, b):  # step 1 may equal step 0: its copies are no news
                return a, b


# --- defects: each changes the copy and returns the steps where lint has to say so ---------------

def duplicate(case):
    step, other = case.two_steps()
    while step <= 16 and other <= 16:  # the first steps of fp16 runs may be equal without a fault
        step, other = case.two_steps()
    replace(case.file(step), case.file(other).read_bytes())
    case.remark = f"step {other} at {step}"
    return [step]


def swapped_pair(case):
    a, b = case.two_steps()
    data = case.file(a).read_bytes(), case.file(b).read_bytes()
    replace(case.file(a), data[1])
    replace(case.file(b), data[0])
    return [a, b]


def swapped_neighbours(case):
    while True:
        i = case.chance.randrange(1, len(case.steps) - 1)
        a, b = case.steps[i], case.steps[i + 1]
        if a > 1 and not case.same(a, b):
            break
    data = case.file(a).read_bytes(), case.file(b).read_bytes()
    replace(case.file(a), data[1])
    replace(case.file(b), data[0])
    return [a, b]


def other_seed(case):
    step = case.any_step()
    replace(case.file(step), case.file(step, "other_seed").read_bytes())
    return [step]


def other_data(case, near=False):
    """Same initialisation, other data; `near`: while both runs are closer than a run to its own next step."""
    fitting = []
    for i, step in enumerate(case.steps):
        if i == 0 or case.same(step, step, "other_data"):
            continue
        own = case.tensors(step)
        beside = [distance(own, case.tensors(s)) for s in case.steps[i - 1:i] + case.steps[i + 1:i + 2]]
        if (distance(own, case.tensors(step, "other_data")) < min(beside)) == near:
            fitting.append(step)
    if not fitting:
        return None
    step = case.chance.choice(fitting)
    replace(case.file(step), case.file(step, "other_data").read_bytes())
    return [step]


def other_data_near(case):
    return other_data(case, near=True)


def mixed_shards(case):
    step, other = case.two_steps()
    own, foreign = case.tensors(step), case.tensors(other)
    names = list(own)
    first = set(names[:case.chance.randrange(3, len(names) - 3)])
    folder = case.file(step).parent
    case.file(step).unlink()
    write_tensors(folder / "model-00001-of-00002.safetensors", {n: foreign[n] for n in names if n in first})
    write_tensors(folder / "model-00002-of-00002.safetensors", {n: own[n] for n in names if n not in first})
    index = {n: f"model-0000{1 if n in first else 2}-of-00002.safetensors" for n in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return [step]


def foreign_tensor(case):
    while True:
        step, other = case.two_steps()
        own, foreign = case.tensors(step), case.tensors(other)
        name = case.chance.choice(list(own))
        if not numpy.array_equal(own[name][1], foreign[name][1]):
            break
    write_tensors(case.file(step), {**own, name: foreign[name]})
    case.remark = f"{name} of step {other} at {step}"
    return [step]


def put_number(case, number):
    step = case.any_step()
    tensors = case.tensors(step)
    name = case.chance.choice(list(tensors))
    array = tensors[name][1].copy()
    array.flat[case.chance.randrange(array.size)] = number
    write_tensors(case.file(step), {**tensors, name: (tensors[name][0], array)})
    return [step]


def nan(case):
    return put_number(case, numpy.nan)


def infinity(case):
    return put_number(case, case.chance.choice([numpy.inf, -numpy.inf]))


def truncated(case):
    step = case.any_step()
    data = case.file(step).read_bytes()
    replace(case.file(step), data[:case.chance.randrange(1, len(data))])
    return [step]


def wrong_type(case):
    step = case.any_step()
    tensors = case.tensors(step)
    own = next(iter(tensors.values()))[0]
    other = case.chance.choice([t for t in TYPES if t != own])
    chosen = list(tensors) if case.chance.random() < 0.5 else [case.chance.choice(list(tensors))]
    write_tensors(case.file(step), {n: (other if n in chosen else t, a) for n, (t, a) in tensors.items()})
    return [step]


def wrong_shape(case):
    step = case.any_step()
    tensors = case.tensors(step)
    name = case.chance.choice(list(tensors))
    dtype, array = tensors[name]
    write_tensors(case.file(step), {**tensors, name: (dtype, array[:-1])})
    return [step]


def missing_tensor(case):
    step = case.any_step()
    tensors = case.tensors(step)
    tensors.pop(case.chance.choice(list(tensors)))
    write_tensors(case.file(step), tensors)
    return [step]


def edit_config(case, step, **changes):
    path = case.file(step).parent / "config.json"
    replace(path, json.dumps({**json.loads(path.read_text()), **changes}).encode())


def untied(case):
    """Every config says that the head is the embedding, and the stored head is not."""
    for step in case.steps:
        edit_config(case, step, tie_word_embeddings=True)
    return case.steps


def wrong_config(case):
    step = case.any_step()
    key = case.chance.choice(["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "rotary_pct",
                              "intermediate_size", "layer_norm_eps", "use_parallel_residual"])
    values = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2, "vocab_size": 480,
              "rotary_pct": 0.25, "intermediate_size": 128, "layer_norm_eps": 1e-6, "use_parallel_residual": False}
    edit_config(case, step, **{key: values[key]})
    return [step]


def foreign_tokenizer(case):
    path = case.folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": 700, "content": "<|more|>"})
    replace(path, json.dumps(tokenizer).encode())
    return case.steps


def foreign_state(case):
    """The last state is that of another step, or of another run at this step."""
    last = case.folder / "state" / f"step{case.steps[-1]}"
    if case.chance.random() < 0.5:
        earlier = min((case.folder / "state").iterdir(), key=lambda path: int(path.name[4:]))
        source = earlier
    else:
        source = case.group / case.chance.choice(SIBLINGS[1:]) / "state" / last.name
    for path in source.iterdir():
        replace(last / path.name, path.read_bytes())
    return [case.steps[-1]]


def noise(case, amount=1.5):
    """White noise on every tensor, `amount` times as long as its way to the farther neighbour."""
    step = case.inner_step()
    at = case.steps.index(step)
    tensors = case.tensors(step)
    beside = [case.tensors(case.steps[at - 1]), case.tensors(case.steps[at + 1])]
    random_numbers = numpy.random.default_rng(case.chance.randrange(1 << 30))
    changed = {}
    for name, (dtype, array) in tensors.items():
        far = max(numpy.linalg.norm(array - b[name][1]) for b in beside)
        added = random_numbers.standard_normal(array.shape) * amount * far / array.size**0.5
        changed[name] = (dtype, (array + added).astype(numpy.float32))
    write_tensors(case.file(step), changed)
    return [step]


def scaled(case):
    step = case.any_step()
    factor = case.chance.choice([0.5, 0.8, 1.25, 2])
    case.remark = f"{factor} at {step}"
    write_tensors(case.file(step), {n: (t, a * numpy.float32(factor)) for n, (t, a) in case.tensors(step).items()})
    return [step]


DEFECTS = {
    duplicate: "copy of another step", mixed_shards: "first shard of another step",
    foreign_tensor: "one tensor of another step", swapped_pair: "two steps exchanged",
    swapped_neighbours: "two neighbours exchanged", other_seed: "snapshot of a run with another initialisation",
    other_data: "snapshot of a run with other data", noise: "white noise, 1.5 times the farther neighbour's distance",
    scaled: "scaled by 0.5, 0.8, 1.25 or 2", nan: "a NaN", infinity: "an infinity", truncated: "truncated file",
    wrong_type: "other number type", wrong_shape: "a row too few", missing_tensor: "missing tensor",
    untied: "tied in config, not in the file", wrong_config: "config of another model",
    foreign_tokenizer: "tokenizer of another model", foreign_state: "optimizer state of another step or run",
    other_data_near: "(not required) as above, while both runs are still closer than a step",
}


def lint(folder):
    done = run("lint", folder, "--json", check=False)
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(f"lint {folder}: {done.stderr.decode()}")
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0), folder
    return [f for f in report["findings"] if f["level"] in ("error", "warning")]


def measure(folder, only=None):
    clean, false_alarms = 0, []
    groups = [(folder / c["name"], c) for c in conditions()]
    for group, condition in groups if not only else []:
        for sibling in SIBLINGS:
            clean += 1
            false_alarms += [f"{group.name}/{sibling}: {f['level']} {f['code']} at {f['step']}"
                             for f in lint(group / sibling)]
    rows = {}
    for defect in DEFECTS:
        if only and defect.__name__ not in only:
            continue
        row = rows[defect] = {"found": 0, "total": 0, "missed": [], "codes": collections.Counter(), "others": 0}
        for number, (group, condition) in enumerate(groups):
            case = Case(group, condition, folder / "case", random.Random(f"{defect.__name__} {number}"))
            wrong = defect(case)
            if wrong is None:
                continue
            findings = lint(case.folder)
            said = {f["step"] for f in findings}
            row["total"] += 1
            if set(wrong) <= said or (defect is foreign_tokenizer and findings):
                row["found"] += 1
            else:
                row["missed"].append(f"{condition['name'][3:]} at {', '.join(map(str, wrong))} {case.remark}".strip())
            row["codes"].update({f["code"] for f in findings if f["step"] in wrong})
            row["others"] += bool(said - set(wrong) - {None})
        print(f"{defect.__name__}: {row['found']}/{row['total']} {dict(row['codes'])} others {row['others']}", *row["missed"],
              sep="\n    ", flush=True)
    shutil.rmtree(folder / "case", ignore_errors=True)
    return clean, false_alarms, rows


def page(clean, false_alarms, rows):
    lines = ["# How well `cresco lint` finds what is wrong", "",
             "Made by `CRESCO=build/cresco python tools/lint_power.py --folder DIR --out docs/lint_power.md`; the script says how.", "",
             f"Clean trajectories with a false alarm (an error or a warning): **{len({a.split(':')[0] for a in false_alarms})} "
             f"of {clean}**.", ""]
    lines += [f"- {alarm}" for alarm in false_alarms]
    lines += ["| defect | found at the right step | said as | other steps blamed as well |", "|---|---|---|---|"]
    for defect, row in rows.items():
        codes = ", ".join(f"`{code}` {count}" for code, count in row["codes"].most_common())
        lines.append(f"| {DEFECTS[defect]} | {row['found']}/{row['total']} | {codes} | {row['others']} |")
    missed = [(DEFECTS[d], m) for d, row in rows.items() for m in row["missed"]]
    if missed:
        lines += ["", "Missed:", ""] + [f"- {what}: {which}" for what, which in missed]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="trained runs, made when they are missing")
    parser.add_argument("--out", type=pathlib.Path, help="the page to write")
    parser.add_argument("--only", nargs="*", help="some defects by their function's name; no page is written")
    arguments = parser.parse_args()
    make(arguments.folder)
    clean, false_alarms, rows = measure(arguments.folder, arguments.only)
    print(f"false alarms on {clean} clean trajectories:", *false_alarms, sep="\n    ")
    if arguments.out and not arguments.only:
        arguments.out.write_text(page(clean, false_alarms, rows) + NOTES)


NOTES = """
## What this does and does not show

The thresholds were chosen on these trajectories, so the table says that the statistics separate, not how they do on
models of another kind: nothing larger than these (3 layers, width 48) was at hand with its true steps. A clean trajectory
that is reported, or a defect that is not, is worth a report.

A defect counts as found when every step it touches has an error or warning. A spike is four updates at 30 times the
learning rate.

Not found, and not required above:

- A snapshot of the same initialisation on other data while the two runs are still closer to each other than a run is to its own
  next snapshot (the last row): during a warm-up all data push the weights the same way.
- Two steps exchanged, or one copied to the other, of which one equals step 0: that step 1 equals step 0 is no fault, so their copies are no news.
- The first snapshot altered in a way that keeps its correlation with the others: it has nothing before it. Noise is
  put on inner snapshots only.
- White noise much smaller than the way from one snapshot to the next: it cannot be told from the noise of training.
- Which of two steps with an equal tensor is the wrong one, where snapshots lie close together or at the end: then the error may stand at
  the other of the two (both misses of a single tensor are of this kind), and its message names both.
- A state whose step has no snapshot is compared by its counters only.
"""


if __name__ == "__main__":
    main()
