"""Runs that are killed, interrupted and resumed equal runs that were not: in every byte but times."""
import hashlib
import json
import random
import shutil
import signal
import subprocess
import time
import unittest

from program import PROGRAM, ProgramTest, run, run_json

TIMES = {"wall_time", "tokens_per_second", "mfu", "seconds", "snapshot_seconds", "written", "rows_per_second"}


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def contents(folder, ignore=()):
    """File name -> what it holds, times left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        # The event file says what metrics.jsonl does, with the times.
        if not path.is_file() or path.name in (".lock", "manifest.json") or path.name in ignore or "tensorboard" in name:
            continue
        if path.suffix == ".jsonl":
            found[name] = [without_times(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_text()))
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Resume(ProgramTest):
    def start(self, *arguments):
        return subprocess.Popen([PROGRAM, *map(str, arguments), "--quiet"], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE)

    def kill_until_done(self, arguments, folder, seed, kills):
        """SIGKILLs the command `kills` times after it got somewhere, then lets it finish."""
        chance = random.Random(seed)
        killed = 0
        while killed < kills:
            process = self.start(*arguments)
            metrics = folder / "metrics.jsonl"
            before = metrics.stat().st_size if metrics.exists() else 0
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if metrics.exists() and metrics.stat().st_size != before:
                    break
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.15))
            if process.poll() is not None:  # it was faster than the kill
                break
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
        self.assertGreater(killed, 0, "the command ended before it could be killed")
        if not (folder / "COMPLETE").exists():  # the last kill may have come after the last file
            run(*arguments)

    def test_pretraining_survives_kills(self):
        for name, options in {
                "fp32": (),
                "bf16": ("--precision", "bf16", "--batch.micro-sequences", 2),
                "fp16": ("--precision", "fp16", "--loss-scale.initial", 2.0**30, "--loss-scale.window", 5),
                "muon": ("--optimizer.name", "muon", "--snapshots.optimizer-state")}.items():
            with self.subTest(name):
                whole, killed = self.folder / name / "whole", self.folder / name / "killed"
                command = ("pretrain", self.recipe, "--budget.steps", 120, "--snapshots.at", "0:120:3", *options)
                run(*command, "--out", whole)
                self.kill_until_done((*command, "--out", killed), killed, seed=1, kills=3)
                self.assertEqual(contents(killed), contents(whole))

    def test_dictionaries_survive_kills(self):
        run("pretrain", self.recipe, "--out", self.folder / "run")
        stack = self.folder / "stack.safetensors"
        run("extract", self.folder / "run", "--out", stack)
        whole, killed = self.folder / "whole", self.folder / "killed"
        options = ("--d-sae", 64, "--n-epochs", 600, "--batch-size", 100, "--log-every", 10, "--state-every", 25)
        run("train", stack, *options, "--out", whole)
        self.kill_until_done(("train", stack, *options, "--out", killed), killed, seed=2, kills=3)
        self.assertEqual(contents(killed), contents(whole))

    def test_sparse_autoencoders_survive_kills(self):
        run("pretrain", self.recipe, "--out", self.folder / "run")
        stack = self.folder / "stack.safetensors"
        run("extract", self.folder / "run", "--out", stack)
        whole, killed = self.folder / "whole", self.folder / "killed"
        options = ("--class", "topk", "--steps", "0,40", "--d-sae", 64, "--k", 4, "--n-epochs", 400, "--lr", 1e-2,
                   "--noise-std", 0.1, "--resample-every", 30, "--resample-margin", 50, "--patience", 300,
                   "--log-every", 10, "--state-every", 25)
        run("train-sae", stack, *options, "--out", whole)
        self.kill_until_done(("train-sae", stack, *options, "--out", killed), killed / "step0", seed=3, kills=3)
        self.assertEqual(contents(killed), contents(whole))
        self.assertTrue((killed / "saes.csv").exists() and (killed / "step40" / "COMPLETE").exists())

    def test_an_interrupt_says_how_to_go_on(self):
        out = self.folder / "run"
        arguments = ("pretrain", self.recipe, "--budget.steps", 4000, "--snapshots.at", "0", "--state.every", 0,
                     "--out", out)
        process = self.start(*arguments)
        while not (out / "metrics.jsonl").exists() or (out / "metrics.jsonl").read_text().count("\n") < 3:
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertRegex(stderr.decode(), r"interrupted after step \d+; go on with: .*pretrain")
        self.assertEqual(len(list((out / "state").iterdir())), 1)

    def test_a_second_process_is_refused(self):
        out = self.folder / "run"
        arguments = ("pretrain", self.recipe, "--budget.steps", 4000, "--out", out)
        process = self.start(*arguments)
        while not (out / "metrics.jsonl").exists():
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        try:
            self.assert_fails(1, *arguments, says=["another process", str(process.pid)])
        finally:
            process.kill()
            process.communicate()

    def test_a_changed_recipe_is_refused(self):
        out = self.folder / "run"
        run("pretrain", self.recipe, "--out", out)
        self.assert_fails(1, "pretrain", self.recipe, "--optimizer.lr", "2e-2", "--out", out,
                          says=["optimizer.lr was 0.01, now it is 0.02"])
        self.assert_fails(1, "pretrain", self.recipe, "--resume", "never", "--out", out, says="--overwrite")
        # Unless it is said that the change is meant: the run goes on, and its manifest says so.
        self.assert_fails(1, "pretrain", self.recipe, "--budget.steps", 60, "--optimizer.lr", "2e-2", "--out", out,
                          "--allow-change", "budget.steps", says="optimizer.lr")
        longer = run_json("pretrain", self.recipe, "--budget.steps", 60, "--out", out, "--allow-change", "budget")
        self.assertEqual(longer["step"], 60)
        steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual(steps, sorted(set(steps)))
        self.assertEqual(json.loads((out / "manifest.json").read_text())["changes"],
                         [{"step": 40, "field": "budget.steps", "before": "40", "now": "60"}])
        self.assert_fails(1, "pretrain", self.recipe, "--resume", "must", "--out", self.folder / "none",
                          says="nothing to resume")

    def test_a_changed_corpus_is_refused(self):
        out, corpus = self.folder / "run", self.folder / "c"
        tokenize = ("tokenize", "--tokenizer", self.tokenizer, "--out", corpus, "--overwrite")
        run(*tokenize, self.text)
        arguments = ("pretrain", self.recipe, "--data.tokens", corpus, "--out", out)
        run(*arguments)
        run(*tokenize, self.text, self.text)
        self.assert_fails(1, *arguments, says=["other data", "corpus_sha256"])
        # A complete run cannot become one of other data without being trained on them.
        before = contents(out), (out / "manifest.json").read_bytes()
        self.assert_fails(1, *arguments, "--allow-change", "data_order", says="nothing is left to train")
        self.assertEqual((contents(out), (out / "manifest.json").read_bytes()), before)
        run(*arguments, "--budget.steps", 50, "--allow-change", "data_order", "--allow-change", "budget")
        self.assertEqual(json.loads((out / "data_order.json").read_text())["begins"],
                         {"step": 40, "tokens": self.tokens_of(out, 40), "place": 0})

    def test_a_change_that_cannot_be_leaves_the_run_as_it_was(self):
        out = self.folder / "run"
        run("pretrain", self.recipe, "--out", out)
        before = contents(out), (out / "manifest.json").read_bytes()
        for says, *options in (("nothing is left", "--budget.steps", 20, "--allow-change", "budget.steps"),
                               ("nothing is left", "--log.every", 3, "--allow-change", "log"),
                               ("at the start of a run only", "--seed", 3, "--budget.steps", 60, "--allow-change", "seed",
                                "--allow-change", "budget"),
                               ("has shape", "--model.intermediate_size", 24, "--budget.steps", 60, "--allow-change",
                                "model", "--allow-change", "budget")):
            self.assert_fails(1, "pretrain", self.recipe, "--out", out, *options, says=says)
            self.assertEqual((contents(out), (out / "manifest.json").read_bytes()), before)
        self.assert_fails(2, "pretrain", self.recipe, "--out", out, "--allow-change", "optimizer.lrr",
                          says="did you mean 'optimizer.lr'?")
        stateless = self.folder / "stateless"
        run("pretrain", self.recipe, "--state.every", 0, "--out", stateless)
        self.assert_fails(1, "pretrain", self.recipe, "--state.every", 0, "--budget.steps", 60, "--out", stateless,
                          "--allow-change", "budget", says="no state to go on from")

    def tokens_of(self, out, step):
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return next(line["tokens"] for line in lines if line["step"] == step)

    def test_what_was_read_before_a_change_stays_known(self):
        out = self.folder / "run"
        arguments = ("pretrain", self.recipe, "--data.order", "sequential", "--out", out)
        run(*arguments)
        per_step = self.tokens_of(out, 40) // 40
        rows = [run_json("batch", out, "--step", step)["ids"] for step in (0, 39)]
        size = len(rows[0])
        allowed = ("--allow-change", "batch", "--allow-change", "budget", "--allow-change", "snapshots")
        # The batch doubles at step 40: tokens and places are counted on.
        run(*arguments, "--batch.sequences", 2 * size, "--batch.micro-sequences", size, "--budget.steps", 50,
            "--snapshots.at", f"tokens:0,{44 * per_step}", *allowed)
        self.assertEqual(self.tokens_of(out, 50), (40 + 2 * 10) * per_step)
        self.assertEqual((out / "COMPLETE").read_text(), f"{60 * per_step}\n")
        self.assertTrue((out / "snapshots" / "step42").exists())  # 44 steps' tokens
        self.assertEqual([run_json("batch", out, "--step", step)["ids"] for step in (0, 39)], rows)
        longer = run_json("pretrain", self.recipe, "--data.order", "sequential", "--budget.steps", 60, "--out",
                          self.folder / "longer")
        self.assertEqual(longer["step"], 60)
        expected = [run_json("batch", self.folder / "longer", "--step", step)["ids"] for step in (58, 59)]
        self.assertEqual(run_json("batch", out, "--step", 49)["ids"], expected[0] + expected[1])
        # Another change follows.
        run(*arguments, "--batch.sequences", size, "--budget.tokens", 64 * per_step, "--budget.steps", 0,
            "--snapshots.at", "0", *allowed)
        self.assertEqual(self.tokens_of(out, 54), 64 * per_step)
        self.assertEqual([run_json("batch", out, "--step", step)["ids"] for step in (0, 39)], rows)
        self.assertEqual(run_json("batch", out, "--step", 49)["ids"], expected[0] + expected[1])
        self.assertEqual(sorted(path.name for path in (out / "earlier").iterdir()), ["step40", "step50"])

    def test_a_change_survives_a_kill_before_its_first_state(self):
        whole, killed = self.folder / "whole", self.folder / "killed"
        arguments = ("pretrain", self.recipe, "--set")
        run(*arguments, "optimizer.rules=[{match: '*embed_in*', frozen: true}]", "--out", whole)
        shutil.copytree(whole, killed)
        change = (*arguments, "optimizer.rules=[]", "--budget.steps", 2000, "--state.every", 2000, "--snapshots.at", "0,50",
                  "--log.every", 5, "--eval.every", 100, "--allow-change", "optimizer", "--allow-change", "budget",
                  "--allow-change", "state", "--allow-change", "snapshots", "--allow-change", "log", "--allow-change",
                  "eval")
        for _ in range(2):
            process = self.start(*change, "--out", killed)
            while '"step":60' not in (killed / "metrics.jsonl").read_text():
                self.assertIsNone(process.poll())
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            self.assertFalse((killed / "COMPLETE").exists())
        for out in (whole, killed):
            run(*change, "--out", out)
        self.assertEqual(contents(killed), contents(whole))
        self.assertEqual(json.loads((killed / "manifest.json").read_text())["changes"],
                         json.loads((whole / "manifest.json").read_text())["changes"])

    def test_a_change_that_no_update_followed_is_undone(self):
        """Other data and back again at one step: the order is read on, and nothing of what was not gone on with stays."""
        out, straight = self.folder / "run", self.folder / "straight"
        arguments = ("pretrain", self.recipe, "--state.every", 1000)
        allowed = ("--allow-change", "budget", "--allow-change", "data", "--allow-change", "snapshots")
        run(*arguments, "--out", out)
        process = self.start(*arguments, "--budget.steps", 4000, "--data.seed", 7, "--snapshots.at", "0:4000:1", *allowed,
                             "--out", out)
        while not (out / "snapshots" / "step45").exists():
            self.assertIsNone(process.poll())
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        run(*arguments, "--budget.steps", 60, *allowed, "--out", out)
        run(*arguments, "--budget.steps", 60, "--out", straight)
        self.assertEqual(json.loads((out / "data_order.json").read_text())["begins"]["place"], 40 * 4)
        self.assertFalse((out / "snapshots" / "step45").exists())
        for step in (0, 39, 40, 59):
            self.assertEqual(run_json("batch", out, "--step", step)["ids"], run_json("batch", straight, "--step", step)["ids"])
        self.assertTrue(run_json("lint", out, straight)["comparison"]["same_data_order"])

    def test_a_damaged_state_names_the_one_before(self):
        out = self.folder / "run"
        run("pretrain", self.recipe, "--out", out)
        (out / "COMPLETE").unlink()
        newest, before = sorted((out / "state").iterdir(), key=lambda path: -int(path.name[4:]))[:2]
        (newest / "state.safetensors").write_bytes(b"0")
        self.assert_fails(1, "pretrain", self.recipe, "--out", out,
                          says=[str(newest), f"goes on from step {before.name[4:]}"])

    def test_a_complete_run_says_which_snapshots_are_gone(self):
        out = self.folder / "run"
        first = run_json("pretrain", self.recipe, "--out", out)["snapshots"]
        shutil.rmtree(out / "snapshots" / f"step{first[1]}")
        text = run("pretrain", self.recipe, "--out", out).stdout.decode()
        self.assertIn(f"no longer there: {first[1]}\n", text)

    def test_a_run_that_is_complete_stays_as_it_is(self):
        out = self.folder / "run"
        first = run_json("pretrain", self.recipe, "--state.every", 0, "--out", out)
        before = contents(out)
        again = run_json("pretrain", self.recipe, "--state.every", 0, "--out", out)
        self.assertEqual(without_times(first), without_times(again))
        self.assertEqual(contents(out), before)


if __name__ == "__main__":
    unittest.main()
