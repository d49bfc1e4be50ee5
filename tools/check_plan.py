#!/usr/bin/env python3
"""How near `cresco plan` comes: predicts trainings on a stack, runs them, and prints both as a table.

    tools/check_plan.py STACK [--cresco build/cresco] [--case "--d-sae 512 --n-epochs 500 --batch-size 512"]...

Without cases those below, of 2,000 steps and more on the demonstration's stack. Times are of a machine that does nothing else.
"""
import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time

CASES = ("--d-sae 1024 --batch-size 1024 --n-epochs 1000 --recipe demo",
         "--d-sae 512 --batch-size 512 --n-epochs 500",
         "--d-sae 1024 --batch-size 512 --n-epochs 500 --lr 1e-3",
         "--d-sae 512 --batch-size 512 --n-epochs 500 --kind batchtopk --k 16 --lr 1e-3")


def peak_bytes(command):
    """Runs it; the largest resident size that it had."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"check_plan: exit code {process.returncode}: {shlex.join(map(str, command))}")
    return usage.ru_maxrss * 1024


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
            used = peak_bytes([arguments.cresco, "train", *options, "--out", pathlib.Path(folder, "out"), "--quiet"])
            took = time.monotonic() - started
        inside = plan["seconds_low"] <= took <= plan["seconds_high"]
        print(f"| `{case}` | {plan['seconds']:.1f} | {plan['seconds_low']:.1f} – {plan['seconds_high']:.1f}{'' if inside else ' (missed)'} "
              f"| {took:.1f} | {plan['seconds'] / took:.2f} | {plan['memory_bytes'] / 2**20:.0f} / {used / 2**20:.0f} MiB |",
              flush=True)


if __name__ == "__main__":
    main()
