"""What the benchmarks beside Python peers share: running a side as a process, and saying on what machine it ran."""
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
DEPS = HERE.parent.parent / ".deps"
SLEEPING = {"OMP_WAIT_POLICY": "passive"}


def run(command, env=None):
    """The JSON object on the last line that a program prints. It inherits no settings of threads or allocators."""
    inherited = {name: value for name, value in os.environ.items()
                 if not name.startswith(("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "GLIBC_TUNABLES"))}
    ran = subprocess.run([str(part) for part in command], env=inherited | (env or {}), capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"{' '.join(str(part) for part in command)} failed:\n{ran.stderr[-4000:]}")
    return json.loads(ran.stdout.strip().splitlines()[-1])


def processor():
    names = re.findall(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return names[0] if names else platform.machine()


def short_processor():
    words = re.findall(r"[a-z]+", re.sub(r"\((r|tm)\)", "", processor().lower()))
    return next((word for word in words if word not in ("intel", "amd", "cpu", "processor")), "cpu")


def machine(versions):
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 2**20
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return (f"{processor()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB; {system}, glibc {platform.libc_ver()[1]}; "
            f"{datetime.date.today():%d %B %Y}. " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + ".")
