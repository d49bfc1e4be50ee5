"""Trainings whose heads are shared by processes that mpirun started."""
import array
import json
import os
import signal
import subprocess
import time
import unittest

from dictionaries_test import write_stack
from parity_test import read_safetensors, relative_error
from program import PROGRAM, FolderTest, run
from resume_test import contents

# As root in a container, and with more ranks than cores.
ENVIRONMENT = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
STEPS = [0, 100, 200, 300]
OPTIONS = ("--d-sae", 16, "--n-epochs", 60, "--batch-size", 16, "--lr", 1e-2, "--log-every", 5, "--state-every", 20,
           "--auxk-coefficient", 0.1, "--auxk-k", 2, "--dead-window-steps", 3, "--noise-std", 0.05)


def start(ranks, *arguments):
    return subprocess.Popen(["mpirun", "--oversubscribe", "-n", str(ranks), PROGRAM, *map(str, arguments)], env=ENVIRONMENT,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process):
    out, said = process.communicate(timeout=300)
    return process.returncode, out.decode(), said.decode()


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Ranks(FolderTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stack = write_stack(cls.shared / "stack.safetensors", STEPS)

    def test_two_ranks_train_what_one_does(self):
        for kind in ("crosscoder", "batchtopk"):
            with self.subTest(kind=kind):
                one, two = self.folder / f"{kind}1", self.folder / f"{kind}2"
                options = OPTIONS if kind == "crosscoder" else (*OPTIONS[:10], "--k", 3)
                options = ("train", self.stack, "--kind", kind, "--name", "d", *options)
                run(*options, "--out", one)
                code, out, said = finish(start(2, *options, "--out", two, "--json", "--quiet"))
                self.assertEqual(code, 0, said)
                self.assertEqual(json.loads(out)["folder"], str(two))  # one rank speaks
                self.assertFalse((two / "state").exists())
                first, second = metrics(one), metrics(two)
                self.assertEqual(len(first), len(second))
                for a, b in zip(first, second):
                    for key in ("loss", "l_rec", "l0", "explained_variance"):
                        self.assertAlmostEqual(a[key], b[key], delta=2e-4 * max(1, abs(a[key])), msg=f"{key} of {a['step']}")
                theirs = read_safetensors(two / "d.safetensors")[1]
                for name, (_, shape, data) in read_safetensors(one / "d.safetensors")[1].items():
                    self.assertEqual(theirs[name][1], shape)
                    values = [array.array("f", bytes_) for bytes_ in (theirs[name][2], data)]
                    self.assertLessEqual(relative_error(*values), 2e-3, name)

    def test_a_rank_that_dies_stops_all_and_the_training_goes_on(self):
        whole, killed = self.folder / "whole", self.folder / "killed"
        options = ("train", self.stack, *OPTIONS[:2], "--n-epochs", 600, *OPTIONS[4:])
        self.assertEqual(finish(start(2, *options, "--out", whole))[0], 0)
        process = start(2, *options, "--out", killed, "--quiet")
        deadline = time.monotonic() + 60
        while not (killed / "state" / "rank1").exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        ranks = subprocess.run(["pgrep", "-P", str(process.pid), "cresco"], capture_output=True, text=True).stdout.split()
        self.assertEqual(len(ranks), 2)
        os.kill(int(ranks[1]), signal.SIGKILL)
        code, _, said = finish(process)
        self.assertNotEqual(code, 0)
        self.assertIn("killed", said.lower())
        self.assertFalse((killed / "COMPLETE").exists())

        code, _, said = finish(start(4, *options, "--out", killed))
        self.assertEqual(code, 1)
        self.assertIn("ranks", said)
        code, _, said = finish(start(2, *options, "--out", killed))
        self.assertEqual(code, 0, said)
        self.assertEqual(contents(killed), contents(whole))

    def test_what_ranks_cannot_share_is_refused(self):
        out = self.folder / "out"
        for ranks, arguments, why in (
                (3, ("train", self.stack, *OPTIONS, "--out", out), "4 snapshots cannot be shared by 3 ranks"),
                (2, ("train", self.stack, *OPTIONS, "--kind", "sae", "--out", out), "share the heads of one dictionary"),
                (2, ("train", self.stack, *OPTIONS[:10], "--kind", "gated", "--out", out), "kind gated"),
                (2, ("show", self.stack), "show runs as one process")):
            with self.subTest(why=why):
                code, printed, said = finish(start(ranks, *arguments))
                self.assertEqual(code, 2, said)
                self.assertEqual(printed, "")
                self.assertIn(why, said)
                self.assertFalse(out.exists())


if __name__ == "__main__":
    unittest.main()
