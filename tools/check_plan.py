#!/usr/bin/env python3
"""How near `cresco plan` comes: predicts trainings on a stack, runs them, and prints both as a table.

    tools/check_plan.py STACK [--cresco build/cresco] [--case "--d-sae 512 --n-epochs 500 --batch-size 512"]...

Without cases those below, of 2,000 steps and more on the demonstration's stack. Times are of a machine that does nothing else.
"""
import argparse
import json
import pathlib
import resource
import shlex
import subprocess
import tempfile
import time

CASES = ("--d-sae 1024 --batch-size 1024 --n-epochs 1000 --recipe demo",
         "--d-sae 512 --batch-size 512 --n-epochs 500",
         "--d-sae 1024 --batch-size 512 --n-epochs 500 --lr 1e-3",
         "--d-sae 512 --batch-size 512 --n-epochs 500 --kind batchtopk --k 16 --lr 1e-3")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stack")
    parser.add_argument("--cresco", default="build/cresco")
    parser.add_argument("--case", action="append", help="options of a training")
    arguments = parser.parse_args()
    print("| training | predicted s | range | took s | predicted / took | memory predicted / used |")
    print("|---|---:|---:|---:|---:|---:|")
    for case in arguments.case or CASES:
        options = [arguments.stack, *shlex.split(case)]
        plan = json.loads(subprocess.run([arguments.cresco, "plan", *options, "--json", "--quiet"], check=True,
                                         capture_output=True).stdout)
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            subprocess.run([arguments.cresco, "train", *options, "--out", pathlib.Path(folder, "out"), "--quiet"], check=True,
                           capture_output=True)
            took = time.monotonic() - started
            used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # the largest so far
        inside = plan["seconds_low"] <= took <= plan["seconds_high"]
        print(f"| `{case}` | {plan['seconds']:.1f} | {plan['seconds_low']:.1f} – {plan['seconds_high']:.1f}{'' if inside else ' (missed)'} "
              f"| {took:.1f} | {plan['seconds'] / took:.2f} | {plan['memory_bytes'] / 2**20:.0f} / {used / 2**20:.0f} MiB |",
              flush=True)


if __name__ == "__main__":
    main()
