#!/usr/bin/env python3
"""`cresco eval` and `cresco match` at the sizes they are made for, with their memory watched and their numbers checked.

    .deps/peers/bin/python bench/full_size.py --cresco build/cresco --folder FOLDER [--parts eval,match] [--keep] [--out REPORT.json]

The inputs are synthetic and functions of the shapes alone; they are written piece by piece, so that making them takes little memory.

eval: a stack of V x K x d in which every row is a sparse sum of F/2 directions that turn and grow over the snapshots, about a mean that
drifts, with noise; and a dictionary of F features, half of them these directions a little off, half directions that the stack does not
have. Its numbers under every definition are checked on a small stack of the same kind (--check-rows) against a plain float64 program
below, once with the program's own blocks and once with blocks of a few rows.

match: two dictionaries of F features at K heads of d numbers, in which a part of the second's are the first's in another order, at
cosines from 1 down to nothing; the encoder, which match never reads, is a hole in the file. Nearest features, cosines and which are mutual are
checked against all products by numpy in float32 (--brute-force all), or of --sample rows of the first with all of the second in float64.

Memory: /proc/PID/status is read while the program runs: VmHWM, and the largest RssAnon and RssFile. Time: wall, and user and system
time, which other work on the machine moves less. The floor is what the products alone would take by numpy's own, measured here, in CPU seconds.
"""
import argparse
import csv
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import threading
import time

import numpy

GIB = 1 << 30
PIECE = 1024  # rows that are made together


def write_safetensors(path, tensors, metadata, pieces):
    """`tensors`: {name: (dtype, shape)}; `pieces` yields (name, array) in that order, parts of a tensor one after the other. A tensor
    without any is a hole in the file: zeros that take no room."""
    size = {"F32": 4, "BF16": 2}
    header, offset = {"__metadata__": metadata} if metadata else {}, 0
    offsets = {}
    for name, (dtype, shape) in tensors.items():
        end = offset + size[dtype] * int(numpy.prod(shape))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offsets[name], offset = offset, end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        file.truncate(start + offset)
        for name, array in pieces:
            file.seek(start + offsets[name])
            data = numpy.ascontiguousarray(array, "<f4")
            if tensors[name][0] == "BF16":  # to nearest, ties to even
                bits = data.view("<u4")
                data = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
            file.write(data.data)
            offsets[name] = file.tell() - start


def write_dictionary(folder, name, tensors, pieces, steps, activation, training):
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / f"{name}.safetensors", tensors, {}, pieces)
    (folder / f"{name}.config.json").write_text(json.dumps({
        "kind": "cross-snapshot", "model_name": "synthetic", "matrix": "W_U", "steps": steps, "seed": 0,
        "config": activation, "training": training}))
    return folder / f"{name}.safetensors"


def unit(rows):
    return rows / numpy.linalg.norm(rows, axis=-1, keepdims=True)


class Planted:
    """The stack's directions and the dictionary that nearly knows them. x[v,k] = mean[k] + sum_j code[v,j] direction[k,j] + noise."""

    NOISE = 0.3  # its deviation by that of the rest
    POOL = 1 << 24  # normal numbers, of which each piece takes some that follow each other

    def __init__(self, rows, heads, width, features):
        self.rows, self.heads, self.width, self.features = rows, heads, width, features
        self.steps = [1000 * k for k in range(1, heads + 1)]
        self.planted = features // 2
        rng = numpy.random.default_rng(1)
        draw = lambda *shape: rng.standard_normal(shape, dtype=numpy.float32)
        self.start, self.end = unit(draw(features, width)), unit(draw(features, width))
        self.off = unit(draw(features, width))
        self.birth = rng.uniform(0, 0.7, features).astype("f4")
        self.mean = draw(2, width)
        self.open = 16 / self.planted  # the share of rows with a code
        codes = self.codes(numpy.random.default_rng(2), 1 << 14)
        self.code_mean = float(codes.mean())
        variance = float(codes.var()) * numpy.array([numpy.square(self.size(k)[:self.planted]).sum() for k in range(heads)]) / width
        self.noise = self.NOISE * numpy.sqrt(variance)
        self.scale = numpy.sqrt(variance + self.noise ** 2)  # near what center_scale will find
        self.pool = draw(self.POOL)

    def codes(self, rng, count):
        is_open = rng.random((count, self.planted), dtype=numpy.float32) < self.open
        return numpy.where(is_open, 1 + 0.25 * rng.standard_normal((count, self.planted), dtype=numpy.float32), 0).astype("f4")

    def size(self, k):  # the length of the features' directions at a snapshot: they are born one after the other
        return (0.2 + 1 / (1 + numpy.exp(-12 * (k / max(self.heads - 1, 1) - self.birth)))).astype("f4")

    def directions(self, k, off=0.0):
        turn = numpy.float32(0.5 * k / max(self.heads - 1, 1))
        return unit((1 - turn) * self.start + turn * self.end + numpy.float32(off) * self.off) * self.size(k)[:, None]

    def matrix(self, k):
        """The matrix of snapshot k, piece by piece."""
        mean = self.mean[0] + self.mean[1] * numpy.float32(k / self.heads)
        directions = numpy.vstack([self.directions(k)[:self.planted], mean])
        pool = self.pool * numpy.float32(self.noise[k])
        for v in range(0, self.rows, PIECE):
            count = min(PIECE, self.rows - v)
            codes = self.codes(numpy.random.default_rng([3, v]), count)  # the same at all snapshots
            piece = numpy.hstack([codes, numpy.ones((count, 1), "f4")]) @ directions
            start = numpy.random.default_rng([4, v, k]).integers(self.POOL - piece.size)
            piece += pool[start:start + piece.size].reshape(piece.shape)
            yield piece

    def write_stack(self, path, dtype):
        order = sorted(range(self.heads), key=lambda k: f"step_{self.steps[k]}")
        write_safetensors(path, {f"step_{self.steps[k]}": (dtype, (self.rows, self.width)) for k in order},
                          {"format": "cresco-stack", "version": "1", "model": "synthetic", "matrix": "W_U",
                           "steps": ",".join(map(str, self.steps)), "source_sha256": ",".join(["0" * 64] * self.heads)},
                          ((f"step_{self.steps[k]}", piece) for k in order for piece in self.matrix(k)))
        return path

    def write_dictionary(self, folder):
        K, d, F = self.heads, self.width, self.features
        lengths = numpy.array([self.size(k) / self.scale[k] for k in range(K)])  # of the directions in the scaled space
        norm = lengths.mean(0)
        code = numpy.where(numpy.arange(F) < self.planted, self.code_mean, 0).astype("f4") * norm  # its mean
        # A decoder row has a mean length near 1, and the code is as large as what it stands for.
        decoder = lambda k: self.directions(k, off=0.2) / (numpy.float32(self.scale[k]) * norm[:, None])

        def pieces():
            for k in range(K):
                yield "W_E", (decoder(k) * (norm / numpy.square(lengths).sum(0) * norm)[:, None]).T
            yield "b_E", numpy.repeat(code[None] / K, K, 0)
            for k in range(K):
                yield "W_D", decoder(k)
            for k in range(K):
                yield "b_D", -code @ decoder(k)
            yield "activation_function.log_jumprelu_threshold", numpy.log(0.35 * norm)
        return write_dictionary(folder, "planted", {
            "W_E": ("F32", (K, d, F)), "b_E": ("F32", (K, F)), "W_D": ("F32", (K, F, d)), "b_D": ("F32", (K, d)),
            "activation_function.log_jumprelu_threshold": ("F32", (F,))}, pieces(), self.steps,
            {"act_fn": "jumprelu", "d_sae": F, "d_model": d},
            {"batch_size": 1024, "d_sae": F, "expansion_factor": F / d, "input_preprocess": "center_scale"})


def read_tensors(path):
    """Memory-mapped float32 tensors of a file that this program wrote."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    read = {}
    for name, entry in header.items():
        begin, _ = entry["data_offsets"]
        kind = {"F32": "<f4", "BF16": "<u2"}[entry["dtype"]]
        read[name] = numpy.memmap(path, kind, "r", 8 + length + begin, tuple(entry["shape"]))
    return read


def widened(array):  # bfloat16 bits or float32, as float64
    if array.dtype == numpy.dtype("<u2"):
        array = (array.astype("<u4") << 16).view("<f4")
    return array.astype("f8")


def reference_quality(stack_path, dictionary_path, steps, batch):
    """Every number of `eval --definitions all` of a JumpReLU dictionary with center_scale, in float64, by its formula in docs/metrics.md."""
    stack, dictionary = read_tensors(stack_path), read_tensors(dictionary_path)
    threshold = numpy.exp(dictionary["activation_function.log_jumprelu_threshold"].astype("f8"))
    K, (V, d) = len(steps), stack[f"step_{steps[0]}"].shape
    F = len(threshold)

    def x_of(k):
        raw = widened(stack[f"step_{steps[k]}"])
        centred = raw - raw.mean(0)
        return centred / numpy.sqrt(max(numpy.square(centred).mean(), 1e-8))

    p = numpy.zeros((V, F)) + dictionary["b_E"].astype("f8").sum(0)
    for k in range(K):
        p += x_of(k) @ dictionary["W_E"][k].astype("f8")
    shared = numpy.where(p > threshold, p, 0)
    share = lambda error, all_: 1 - error / all_
    total = dict.fromkeys("error deviation square residual legacy".split(), 0.0)
    open_V, error_V, shared_open = numpy.zeros(V), numpy.zeros(V), numpy.zeros(F)
    snapshots, rates, near = [], [], 0
    batches = range(0, V, batch)
    sums = numpy.zeros((3, len(batches)))  # squared error, sum and sum of squares of x, which has mean 0
    for k in range(K):
        x, W_D, b_D = x_of(k), dictionary["W_D"][k].astype("f8"), dictionary["b_D"][k].astype("f8")
        gate = p * numpy.linalg.norm(W_D, axis=1)
        near += int((numpy.abs(gate - threshold) < 2e-6 * threshold).sum())
        is_open = gate > threshold
        e = numpy.where(is_open, p, 0) @ W_D + b_D - x
        e2 = shared @ W_D + b_D - x
        column = x - x.mean(0)
        rate = is_open.mean(0)
        rates.append(rate)
        row_error, row_deviation = numpy.square(e).sum(1), numpy.square(column).sum(1)
        row = {"error": row_error.sum(), "deviation": row_deviation.sum(), "square": numpy.square(x).sum(),
               "residual": numpy.square(e - e.mean(0)).sum(), "legacy": (row_error / row_deviation).mean()}
        for key, value in row.items():
            total[key] += value
        sums += [[values[b:b + batch].sum() for b in batches] for values in (row_error, x.sum(1), numpy.square(x).sum(1))]
        open_V += is_open.sum(1)
        shared_open += (shared > 0).sum(0)
        snapshots.append({
            "step": steps[k], "explained_variance": share(row["error"], row["deviation"]), "l0": rate.sum(),
            "dead_rate_1e-4": (rate < 1e-4).mean(), "reconstruction_mse": row["error"] / V / d,
            "explained_variance_canon": share(row["error"], row["square"]),
            "explained_variance_phase_plane": share(e.var(), x.var()), "explained_variance_phase2": share(e2.var(), x.var()),
            "nrmse_phase2": numpy.linalg.norm(e2) / numpy.linalg.norm(x), "l0_phase2": (shared > 0).sum() / V,
            "fvu": row["error"] / row["deviation"], "explained_variance_saelens_legacy": 1 - row["legacy"],
            "frac_variance_explained": share(row["residual"], row["deviation"]), "dead_rate_1e-6": (rate <= 1e-6).mean(),
            "dead_rate_never": (rate == 0).mean()})
    sizes = numpy.array([min(batch, V - b) for b in batches]) * K
    numbers, largest = sizes * d, numpy.max(rates, axis=0)
    variance = (sums[2] - sums[1] ** 2 / numbers) / (numbers - 1)
    opened = numpy.array([open_V[b:b + batch].sum() for b in batches])
    pooled = {
        "explained_variance_pooled": share(total["error"], total["square"]),  # every column has mean 0, so all numbers have
        "l0": open_V.sum() / V / K, "reconstruction_mse": total["error"] / V / K / d,
        "dead_rate_1e-6": (numpy.mean(rates, axis=0) <= 1e-6).mean(),
        "explained_variance_batch": share((sums[0] / numbers).sum(), variance.sum()),
        "reconstruction_mse_batch": (sums[0] / numbers).mean(), "l0_batch": (opened / sizes).mean(),
        "explained_variance_canon": share(total["error"], total["square"]), "l0_phase2": shared_open.sum() / V / K,
        "explained_variance_saelens": share(total["error"], total["deviation"]),
        "explained_variance_saelens_legacy": 1 - total["legacy"] / K,
        "frac_variance_explained": share(total["residual"], total["deviation"]), "fvu": total["error"] / total["deviation"],
        "dead_rate_max_1e-4": (largest < 1e-4).mean(), "dead_rate_never": (largest == 0).mean(),
        "dead_rate_phase2": (shared_open == 0).mean()}
    for name in ("explained_variance_phase_plane", "explained_variance_phase2", "nrmse_phase2"):
        of = [snapshot[name] for snapshot in snapshots]
        pooled |= {f"{name}_mean": numpy.mean(of), f"{name}_min": min(of), f"{name}_max": max(of)}
    return {"pooled": pooled, "snapshots": snapshots}, near


def differences(ours, other):
    """The largest |a - b| / max(1, |b|) by id, over the pooled numbers and those by snapshot. Both must have the same ids."""
    most = {}
    pairs = [("pooled", ours["pooled"], other["pooled"])]
    pairs += [("snapshot", a, b) for a, b in zip(ours["snapshots"], other["snapshots"], strict=True)]
    for kind, a, b in pairs:
        if a.keys() != b.keys():
            sys.exit(f"{kind}: different numbers: {sorted(a.keys() ^ b.keys())}")
        for name, value in a.items():
            key = f"{kind} {name}"
            most[key] = max(most.get(key, 0), abs(value - b[name]) / max(1, abs(b[name])))
    return most


class Watched:
    """One run of the program: its summary, its time, and what memory it took."""

    def __init__(self, log, *command):
        self.command = [str(part) for part in command]
        self.memory = dict.fromkeys(("VmHWM", "VmRSS", "RssAnon", "RssFile"), 0)
        begun = time.monotonic()
        with open(log, "w") as errors:
            process = subprocess.Popen([*self.command, "--json"], stdout=subprocess.PIPE, stderr=errors)
            watcher = threading.Thread(target=self.watch, args=(process.pid,), daemon=True)
            watcher.start()
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{' '.join(self.command)} ended with {process.returncode}:\n{pathlib.Path(log).read_text()[-2000:]}")
        self.summary = json.loads(output)
        self.wall, self.cpu = time.monotonic() - begun, usage.ru_utime + usage.ru_stime
        self.user, self.system = usage.ru_utime, usage.ru_stime
        self.peak = self.memory["VmHWM"]  # not ru_maxrss, which begins at what Python had when it forked

    def watch(self, pid):
        try:
            while True:
                for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                    key, _, value = line.partition(":")
                    if key in self.memory:
                        self.memory[key] = max(self.memory[key], int(value.split()[0]) * 1024)
                time.sleep(0.1)
        except (FileNotFoundError, ProcessLookupError):
            pass

    def figures(self):
        return {"command": " ".join(self.command), "wall_s": round(self.wall, 1), "user_s": round(self.user, 1),
                "system_s": round(self.system, 1), "peak_bytes": self.peak, "memory": self.memory}


def gemm_rate(threads):
    """FLOPs in a CPU second of numpy's own float32 product, the best of some."""
    a = numpy.ones((2048, 2048), "f4")
    best = 0
    for _ in range(5):
        begun = time.process_time()
        a @ a
        best = max(best, 2 * 2048 ** 3 / (time.process_time() - begun))
    return best


def run_eval(options, folder, report):
    V, K, d, F = options.eval_shape
    data = Planted(V, K, d, F)
    dictionary, stack = folder / "planted" / "planted.safetensors", folder / "stack.safetensors"
    if not dictionary.exists():
        data.write_dictionary(dictionary.parent)
    small = Planted(options.check_rows, K, d, F)
    small_stack = folder / "small.safetensors"
    begun = time.monotonic()
    small.write_stack(small_stack, options.dtype)
    if not stack.exists():
        data.write_stack(folder / "stack.part", options.dtype)
        (folder / "stack.part").rename(stack)
    say(f"stack of {stack.stat().st_size / 1e9:.1f} GB in {time.monotonic() - begun:.0f} s")
    weights = sum(t.size * 4 for t in read_tensors(dictionary).values())

    arguments = ["--definitions", "all", *options.eval_arguments.split()]
    command = [options.cresco, "eval", dictionary, "--stack", small_stack, *arguments]
    whole = Watched(folder / "small.log", *command).summary
    pieces = Watched(folder / "small.log", *command, "--block-bytes", str(1 << 23)).summary
    reference, near = reference_quality(small_stack, dictionary, small.steps, batch=1024)
    of_blocks, of_reference = differences(whole, pieces), differences(whole, reference)
    worst = lambda of: max(of.items(), key=lambda item: item[1])
    say(f"{options.check_rows} rows: worst from float64 {worst(of_reference)}, between blocks {worst(of_blocks)}; "
        f"{near} gates within 2e-6 of their threshold")

    plan = json.loads(subprocess.check_output([options.cresco, "eval", dictionary, "--stack", stack, *arguments, "--dry-run", "--json"]))
    run = Watched(folder / "eval.log", options.cresco, "eval", dictionary, "--stack", stack, "--out", folder / "quality", "--overwrite",
                  *arguments)
    say(json.dumps(run.figures()))
    report["eval"] = {
        "shape": options.eval_shape, "stack_bytes": stack.stat().st_size, "weights_bytes": weights, "plan": plan,
        "run": run.figures(), "within_bound": run.peak <= weights + 2 * 10 ** 9, "pooled": run.summary["pooled"],
        "snapshots": run.summary["snapshots"], "floor_cpu_s": plan["flops"] / report["gemm_flops_per_cpu_s"],
        "from_float64": of_reference, "between_blocks": of_blocks, "near_gates": near}


def write_match_pair(folder, features, heads, width):
    """Of the second dictionary's features every fifth is none of the first's; the others are, with noise from none to three times as long."""
    rng = numpy.random.default_rng(7)
    draw = lambda *shape: rng.standard_normal(shape, dtype=numpy.float32)
    order = rng.permutation(features)
    base, turned = draw(features, width), draw(features, width)
    other, other_turned = draw(features, width), draw(features, width)
    common = draw(width)
    size = rng.uniform(0.5, 2, features).astype("f4")
    share = rng.uniform(0, 3, features).astype("f4")
    strange = numpy.arange(features) % 5 == 0
    steps = [1000 * k for k in range(1, heads + 1)]

    def first(k):
        turn = numpy.float32(k / heads)
        return ((1 - turn) * base + turn * turned + numpy.float32(0.1) * common) * size[:, None] * numpy.float32(0.5 + turn)

    def second(k):
        turn = numpy.float32(k / heads)
        noise = (1 - turn) * other + turn * other_turned
        mine = (1 - turn) * base[order] + turn * turned[order]
        mixed = numpy.where(strange[:, None], noise, mine + share[:, None] * noise) + numpy.float32(0.1) * common
        return mixed * size[order][:, None] * numpy.float32(0.5 + turn)

    paths = []
    for name, decoder in (("first", first), ("second", second)):
        path = folder / f"{name}_{features}_{heads}_{width}"
        paths.append(path / f"{name}.safetensors")
        if not paths[-1].exists():
            write_dictionary(path, name, {
                "W_D": ("F32", (heads, features, width)), "W_E": ("F32", (heads, width, features)), "b_E": ("F32", (heads, features)),
                "b_D": ("F32", (heads, width)), "activation_function.log_jumprelu_threshold": ("F32", (features,))},
                (("W_D", decoder(k)) for k in range(heads)), steps,
                {"act_fn": "jumprelu", "d_sae": features, "d_model": width},
                {"d_sae": features, "expansion_factor": features / width, "input_preprocess": "center_scale"})
    return paths


def length_of(decoder):
    return numpy.sqrt(sum(numpy.square(head.astype("f8")).sum(1) for head in decoder))


def nearest_by_numpy(a, b, rows, precision, piece=512):
    """Of these rows of a: the two largest cosines, their columns; and for all columns of b the largest over these rows."""
    length_a, length_b = length_of(a), length_of(b)
    best = []
    column_best, column_row = numpy.full(b.shape[1], -2.0), numpy.full(b.shape[1], -1)
    for begin in range(0, len(rows), piece):
        part = rows[begin:begin + piece]
        s = numpy.zeros((len(part), b.shape[1]), precision)
        for k in range(a.shape[0]):
            mine = (a[k][part].astype("f8") / length_a[part, None]).astype(precision)
            for j in range(0, b.shape[1], 4096):
                theirs = (b[k][j:j + 4096].astype("f8") / length_b[j:j + 4096, None]).astype(precision)
                s[:, j:j + 4096] += mine @ theirs.T
        two = numpy.argpartition(-s, 1, axis=1)[:, :2]
        for i in range(len(part)):
            pair = sorted(two[i], key=lambda j: (-s[i, j], j))
            best.append((int(pair[0]), float(s[i, pair[0]]), int(pair[1]), float(s[i, pair[1]])))
        top = s.argmax(0)
        better = s[top, numpy.arange(s.shape[1])] > column_best
        column_best[better] = s[top, numpy.arange(s.shape[1])][better]
        column_row[better] = part[top][better]
    return best, column_best, column_row


def check_match(paths, table, summary, rows, precision):
    a, b = (read_tensors(path)["W_D"] for path in paths)
    best, column_best, column_row = nearest_by_numpy(a, b, rows, precision)
    found = {"rows": len(rows), "precision": precision, "other_best": 0, "other_second": 0, "cosine": 0.0, "second_cosine": 0.0}
    for i, (j, cosine, second, second_cosine) in zip(rows, best):
        row = table[i]
        # Another column is right only where the two are equal to within the rounding of the products.
        found["other_best"] += int(row["best"]) != j
        found["other_second"] += int(row["second_best"]) != second
        found["cosine"] = max(found["cosine"], abs(float(row["cosine"]) - cosine))
        found["second_cosine"] = max(found["second_cosine"], abs(float(row["second_cosine"]) - second_cosine))
    found["mmcs"] = abs(summary["mmcs"] - float(numpy.mean([float(row["cosine"]) for row in table])))
    if len(rows) == a.shape[1]:
        found["mmcs_reverse"] = abs(summary["mmcs_reverse"] - float(column_best.mean()))
        found["mmcs_brute_force"] = abs(summary["mmcs"] - float(numpy.mean([cosine for _, cosine, _, _ in best])))
        mutual = [int(column_row[j] == i) for i, (j, *_) in zip(rows, best)]
        found["other_mutual"] = sum(int(table[i]["mutual"]) != m for i, m in zip(rows, mutual))
    assigned = [int(row["assigned"]) for row in table if row["assigned"]]
    found["assigned_twice"] = len(assigned) - len(set(assigned))
    return found


def run_match(options, folder, report):
    report["match"] = []
    for features, heads, width in options.match_shape:
        begun = time.monotonic()
        paths = write_match_pair(folder, features, heads, width)
        say(f"two dictionaries of {features} x {heads} x {width} in {time.monotonic() - begun:.0f} s")
        arguments = [*paths, "--shuffles", options.shuffles, *options.match_arguments.split()]
        plan = json.loads(subprocess.check_output(
            [str(part) for part in (options.cresco, "match", *arguments, "--dry-run", "--json", "--quiet")]))
        run = Watched(folder / f"match_{width}.log", options.cresco, "match", *arguments, "--out", folder / f"match_{width}", "--overwrite")
        say(json.dumps(run.figures()))
        with open(folder / f"match_{width}" / "matches.csv", newline="") as file:
            table = list(csv.DictReader(file))
        everything = features * features * heads * width * 2 <= options.brute_force_flops
        checks = []
        if everything:
            checks.append(check_match(paths, table, run.summary, numpy.arange(features), "f4"))
        sample = numpy.sort(numpy.random.default_rng(8).choice(features, min(options.sample, features), replace=False))
        checks.append(check_match(paths, table, run.summary, sample, "f8"))
        say(json.dumps(checks))
        report["match"].append({
            "shape": [features, heads, width], "decoder_bytes": 4 * features * heads * width, "plan": plan, "run": run.figures(),
            "floor_cpu_s": plan["flops"] / report["gemm_flops_per_cpu_s"], "summary": run.summary, "checks": checks})
        if not options.keep:
            for path in paths:
                shutil.rmtree(path.parent)


def say(text):
    print(f"{datetime.datetime.now(datetime.timezone.utc):%H:%M:%S} {text}", flush=True)


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cresco", required=True)
    parser.add_argument("--folder", required=True, type=pathlib.Path, help="for inputs and outputs: 26 GB for the stack, 5 GB for the largest pair")
    parser.add_argument("--parts", default="eval,match")
    parser.add_argument("--eval-shape", type=numbers, default=[50304, 32, 4096, 512], help="V,K,d,F")
    parser.add_argument("--dtype", default="F32", choices=("F32", "BF16"), help="of the stack's file")
    parser.add_argument("--check-rows", type=int, default=2000)
    parser.add_argument("--eval-arguments", default="", help="further ones for eval")
    parser.add_argument("--match-shape", type=numbers, action="append", help="F,K,d; may be given again")
    parser.add_argument("--shuffles", type=int, default=100)
    parser.add_argument("--match-arguments", default="", help="further ones for match")
    parser.add_argument("--sample", type=int, default=300, help="rows of the first dictionary that are checked in float64")
    parser.add_argument("--brute-force-flops", type=float, default=6e12, help="all pairs are checked up to so many")
    parser.add_argument("--keep", action="store_true", help="the inputs, for another run")
    parser.add_argument("--out", type=pathlib.Path, help="all figures as JSON")
    options = parser.parse_args()
    options.match_shape = options.match_shape or [[24576, 32, 128], [24576, 32, 768]]
    options.folder.mkdir(parents=True, exist_ok=True)
    report = {"date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}", "machine": platform.platform(), "cores": os.cpu_count(),
              "gemm_flops_per_cpu_s": gemm_rate(os.cpu_count())}
    say(f"{report['gemm_flops_per_cpu_s'] / 1e9:.0f} GFLOP in a CPU second by numpy")
    for part in options.parts.split(","):
        {"eval": run_eval, "match": run_match}[part](options, options.folder, report)
        if options.out:
            options.out.write_text(json.dumps(report, indent=1))
    if not options.keep:
        for name in ("stack.safetensors", "small.safetensors"):
            (options.folder / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
