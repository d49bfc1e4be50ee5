"""Pretraining over processes that mpirun started; arms of a recipe; what a recipe can do wrong."""
import csv
import json
import os
import signal
import struct
import subprocess
import time
import unittest

from program import PROGRAM, ProgramTest, run, run_json
from ranks_test import finish, start
from resume_test import contents


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tensors_of(path):
    """Name -> bytes, of a safetensors file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: data[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]]
            for name, entry in header.items()}


class Ranks(ProgramTest):
    def assert_same_losses(self, a, b):
        first, second = metrics(a), metrics(b)
        self.assertEqual([line["step"] for line in first], [line["step"] for line in second])
        for one, other in zip(first, second):
            for key in ("train/loss", "val/loss", "optim/grad_norm"):
                if key in one:
                    self.assertAlmostEqual(one[key], other[key], delta=1e-4, msg=f"{key} of {one['step']}")

    def test_ranks_train_what_one_does(self):
        for name, options in {"adamw": (), "muon": ("--optimizer.name", "muon")}.items():
            command = ("pretrain", self.recipe, *options)
            one = self.folder / name / "1"
            run(*command, "--out", one)
            for ranks in (2, 4):
                with self.subTest(name, ranks=ranks):
                    out = self.folder / name / str(ranks)
                    code, printed, said = finish(start(ranks, *command, "--out", out, "--json", "--quiet"))
                    self.assertEqual(code, 0, said)
                    self.assertEqual(json.loads(printed)["step"], 40)  # one rank speaks
                    self.assert_same_losses(one, out)

    def test_a_run_goes_on_with_another_number_of_ranks(self):
        whole, moved = self.folder / "whole", self.folder / "moved"
        command = ("pretrain", self.recipe, "--budget.steps", 400, "--snapshots.at", "0,400", "--state.every", 50)
        run(*command, "--out", whole)
        for ranks in (2, 4):
            process = start(ranks, *command, "--out", moved, "--quiet")
            newest = max((int(p.name[4:]) for p in (moved / "state").glob("step*")), default=0)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                if max((int(p.name[4:]) for p in (moved / "state").glob("step*")), default=0) > newest:
                    break
                time.sleep(0.005)
            pids = subprocess.run(["pgrep", "-P", str(process.pid), "cresco"], capture_output=True, text=True).stdout.split()
            if pids:
                os.kill(int(pids[-1]), signal.SIGKILL)  # one rank; mpirun ends the others
            code, _, said = finish(process)
            if code != 0:
                self.assertIn("killed", said.lower())
        run(*command, "--out", moved)
        self.assert_same_losses(whole, moved)

    def test_ranks_go_on_with_a_change(self):
        out = self.folder / "run"
        run("pretrain", self.recipe, "--out", out)
        change = ("pretrain", self.recipe, "--out", out, "--batch.sequences", 8, "--budget.steps", 50, "--allow-change",
                  "batch.sequences", "--allow-change", "budget")
        code, _, said = finish(start(2, *change))
        self.assertEqual(code, 0, said)
        lines = metrics(out)
        self.assertEqual((lines[-1]["step"], lines[-1]["tokens"]), (50, (40 * 4 + 10 * 8) * 32))
        code, _, said = finish(start(2, *change, "--log.every", 3))
        self.assertEqual(code, 1)
        self.assertIn("log.every", said)

    def test_what_ranks_cannot_share_is_refused(self):
        code, _, said = finish(start(3, "pretrain", self.recipe, "--out", self.folder / "run"))
        self.assertEqual(code, 2)
        self.assertIn("batch.sequences 4 cannot be shared by 3 ranks", said)
        self.assertFalse((self.folder / "run").exists())


class Arms(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.arms = cls.shared / "arms.yaml"
        cls.arms.write_text(cls.recipe.read_text() + """
arms:
  baseline: {}
  slow: {optimizer.rules: [{match: "embed_out.*", lr_multiplier: 0.25}]}
  fast: {optimizer.rules: [{match: "embed_out.*", lr_multiplier: 4.0}]}
""")
        cls.runs = cls.shared / "runs"
        cls.printed = run_json("pretrain", cls.arms, "--arm", "all", "--out", cls.runs)

    def test_all_arms_are_run_each_in_its_folder(self):
        self.assertEqual(list(self.printed["arms"]), ["baseline", "slow", "fast"])
        for arm in ("baseline", "slow", "fast"):
            self.assertTrue((self.runs / arm / "COMPLETE").exists())
        alone = self.folder / "slow"
        run("pretrain", self.arms, "--arm", "slow", "--out", alone)
        self.assertEqual(contents(alone), contents(self.runs / "slow"))
        before = contents(self.runs)
        run("pretrain", self.arms, "--arm", "all", "--out", self.runs)  # complete: stays as it is
        self.assertEqual(contents(self.runs), before)
        self.assert_fails(2, "pretrain", self.arms, "--arm", "fats", "--out", self.folder / "x", says="did you mean 'fast'")
        self.assert_fails(2, "pretrain", self.recipe, "--arm", "all", "--out", self.folder / "x", says="has no arms")

    def test_arms_are_looked_at_before_the_first_is_run(self):
        arms, out = self.folder / "arms.yaml", self.folder / "runs"
        arms.write_text(self.recipe.read_text() + "arms: {good: {}, bad: {data.tokens: nowhere}}")
        self.assert_fails(1, "pretrain", arms, "--arm", "all", "--out", out, says="nowhere")
        self.assertFalse(out.exists())
        arms.write_text(self.recipe.read_text() + "arms: {only: {}}")
        run("pretrain", arms, "--arm", "all", "--out", out)
        self.assertTrue((out / "only" / "COMPLETE").exists())
        self.assert_fails(1, "pretrain", arms, "--arm", "all", "--out", out / "only", says="is an output itself")
        arms.write_text(self.recipe.read_text() + "arms: {a: {}, a: {seed: 1}}")
        self.assert_fails(2, "pretrain", arms, "--arm", "all", "--out", out, says="'a' is there twice")

    def test_show_against_says_what_differs_and_nothing_else(self):
        for a, b in ((f"{self.arms}:baseline", f"{self.arms}:slow"), (self.runs / "baseline", self.runs / "slow")):
            found = run_json("show", a, "--against", b)["differences"]
            fields = {d["field"]: d["b"] for d in found}
            self.assertLessEqual(set(fields), {"arm", "optimizer.rules"})
            self.assertIn("0.25", fields["optimizer.rules"])
        self.assertEqual(run_json("show", self.arms, "--against", self.arms)["differences"], [])
        self.assertEqual(run_json("show", self.arms)["arms"], ["baseline", "slow", "fast"])

    def test_readouts_beside_each_other(self):
        out, other = self.folder / "geometry", self.folder / "seed1"
        run("pretrain", self.arms, "--arm", "baseline", "--seed", 1, "--out", other)
        printed = run_json("spectra", *(self.runs / arm for arm in ("baseline", "slow", "fast")), other, "--weights",
                           "--out", out)
        with (out / "readout_geometry.csv").open() as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(list(rows[0])[:8], ["cond", "wu_mult", "warmup", "step", "tokens", "rn_mean", "rn_std", "rn_med"])
        last = {(r["cond"], r["seed"]): r for r in rows if r["step"] == "40"}
        self.assertEqual(last["slow", "0"]["wu_mult"], "0.25")
        self.assertEqual(float(last["fast", "0"]["tokens"]), 40 * 4 * 32)
        norm = {key: float(r["rn_mean"]) for key, r in last.items()}
        self.assertLess(norm["slow", "0"], norm["baseline", "0"])
        self.assertLess(norm["baseline", "0"], norm["fast", "0"])
        base = [norm["baseline", "0"], norm["baseline", "1"]]
        row = next(d for d in printed["differences"] if d["cond"] == "fast" and d["metric"] == "rn_mean")
        self.assertAlmostEqual(row["difference"], norm["fast", "0"] - sum(base) / 2, places=9)
        self.assertAlmostEqual(row["spreads"], row["difference"] / (max(base) - min(base)), places=4)


class FilesOfIds(ProgramTest):
    def test_shards_of_llm_c_are_one_text(self):
        ids = self.corpus.with_suffix(".bin").read_bytes()
        cut = len(ids) // 5 * 2
        for number, part in ((1, ids[:cut]), (2, ids[cut:])):
            header = struct.pack("<256i", 20240520, 1, len(part) // 2, *[0] * 253)
            (self.folder / f"train_{number:06}.bin").write_bytes(header + part)
        whole = self.folder / "whole.bin"
        whole.write_bytes(ids)
        shards = self.folder / "train_*.bin"
        for path, layout in ((shards, "llm.c u16"), (whole, "flat u16")):
            found = run_json("show", path)
            self.assertEqual((found["kind"], found["layout"], found["num_tokens"]), ("corpus", layout, len(ids) // 2))

        tokenizer = self.tokenizer.read_bytes()
        (self.folder / "tokenizer.json").write_bytes(tokenizer)
        runs = {}
        for name, path in (("shards", shards), ("whole", whole)):
            runs[name] = self.folder / name
            run("pretrain", self.recipe, "--data.tokens", path, "--budget.steps", 8, "--out", runs[name])
        self.assertEqual(*(contents(out)["metrics.jsonl"] for out in runs.values()))
        inputs = json.loads((runs["shards"] / "manifest.json").read_text())["inputs"]
        self.assertEqual(sum("train_" in str(entry) for entry in inputs), 2)
        scores = [run_json("score", runs["whole"], "--steps", 8, "--corpus", path)["snapshots"] for path in (shards, whole, self.corpus)]
        for found in scores[:2]:
            self.assertEqual(found[0]["loss"], scores[2][0]["loss"])
        (self.folder / "train_000003.bin").write_bytes(ids)
        self.assert_fails(1, "show", shards, says=["train_000003.bin", "one layout"])


class FullDisk(ProgramTest):
    def test_a_run_goes_on_when_there_is_room_again(self):
        """A file system of a megabyte fills up among the snapshots; given more, the run ends as one that never stopped."""
        disk, whole = self.folder / "disk", self.folder / "whole"
        disk.mkdir()
        command = [PROGRAM, "pretrain", str(self.recipe), "--snapshots.at", "0:40:1", "--quiet", "--out"]
        inside = """
            mount -t tmpfs -o size=1m none "$1" || exit 77
            shift
            "$@"; echo "exit $?" >&2
            mount -o remount,size=64m "$DISK"
            "$@"; echo "exit $?" >&2
            cp -r "$DISK/run" "$DISK.kept"
        """
        done = subprocess.run(["unshare", "--mount", "bash", "-c", inside, "_", str(disk), *command, str(disk / "run")],
                              env={**os.environ, "DISK": str(disk)}, capture_output=True, text=True, timeout=300)
        if "exit " not in done.stderr:
            self.skipTest(f"no file system can be mounted here: {done.stderr.strip()}")
        lines = done.stderr.strip().splitlines()
        self.assertEqual([line for line in lines if line.startswith("exit")], ["exit 1", "exit 0"], done.stderr)
        self.assertIn("the disk is full", lines[0])
        self.assertIn(str(disk / "run"), lines[0])
        run(*command[1:], whole)
        self.assertEqual(contents(self.folder / "disk.kept"), contents(whole))


class BadInput(ProgramTest):
    def refused(self, code, says, *options):
        self.assert_fails(code, "pretrain", self.recipe, "--out", self.folder / "run", *options, says=says)

    def test_one_line_says_what_is_wrong(self):
        self.refused(2, ["optimizer", "did you mean 'lr'"], "--set", "optimizer.lrr=1")
        self.refused(2, ["'embed_uot.*' matches no tensor"], "--set", "optimizer.rules=[{match: 'embed_uot.*'}]")
        self.refused(2, ["hidden_size 16", "3"], "--model.num-attention-heads", 3)
        self.refused(2, ["precision 'fp8'"], "--precision", "fp8")
        self.refused(1, "vocab_size 100", "--model.vocab-size", 100)
        self.refused(2, ["model.family is gpt2", "is set, a field of neox"], "--model.family", "gpt2")
        self.refused(2, ["lr_multiplier is -2"], "--set", "optimizer.rules=[{match: '*', lr_multiplier: -2}]")
        self.refused(2, ["all tensors are frozen"], "--set", "optimizer.rules=[{match: '*', frozen: true}]")
        self.refused(2, ["given twice"], "--set", "optimizer.lr=1", "--optimizer.lr", 2)
        self.refused(2, ["-5 tokens"], "--snapshots.at", "tokens:-5")
        self.refused(1, ["nowhere.bin"], "--data.tokens", self.folder / "nowhere")

    def test_what_stands_there_is_not_replaced_unasked(self):
        mine = self.folder / "mine"
        mine.write_text("mine")
        vocabulary = ("--model.vocab-size", 300)
        for option in ("--updated", "--write-start"):
            self.assert_fails(1, "bench", "pretrain", self.recipe, *vocabulary, option, mine, says="exists already")
            self.assert_fails(1, "bench", "pretrain", self.recipe, *vocabulary, "--overwrite", option, "/dev/null",
                              says="is a device")
        run("pretrain", self.recipe, "--out", self.folder / "run")
        metrics = self.folder / "run" / "metrics.jsonl"
        before = metrics.read_bytes()
        self.assert_fails(1, "report", self.folder / "run", "--overwrite", "--out", metrics, says="is to be read")
        self.assertEqual((mine.read_text(), metrics.read_bytes()), ("mine", before))

    def test_the_readout_alone(self):
        out = self.folder / "run"
        run("pretrain", self.recipe, "--out", out, "--set",
            "optimizer.rules=[{match: '*', frozen: true}, {match: embed_out.weight, frozen: false}]")
        first, last = (tensors_of(out / "snapshots" / step / "model.safetensors") for step in ("step0", "step40"))
        self.assertEqual([name for name in first if first[name] != last[name]], ["embed_out.weight"])

    def test_a_loss_scale_that_collapses_ends_the_run(self):
        self.refused(1, ["loss scale", "last good state"], "--precision", "fp16", "--loss-scale.initial", "1e30",
                     "--loss-scale.min", "1e30", "--state.every", 5)

    def test_a_rate_that_is_too_high_names_the_last_good_state(self):
        self.refused(1, ["is not finite", "last good state"], "--optimizer.lr", "1e30", "--optimizer.grad-clip", 0,
                     "--schedule.warmup-steps", 0, "--state.every", 1)


if __name__ == "__main__":
    unittest.main()
