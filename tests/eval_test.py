"""Dictionaries as a user evaluates them: which numbers there are, and what they cost."""
import csv
import json
import pathlib
import re
import struct
import unittest

from program import ROOT, ProgramTest, contents, peak_bytes, run, run_json

STEPS = list(range(0, 8000, 1000))
WIDTH = 512


def write_stack(path, rows, steps=STEPS):
    """A stack of zeros, which take no room on the disk."""
    size = rows * WIDTH * 4
    header = {"__metadata__": {"format": "cresco-stack", "version": "1", "model": "m", "matrix": "W_U",
                               "steps": ",".join(map(str, steps)), "source_sha256": ",".join(["0" * 64] * len(steps))}}
    for i, step in enumerate(steps):
        header[f"step_{step}"] = {"dtype": "F32", "shape": [rows, WIDTH], "data_offsets": [i * size, (i + 1) * size]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + len(steps) * size)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Eval(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_folder = cls.shared / "run"
        run("pretrain", cls.recipe, "--out", cls.run_folder)
        cls.stack = cls.shared / "w_u.safetensors"
        run("extract", cls.run_folder, "--steps", "0,8,20,40", "--out", cls.stack)
        cls.dictionary = cls.shared / "dictionary"
        run("train", cls.stack, "--d-sae", 64, "--n-epochs", 20, "--batch-size", 64, "--lr", "3e-3",
            "--out", cls.dictionary)

    def num_rows(self):
        return run_json("show", self.stack)["tensors"]["step_0"]["shape"][0]

    def test_every_number_has_a_formula(self):
        text = (ROOT / "docs/metrics.md").read_text()
        known = set(re.findall(r"`([^`\s]+)`", text))
        made = run_json("eval", self.dictionary, "--stack", self.stack, "--definitions", "all")
        ids = list(made["pooled"]) + [key for key in made["snapshots"][0] if key != "step"]
        self.assertGreater(len(ids), 30)
        self.assertEqual([name for name in ids if name not in known], [])
        self.assertEqual(list(made["definitions"]["pooled"]), list(made["pooled"]))
        self.assertEqual(made["batch_rows"], 64)
        ours = run_json("eval", self.dictionary, "--stack", self.stack)
        self.assertEqual(list(ours["pooled"]), ["explained_variance_pooled", "l0", "reconstruction_mse", "dead_rate_1e-6"])
        for name, value in ours["pooled"].items():
            self.assertEqual(made["pooled"][name], value)
        self.assert_fails(2, "eval", self.dictionary, "--stack", self.stack, "--definitions", "both", says="ours, all")

    def test_batches_are_those_that_were_asked_for(self):
        pooled = {}
        for rows in (0, 7, 300, 100000):
            made = run_json("eval", self.dictionary, "--stack", self.stack, "--definitions", "all", "--quality-batch", rows)
            pooled[rows] = made["pooled"]
        # One batch of all rows leaves the unbiased variance as the only difference.
        whole = pooled[100000]
        self.assertAlmostEqual(whole["explained_variance_batch"], whole["explained_variance_pooled"], places=3)
        self.assertAlmostEqual(whole["l0_batch"], whole["l0"], places=9)
        self.assertNotEqual(pooled[7]["explained_variance_batch"], pooled[300]["explained_variance_batch"])

    def test_blocks_change_nothing(self):
        arguments = ("eval", self.dictionary, "--stack", self.stack, "--definitions", "all")
        whole, blocks = run_json(*arguments), run_json(*arguments, "--block-bytes", 20000)
        for name, value in whole["pooled"].items():
            self.assertAlmostEqual(blocks["pooled"][name], value, delta=1e-5 * max(1, abs(value)), msg=name)

    def test_a_plan_names_the_cost(self):
        plan = run_json("eval", self.dictionary, "--stack", self.stack, "--dry-run")
        rows, width = self.num_rows(), 16
        self.assertEqual(plan["flops"], 4 * rows * 4 * width * 64)  # encode and decode, two for each of their numbers
        more = run_json("eval", self.dictionary, "--stack", self.stack, "--dry-run", "--definitions", "all")
        self.assertEqual(more["flops"], 1.5 * plan["flops"])
        self.assertLess(plan["memory_bytes"], 64 << 20)

    def test_readouts_are_put_to_a_text(self):
        out = self.folder / "quality"
        arguments = ("eval", self.dictionary, "--stack", self.stack, "--trajectory", self.run_folder,
                     "--corpus", self.corpus, "--fidelity.windows", 6, "--fidelity.context", 16)
        made = run_json(*arguments, "--out", out)
        self.assertEqual([row["step"] for row in made["fidelity"]], [0, 8, 20, 40])
        last = made["fidelity"][-1]
        self.assertEqual(last["n_predictions"], 6 * 15)
        # The model's own loss on the same windows, by another verb.
        ids = self.folder / "ids.npy"
        tokens = struct.unpack("<96H", pathlib.Path(f"{self.corpus}.bin").read_bytes()[:192])
        header = "{'descr': '<i4', 'fortran_order': False, 'shape': (6, 16), }"
        header += " " * (117 - len(header)) + "\n"
        ids.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
                        + struct.pack("<96i", *tokens))
        scores = run_json("score", self.run_folder, "--ids", ids, "--steps", "0,8,20,40")["snapshots"]
        for row, score in zip(made["fidelity"], scores):
            self.assertAlmostEqual(row["nll_native"], score["loss"], places=5)
            self.assertGreaterEqual(row["kl_native_to_recon"], 0)
            self.assertAlmostEqual(row["delta_nll"], row["nll_recon"] - row["nll_native"], places=12)
        known = {"step"} | set(re.findall(r"`([^`\s]+)`", (ROOT / "docs/metrics.md").read_text()))
        self.assertEqual([key for key in last if key not in known], [])

        functional = rows_of(out / "readout_functional_fidelity.csv")
        self.assertEqual([row["step"] for row in functional], ["0", "8", "20", "40"])
        self.assertEqual(float(functional[-1]["logit_r2"]), last["logit_r2"])
        self.assertEqual(list(functional[0])[:9], ["model", "d_sae", "seed", "step", "hln_cache", "matrix_ev", "matrix_sse",
                                                   "matrix_var", "n_predictions"])
        strata = [row for row in rows_of(out / "strata_summary.csv") if row["step"] == "40"]
        self.assertEqual([key for key in strata[0] if key not in known | {"model", "d_sae", "seed", "scheme", "bin"}], [])
        for partition in ("freq_decile", "length_bin", "coarse_class"):
            bins = [row for row in strata if row["scheme"] == partition]
            self.assertEqual(sum(int(row["n_targets"]) for row in bins), 90, partition)
            nll = sum(int(row["n_targets"]) * float(row["nll_native"] or 0) for row in bins) / 90
            self.assertAlmostEqual(nll, last["nll_native"], places=6)
            if partition != "freq_decile":
                self.assertEqual(sum(int(row["n_rows"]) for row in bins), self.num_rows())
                error = sum(float(row["matrix_sse"]) for row in bins)
                self.assertAlmostEqual(error, last["matrix_sse"], delta=1e-6 * error)
        blocks = run_json(*arguments, "--block-bytes", 30000)["fidelity"][-1]
        for key, value in last.items():
            self.assertAlmostEqual(blocks[key], value, delta=1e-4 * max(1, abs(value)), msg=key)

        self.assert_fails(2, "eval", self.dictionary, "--stack", self.stack, "--corpus", self.corpus, says="belong together")
        self.assert_fails(1, *arguments[:6], "--corpus", self.corpus, "--fidelity.context", 64, says="context has 32")
        self.assertGreater(run_json(*arguments, "--dry-run")["flops"],
                           run_json(*arguments[:4], "--dry-run")["flops"])

    def test_a_failure_leaves_what_it_was_to_replace(self):
        out = self.folder / "quality"
        run("eval", self.dictionary, "--stack", self.stack, "--out", out)
        before = contents(out)
        self.assertIn("manifest.json", before)
        again = ("eval", self.dictionary, "--stack", self.stack, "--out", out, "--overwrite", "--quiet")
        ends, narrow = self.folder / "ends.safetensors", self.folder / "narrow.safetensors"
        run("extract", self.run_folder, "--steps", "0,40", "--out", ends)
        write_stack(narrow, 8, [4])
        reads = ("--trajectory", self.run_folder, "--corpus", self.corpus)
        self.assert_fails(1, *again, "--heldout", ends, says="has no step between the trained ones 0, 8, 20, 40")
        self.assert_fails(1, *again, "--heldout", narrow, says="narrow.safetensors: holds 8 x 512 matrices")
        self.assert_fails(1, *again, *reads, "--tokenizer", self.folder / "none.json", says="none.json")
        self.assert_fails(1, *again, *reads, "--fidelity.context", 5000, says="has 32 positions")
        # What shows only while it works: the trajectory of another model.
        recipe = self.folder / "other.yaml"
        recipe.write_text(self.recipe.read_text().replace("lr: 1.0e-2", "lr: 5.0e-2"))
        run("pretrain", recipe, "--out", self.folder / "other")
        self.assert_fails(1, *again, "--trajectory", self.folder / "other", "--corpus", self.corpus,
                          "--fidelity.context", 16, says="another trajectory")
        self.assertEqual(contents(out), before)
        run(*again, "--definitions", "all")
        self.assertNotEqual(contents(out), before)

    def test_what_is_not_held_out_is_said(self):
        more, out = self.folder / "more.safetensors", self.folder / "quality"
        few = self.folder / "few.safetensors"
        run("extract", self.run_folder, "--steps", "8,20", "--out", few)
        run("train", few, "--d-sae", 32, "--n-epochs", 2, "--batch-size", 64, "--out", self.folder / "d")
        run("extract", self.run_folder, "--steps", "4,8,12,40", "--out", more)
        done = run("eval", self.folder / "d", "--stack", few, "--heldout", more, "--out", out)
        self.assertIn("steps 4, 8, 40 are left out", done.stderr.decode())
        self.assertEqual([row["step"] for row in rows_of(out / "heldout.csv")], ["12"])
        self.assertEqual(json.loads((out / "manifest.json").read_text())["facts"]["heldout_left_out"], [4, 8, 40])

    def test_a_stack_of_another_trajectory_is_noticed(self):
        other = self.folder / "other"
        run("pretrain", self.recipe, "--seed", 9, "--out", other)
        self.assert_fails(1, "eval", self.dictionary, "--stack", self.stack, "--trajectory", other, "--corpus", self.corpus,
                          "--fidelity.windows", 1, says="of another trajectory")

    def test_memory_does_not_grow_with_the_stack(self):
        small, large = self.folder / "small.safetensors", self.folder / "large.safetensors"
        write_stack(small, 64)
        write_stack(large, 32768)  # 512 MiB
        run("train", small, "--d-sae", 128, "--n-epochs", 1, "--batch-size", 64, "--out", self.folder / "d")
        arguments = ("--definitions", "all", "--block-bytes", 8 << 20, "--quiet")
        base = peak_bytes("eval", self.folder / "d", "--stack", small, *arguments)
        used = peak_bytes("eval", self.folder / "d", "--stack", large, *arguments)
        self.assertLess(used - base, 80 << 20)
        # Held-out steps too, beside some numbers for each row.
        held_out = self.folder / "held_out.safetensors"
        write_stack(held_out, 32768, [500, 4500])
        arguments += ("--heldout", held_out, "--pca=false")
        used = peak_bytes("eval", self.folder / "d", "--stack", large, *arguments)
        self.assertLess(used - base, 96 << 20)


if __name__ == "__main__":
    unittest.main()
