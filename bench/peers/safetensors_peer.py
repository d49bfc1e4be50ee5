#!/usr/bin/env python3
"""One matrix into private memory: `cresco bench extract` beside Python's safetensors with .clone(), in one run.

    bench/peers/safetensors_peer.py --cresco build/cresco [--folder DIR]

The file is of the shape of a small Pythia: embed_out of (50304, 768) in fp32 among other tensors, in the page cache. Rounds of
both sides alternate; each figure is the median of the rounds. Both sides open the file anew each time and copy into fresh memory.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import torch
from safetensors import safe_open
from safetensors.torch import save_file

ROUNDS = 7


def peer(path):
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        with safe_open(path, framework="pt") as file:
            matrix = file.get_tensor("embed_out.weight").clone()
        seconds.append(time.perf_counter() - began)
        size = matrix.numel() * matrix.element_size()
        del matrix
    return size / statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cresco", required=True)
    parser.add_argument("--folder", default=None, help="where to write the file of 320 MB")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = pathlib.Path(folder) / "model.safetensors"
        torch.manual_seed(0)
        save_file({"embed_out.weight": torch.randn(50304, 768), "gpt_neox.embed_in.weight": torch.randn(50304, 768),
                   "gpt_neox.final_layer_norm.weight": torch.ones(768)}, path)
        rows = []
        for _ in range(ROUNDS):
            found = {"peer": peer(path)}
            for threads in (1, 2):
                made = json.loads(subprocess.run(
                    [arguments.cresco, "bench", "extract", path, "--tensor", "embed_out.weight", "--threads",
                     str(threads), "--json", "--quiet"], check=True, capture_output=True).stdout)
                found[f"ours_{threads}"] = made["bytes_per_second"]
                found[f"plain_{threads}"] = made["plain_read_bytes_per_second"]
            rows.append(found)
        median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        print("matrix of 154.5 MB, warm file; medians over", ROUNDS, "rounds")
        print(f"{'safetensors .clone()':<28}{median['peer'] / 1e9:6.2f} GB/s")
        for threads in (1, 2):
            ours, plain = median[f"ours_{threads}"], median[f"plain_{threads}"]
            print(f"{f'cresco, {threads} thread(s)':<28}{ours / 1e9:6.2f} GB/s   "
                  f"{ours / median['peer']:.2f} of the peer, {ours / plain:.2f} of a plain read ({plain / 1e9:.2f} GB/s)")


main()
