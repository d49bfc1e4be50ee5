#!/usr/bin/env python3
"""A training step of the crosscoder: `cresco bench crosscoder` beside PyTorch and llamascopium, in one run.

    tools/setup_peers llamascopium
    .deps/peers/bin/python bench/peers/crosscoder_peer.py --cresco build/cresco [--folder STATES] [--out REPORT.md]
    .deps/peers/bin/python bench/peers/crosscoder_peer.py --peer-only --phases dense --shapes 8,64,2048,1024

For each shape and phase one state (parameters, Adam's moments, a batch) is written by `cresco bench crosscoder --write-state`, or by
Python with --peer-only. From it every side makes one step, and the updates are compared; then each is timed on further steps from
that state, in rounds that alternate. A side is a process a round, and nothing but steps is on its clock. The peers are those of
crosscoder_torch.py, each as installed and tuned: glibc's allocator told to keep its memory and to ask for large pages.

The peers get every core. Each is first tried with threads that spin while they wait, as OpenMP's do, and with threads that sleep, and
goes into the rounds with the quicker. What is tuned also takes denormals for zero, of which the moments of silent features are full.

An update is compared in float64, per tensor: ||dp - dp'|| / ||dp'||. Three figures: as it is; without features that have a gate
within 4e-6 of its threshold, where rounding decides whether it fires, and without differences of one unit in the last place of
the parameter (the log thresholds move by some twenty such units); and from the same step in float64, as it is. llamascopium rounds
once a head and again where its norms cancel, which moves it up to 2e-4 from its own step in float64 (that one is eager's to the
last bit of fp32). So the program fails where the second figure is above 1e-4, or, for llamascopium, above ours from float64.
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

PEERS = ("llamascopium", "eager", "compiled")
SHAPES = ("8,64,2048,1024", "16,128,4096,1024", "32,256,4096,512")
FEATURE_AXIS = {"W_E": 2, "b_E": 1, "W_D": 1, "b_D": None, "activation_function.log_jumprelu_threshold": 0}
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000", "MALLOC_TOP_PAD_": "268435456",
         "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
TOLERANCE = 1e-4


class Side:
    """What is measured: ours, or a peer with its settings. `rounds` holds the times of its steps in ms, a list for each round."""

    def __init__(self, name, precision, tuned=False):
        self.name, self.precision, self.tuned = name, precision, tuned
        self.env = dict(TUNED) if tuned else {}
        self.rounds, self.found, self.update = [], {}, None

    def label(self):
        parts = [self.name, "bf16" if self.precision == "bf16" else "", "tuned" if self.tuned else "",
                 "sleeping threads" if "OMP_WAIT_POLICY" in self.env else ""]
        return ", ".join(part for part in parts if part)

    def measure(self, state, arguments, updated=None):
        more = ["--updated", updated] if updated else []
        if self.name == "cresco":
            more += ["--precision", "bf16"] if self.precision == "bf16" else []
            found = run([arguments.cresco, "bench", "crosscoder", "--state", state, *more, "--json", "--quiet"])
            found.setdefault("ms", [found["ms_per_step"]])
        else:
            python = DEPS / ("peers_llamascopium" if self.name == "llamascopium" else "peers") / "bin/python"
            more += ["--flush-denormal"] if self.tuned else []
            found = run([python, HERE / "crosscoder_torch.py", "step", self.name, state, "--seconds", arguments.seconds,
                         "--precision", self.precision, *more], self.env)
        print(f"  {self.label()}: {statistics.median(found['ms']):.1f} ms", file=sys.stderr)
        return found

    def try_settings(self, state, arguments, updated):
        """The first measurement, with the update; then whether a peer is quicker when its threads sleep."""
        self.found = self.measure(state, arguments, updated)
        if self.name != "cresco":
            spinning, self.env = self.env, self.env | SLEEPING
            if min(self.measure(state, arguments)["ms"]) > min(self.found["ms"]):
                self.env = spinning

    def ms(self):
        return statistics.median(statistics.median(times) for times in self.rounds)

    def least_ms(self):
        return min(min(times) for times in self.rounds)


def tensors_of(path):
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in FEATURE_AXIS}


def differences(start, update, other, features_at_threshold):
    """For each tensor the relative difference of two updated states, as it is and without what rounding decides."""
    found = {}
    for name, axis in FEATURE_AXIS.items():
        theirs = other[name].astype(numpy.float64) - start[name]
        apart = numpy.abs(update[name].astype(numpy.float64) - other[name])
        norm = numpy.linalg.norm(theirs)
        whole = numpy.linalg.norm(apart) / norm
        if axis is not None:
            numpy.moveaxis(apart, axis, 0)[features_at_threshold] = 0
        apart[apart <= numpy.spacing(numpy.abs(other[name]))] = 0
        found[name] = whole, numpy.linalg.norm(apart) / norm, int(numpy.count_nonzero(apart))
    return found


def worst(found, figure=0):
    return max(found.items(), key=lambda entry: entry[1][figure])


def sides_of(arguments):
    for precision in arguments.precisions:
        if not arguments.peer_only:
            yield Side("cresco", precision)
        for peer in arguments.peers:
            for tuned in (False, True) if precision == "fp32" else (True,):
                if not (tuned and peer in arguments.as_installed):
                    yield Side(peer, precision, tuned)


def make_state(shape, phase, folder, arguments):
    path = folder / f"crosscoder_{shape.replace(',', '_')}_{phase}{'_python' if arguments.peer_only else ''}.safetensors"
    if not path.exists():
        part = path.with_suffix(".part")
        if arguments.peer_only:
            updates, lr = (4, 5e-5) if phase == "dense" else (2400, 1e-3)
            run([sys.executable, HERE / "crosscoder_torch.py", "start", part, "--shape", shape, "--updates", updates, "--lr", lr],
                TUNED | SLEEPING)
        else:
            more = ["--active", "0.015", "--train-steps", arguments.train_steps] if phase == "sparse" else []
            run([arguments.cresco, "bench", "crosscoder", "--shape", shape, *more, "--write-state", part, "--json",
                 "--quiet"])
        part.rename(path)
    return path


def compare(state, folder, arguments):
    """All sides from one state: measured, and with their updates read."""
    sides = list(sides_of(arguments))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for side in sides:
            out = pathlib.Path(place, "updated.safetensors")
            side.try_settings(state, arguments, out)
            side.update = tensors_of(out)
            out.unlink()
        exact = run([sys.executable, HERE / "crosscoder_torch.py", "step", "eager", state, "--precision", "fp64", "--seconds", 0,
                     "--updated", out], TUNED | SLEEPING)
        exact["update"] = tensors_of(out)
    start = tensors_of(state)
    ours = {side.precision: side for side in sides if side.name == "cresco"}
    for side in sides:
        at_threshold = exact["features_at_threshold"]
        side.from_exact = differences(start, side.update, exact["update"], at_threshold)
        if side.precision in ours and side.name != "cresco":
            side.from_ours = differences(start, ours[side.precision].update, side.update, at_threshold)
    for side in sides:
        side.update = None
    for _ in range(arguments.rounds):
        for side in sides:
            side.rounds.append(side.measure(state, arguments)["ms"])
    return sides, exact


def disagreements_of(sides):
    """What is said of each fp32 update that differs from ours by more than rounding, when ours is not that of float64 either."""
    fp32 = [side for side in sides if side.precision == "fp32"]
    ours = next((side for side in fp32 if side.name == "cresco"), None)
    for side in fp32:
        if ours is None or side is ours:
            continue
        for name, (whole, rest, count) in side.from_ours.items():
            far = ours.from_exact[name][1]
            text = (f"{side.label()}, {short(name)}: update from ours {whole:.1e}, without what rounding decides {rest:.1e} "
                    f"({count} elements); ours from float64 {far:.1e}")
            print("  " + text, file=sys.stderr)
            rounding = ours.from_exact[name][0] if side.name == "llamascopium" else 0
            if rest > max(TOLERANCE, rounding):
                yield text


def table(sides, precision, peer_only):
    rows = [side for side in sides if side.precision == precision]
    quickest = min((side for side in rows if side.name != "cresco"), key=Side.ms)
    ours = next((side for side in rows if side.name == "cresco"), None)
    head = ["", "ms a step", "least", "effective GFLOP/s", "peak MB"]
    head += [] if peer_only else ["ours is quicker", "update from ours", "without what rounding decides"]
    yield "| " + " | ".join(head + ["update from float64"]) + " |"
    yield "|---|" + "---:|" * len(head)
    for side in rows:
        cells = [side.label() + (" **(the quickest peer)**" if side is quickest and not peer_only else ""), f"{side.ms():.1f}",
                 f"{side.least_ms():.1f}", f"{side.flop / side.ms() / 1e6:.1f}", memory_of(side.found)]
        if not peer_only and side is ours:
            cells += ["1", "", ""]
        elif not peer_only:
            whole, rest = worst(side.from_ours), worst(side.from_ours, 1)
            cells += [f"{side.ms() / ours.ms():.2f}", f"{whole[1][0]:.1e} ({short(whole[0])})",
                      f"{rest[1][1]:.1e} ({short(rest[0])})"]
        far = worst(side.from_exact)
        yield "| " + " | ".join(cells + [f"{far[1][0]:.1e} ({short(far[0])})"]) + " |"
    if ours and "phases" in ours.found:
        yield ""
        yield "Ours, by phase: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in ours.found["phases"].items()) + "."


def memory_of(found):
    before = f" ({found['start_bytes'] / 1e6:,.0f})" if "start_bytes" in found else ""
    return f"{found['peak_bytes'] / 1e6:,.0f}{before}"


def short(name):
    return name.rpartition(".")[2].replace("log_jumprelu_threshold", "log threshold")


def section(shape, phase, state, sides, exact, peer_only):
    heads, width, features, rows = (int(part) for part in shape.split(","))
    for side in sides:
        side.flop = 10 * rows * heads * width * features
    with safe_open(state, framework="numpy") as file:
        how = file.metadata()["how"]
    yield f"## K = {heads}, d = {width}, D = {features:,}, B = {rows:,}: {phase}"
    yield ""
    yield textwrap.fill(f"The state: {how}. Mean L0 of the batch {exact['l0']:.1f}, {exact['l0'] / features:.1%} of D; "
                        f"{len(exact['features_at_threshold'])} features have a gate within 4e-6 of its threshold.", 130)
    for precision in dict.fromkeys(side.precision for side in sides):
        yield ""
        yield from table(sides, precision, peer_only)
    yield ""


def heading(arguments, versions):
    today = datetime.date.today()
    yield f"# The crosscoder's training step beside PyTorch, {today:%B %Y}"
    yield ""
    yield textwrap.fill(machine(versions), 130)
    yield ""
    yield "    bench/peers/crosscoder_peer.py " + " ".join(sys.argv[1:])
    yield ""
    yield textwrap.fill(
        f"A step: gradients dropped, forward, backward, Adam; the batch is in memory. Medians over {arguments.rounds} rounds, which "
        "alternate between all rows of a table; \"least\" is the quickest step of all. Effective GFLOP/s count five dense products, "
        "10·B·K·d·D, whatever is really computed. Memory is the largest resident size of the process in its first steps, with the "
        "libraries, and in brackets what it was before them. Updates: ‖dp−dp′‖/‖dp′‖ of the worst tensor, in float64; what rounding "
        "decides are features with a gate within 4e-6 of its threshold, and one unit in the last place of a parameter. How each peer "
        "was set up stands in crosscoder_peer.py and crosscoder_torch.py.", 130)
    yield ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cresco")
    parser.add_argument("--peer-only", action="store_true", help="from states made in Python, without ours")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="K,d,D,B")
    parser.add_argument("--phases", nargs="+", choices=["dense", "sparse"], default=["dense", "sparse"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--as-installed", nargs="+", choices=PEERS, default=[], help="peers that are not tuned, to save their time")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train-steps", type=int, default=2000, help="of the state of the sparse phase")
    parser.add_argument("--seconds", type=float, default=4, help="a peer's time a round, for at least three steps")
    parser.add_argument("--folder", type=pathlib.Path, help="keeps the states, and takes those that are there")
    parser.add_argument("--out", type=pathlib.Path,
                        help="the report; bench/results/crosscoder_<cpu>_<YYYY-MM>.md, or printed with --peer-only")
    arguments = parser.parse_args()
    if not arguments.peer_only and not arguments.cresco:
        parser.error("--cresco PROGRAM or --peer-only")
    if not arguments.out and not arguments.peer_only:
        arguments.out = HERE.parent / "results" / f"crosscoder_{short_processor()}_{datetime.date.today():%Y-%m}.md"

    sections, versions, disagreements = [], {}, []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for shape in arguments.shapes:
            for phase in arguments.phases:
                print(f"{shape} {phase}", file=sys.stderr)
                state = make_state(shape, phase, folder, arguments)
                sides, exact = compare(state, folder, arguments)
                disagreements += disagreements_of(sides)
                for side in sides:
                    versions |= side.found.get("versions", {})
                sections += section(shape, phase, state, sides, exact, arguments.peer_only)
                report = "\n".join([*heading(arguments, versions), *sections])
                if arguments.out:
                    arguments.out.write_text(report)
                if not arguments.folder:
                    state.unlink()
    print(report if not arguments.out else arguments.out)
    if disagreements:
        sys.exit("\n".join(disagreements))


if __name__ == "__main__":
    main()
