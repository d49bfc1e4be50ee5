#!/usr/bin/env python3
"""A training step of a recipe's model: `cresco bench pretrain` beside Hugging Face transformers on PyTorch, in one run.

    tools/setup_peers
    .deps/peers/bin/python bench/peers/pretrain_peer.py --cresco build/cresco [--rounds 5] [--out REPORT.md]

For each model `cresco bench pretrain --write-start` writes weights and a batch of random ids. From these every side makes steps: gradients
zeroed or dropped, forward, loss, backward, clipping, AdamW. A side is a process a round, rounds alternate between all sides, and nothing
but steps is on its clock. The peer is pretrain_torch.py, eager, as installed and with glibc's allocator told to keep its memory; it takes
all cores, with threads that spin or sleep while they wait, and AdamW fused or foreach, whichever is quicker.

The loss of the first step and the weights after it are compared: |loss - loss'| / loss', and the share of numbers whose updates differ by
more than a hundredth of the learning rate. Adam's first update is g / (|g| + eps), a sign but for gradients that are next to nothing (the
keys' biases have none but rounding's), so the share tells more than norms, which stand beside it. The program fails where in fp32 losses
are further apart than 1e-5, or more than one update in 10,000 differs.
"""
import argparse
import datetime
import pathlib
import statistics
import sys
import tempfile
import textwrap

import numpy
from safetensors import safe_open

from side_by_side import DEPS, HERE, SLEEPING, machine, run, short_processor

ROOT = HERE.parent.parent
TUNED = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1099511627776"}
# Name, recipe, and what is wanted of tokens/s: over the peer as installed in fp32, over the tuned one, over bf16 as installed.
MODELS = {"14m": ("recipes/pythia/14m.yaml", 1.9, 1.15, 2.2), "31M": ("recipes/recipe-control.yaml", 1.6, 1.15, 1.7)}
WANTED_MEMORY = 0.5
LOSS_APART, UPDATES_APART = 1e-5, 1e-4


class Side:
    def __init__(self, name, precision, tuned=False):
        self.name, self.precision, self.tuned = name, precision, tuned
        self.env = dict(TUNED) if tuned else {}
        self.more = []
        self.rounds, self.found = [], {}

    def label(self):
        parts = [self.name, self.precision, "" if self.name == "cresco" else "tuned" if self.tuned else "as installed",
                 "sleeping threads" if "OMP_WAIT_POLICY" in self.env else "", *self.more[1:]]
        return ", ".join(part for part in parts if part)

    def measure(self, model, start, arguments, updated=None):
        more = ["--updated", updated] if updated else []
        if self.name == "cresco":
            found = run(model.command(arguments, "--precision", self.precision, "--repeats", arguments.repeats, *more))
            found["ms"], found["processor_ms"] = [found["ms_per_step"]], [found["processor_ms_per_step"]]
        else:
            found = run([DEPS / "peers/bin/python", HERE / "pretrain_torch.py", start, "--precision", self.precision, "--seconds",
                         arguments.seconds, *self.more, *more], self.env)
        print(f"  {self.label()}: {statistics.median(found['ms']):.1f} ms, {statistics.median(found['processor_ms']):.1f} of processors",
              file=sys.stderr)
        return found

    def try_settings(self, model, start, arguments, updated):
        """The first measurement, with the update; then whether a peer is quicker when its threads sleep."""
        if self.name != "cresco" and arguments.sleeping:
            self.env = self.env | SLEEPING
        self.found = self.measure(model, start, arguments, updated)
        if self.name == "cresco":
            return
        self.more = ["--adamw", self.found["adamw"]]
        if arguments.sleeping:
            return
        spinning, self.env = self.env, self.env | SLEEPING
        if min(self.measure(model, start, arguments)["ms"]) > min(self.found["ms"]):
            self.env = spinning

    def measure_round(self, model, start, arguments):
        found = self.measure(model, start, arguments)
        self.rounds.append(found)
        self.found["peak_bytes"] = found["peak_bytes"]  # of a process that has tried nothing

    def median(self, what="ms"):
        return statistics.median(statistics.median(found[what]) for found in self.rounds)

    def tokens_per_second(self):
        return self.found["tokens"] / self.median() * 1e3


class Model:
    def __init__(self, name, recipe):
        self.name, self.recipe = name, ROOT / recipe

    def command(self, arguments, *more):
        return [arguments.cresco, "bench", "pretrain", self.recipe, "--sequences", arguments.sequences, "--data.sequence_length",
                arguments.length, "--data.window", "overlap", "--data.order", "shuffled", "--data.validation", "0.1", *more, "--json",
                "--quiet"]


def tensors_of(path):
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name).astype(numpy.float64) for name in file.keys()}


def compare_updates(lr, ours, theirs):
    """The worst tensor's relative difference, and the share of all numbers whose updates differ by more than lr / 100."""
    worst, differ, count = (0, ""), 0, 0
    for name, other in theirs.items():
        worst = max(worst, (numpy.linalg.norm(ours[name] - other) / numpy.linalg.norm(other), name))
        differ += numpy.count_nonzero(abs(ours[name] - other) > lr / 100)
        count += other.size
    return worst, differ / count


def compare(model, folder, arguments):
    start = folder / f"{model.name}.safetensors"
    run(model.command(arguments, "--write-start", start, "--precision", "fp32"))
    sides = [Side(name, precision, tuned) for precision in arguments.precisions
             for name, tuned in (("cresco", False), ("transformers", False), ("transformers", True))]
    with safe_open(start, framework="numpy") as file:
        lr = float(file.metadata()["lr"])
    ours = {}
    for side in sides:
        out = folder / "updated.safetensors"
        side.try_settings(model, start, arguments, out)
        if side.name == "cresco":
            ours[side.precision] = tensors_of(out), side.found["loss"]
        else:
            updated, loss = ours[side.precision]
            side.apart = *compare_updates(lr, updated, tensors_of(out)), abs(loss - side.found["loss"]) / side.found["loss"]
        out.unlink()
    for _ in range(arguments.rounds):
        for side in sides:
            side.measure_round(model, start, arguments)
    return sides


def disagreements_of(model, sides):
    for side in sides:
        if side.name != "cresco" and side.precision == "fp32":
            _, differ, loss = side.apart
            if loss > LOSS_APART or differ > UPDATES_APART:
                yield f"{model.name}, {side.label()}: {differ:.1e} of the updates differ; losses are {loss:.1e} apart"


def section(model, sides, wanted):
    as_installed, tuned, bf16 = wanted
    yield f"## {model.name}"
    yield ""
    head = ["", "tokens/s", "ms a step", "processor ms", "spread of rounds", "peak MB", "ours is quicker", "wanted", "memory of ours",
            "loss apart", "weights apart", "updates that differ"]
    yield "| " + " | ".join(head) + " |"
    yield "|---|" + "---:|" * (len(head) - 1)
    for side in sides:
        medians = [statistics.median(found["ms"]) for found in side.rounds]
        cells = [side.label(), f"{side.tokens_per_second():,.0f}", f"{side.median():.1f}", f"{side.median('processor_ms'):.1f}",
                 f"{min(medians):.0f} – {max(medians):.0f}", f"{side.found['peak_bytes'] / 1e6:,.0f}"]
        ours = next(other for other in sides if other.name == "cresco" and other.precision == side.precision)
        if side is ours:
            cells += [""] * 6
        else:
            goal = (tuned if side.tuned else as_installed) if side.precision == "fp32" else (None if side.tuned else bf16)
            (apart, name), differ, loss = side.apart
            # Round by round, so that what else the machine did counts on both sides.
            ratio = statistics.median(statistics.median(theirs["ms"]) / statistics.median(own["ms"])
                                      for theirs, own in zip(side.rounds, ours.rounds))
            cells += [f"{ratio:.2f}", f"{goal}" if goal else "–", f"{ours.found['peak_bytes'] / side.found['peak_bytes']:.2f}",
                      f"{loss:.1e}", f"{apart:.1e} ({name.rpartition('gpt_neox.')[2]})", f"{differ:.1e}"]
        yield "| " + " | ".join(cells) + " |"
    yield ""
    for side in sides:
        if side.name == "cresco":
            phases = {name: statistics.median(found["phases"][name] for found in side.rounds) for name in side.rounds[0]["phases"]}
            yield (f"Ours in {side.precision}: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in phases.items()) +
                   f"; {statistics.median(found['effective_gflops'] for found in side.rounds):.0f} effective GFLOP/s.")
    yield ""


def heading(arguments, versions):
    yield f"# A pretraining step beside transformers, {datetime.date.today():%B %Y}"
    yield ""
    yield textwrap.fill(machine(versions), 130)
    yield ""
    yield "    bench/peers/pretrain_peer.py " + " ".join(sys.argv[1:])
    yield ""
    yield textwrap.fill(
        f"{arguments.sequences} × {arguments.length} random ids a step; gradients zeroed or dropped, forward, loss, backward, clipping, AdamW. "
        f"Medians over {arguments.rounds} rounds, which alternate between all rows of a table; ratios are medians of each round's own. "
        "\"Processor ms\" is what all threads of the process have computed in a step: beside other work on the machine it says more than "
        "the clock. Memory is the largest resident size of the process, with its libraries. Wanted of memory: at most "
        f"{WANTED_MEMORY}. \"Tuned\": " + ", ".join(f"{name}={value}" for name, value in TUNED.items()) + ".", 130)
    yield ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cresco", required=True, type=pathlib.Path)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=7, help="our steps a round")
    parser.add_argument("--seconds", type=float, default=6, help="a peer's time a round, for at least three steps")
    parser.add_argument("--sleeping", action="store_true", help="the peer's threads only sleep: on a machine that does other things, too")
    parser.add_argument("--out", type=pathlib.Path, help="the report; bench/results/pretrain_<cpu>_<YYYY-MM>.md when left out")
    arguments = parser.parse_args()
    if not arguments.out:
        arguments.out = HERE.parent / "results" / f"pretrain_{short_processor()}_{datetime.date.today():%Y-%m}.md"

    sections, versions, disagreements = [], {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            recipe, *wanted = MODELS[name]
            model = Model(name, recipe)
            print(name, file=sys.stderr)
            sides = compare(model, pathlib.Path(folder), arguments)
            disagreements += disagreements_of(model, sides)
            for side in sides:
                versions |= side.found.get("versions", {})
            sections += section(model, sides, wanted)
            arguments.out.write_text("\n".join([*heading(arguments, versions), *sections]))
    print(arguments.out)
    if disagreements:
        sys.exit("\n".join(disagreements))


if __name__ == "__main__":
    main()
