"""Each wrong input: one clear line, the right exit code, and nothing that was good is lost."""
import json
import resource
import struct
import subprocess
import unittest

from program import PROGRAM, ProgramTest, run, run_json


def limit_files(size):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


class Text(ProgramTest):
    def train(self, path, *options):
        return ("tokenizer", "train", path, "--vocab-size", 300, "--out", self.folder / "t.json", *options)

    def tokenize(self, path):
        return ("tokenize", path, "--tokenizer", self.tokenizer, "--out", self.folder / "c")

    def write(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def test_empty_and_binary(self):
        empty, binary = self.write("empty.txt", b""), self.write("binary.txt", b"ab\0\1\2")
        for command in (self.train, self.tokenize):
            self.assert_fails(1, *command(empty), says=[str(empty), "empty"])
            self.assert_fails(1, *command(binary), says=[str(binary), "byte 2"])
        self.assertFalse((self.folder / "c.bin").exists())

    def test_bytes_that_are_not_utf8_come_back(self):
        path = self.write("latin1.txt", b"caf\xe9 na\xefve \xff\xfe\n")
        ids = self.folder / "ids.npy"
        run("tokenizer", "encode", "--tokenizer", self.tokenizer, path, "--out", ids)
        back = run("tokenizer", "decode", "--tokenizer", self.tokenizer, ids).stdout
        self.assertEqual(back, path.read_bytes())

    def test_a_vocabulary_the_text_does_not_support(self):
        path = self.write("short.txt", b"aaaa aaaa")
        self.assert_fails(1, *self.train(path, "--vocab-size", 5000), says="5000")
        self.assert_fails(2, *self.train(path, "--vocab-size", 100), says="100")

    def test_a_line_without_text(self):
        path = self.write("x.jsonl", b'{"text": "a"}\n{"body": "b"}\n')
        self.assert_fails(1, *self.tokenize(path), says="line 2")

    def test_a_damaged_tokenizer(self):
        good = self.tokenizer.read_bytes()
        for name, data in {"cut": good[: len(good) // 2], "none": b"", "list": b"[]",
                           "merges": good.replace(b'"merges"', b'"mergers"')}.items():
            path = self.write(name + ".json", data)
            self.assert_fails(1, "tokenize", self.text, "--tokenizer", path, "--out", self.folder / "c", says=str(path))


class Corpus(ProgramTest):
    def test_too_short_for_a_window(self):
        self.assert_fails(1, "pretrain", self.recipe, "--data.sequence-length", 100_000,
                          "--model.max-position-embeddings", 100_000, "--out", self.folder / "r",
                          says="less than one window")

    def test_tokens_past_the_vocabulary(self):
        self.assert_fails(1, "pretrain", self.recipe, "--model.vocab-size", 280, "--out", self.folder / "r",
                          says=["280", "300"])
        self.assertFalse((self.folder / "r").exists())

    def test_damaged_index(self):
        prefix = self.folder / "c"
        idx = (self.corpus.parent / "c.idx").read_bytes()
        (self.folder / "c.bin").write_bytes((self.corpus.parent / "c.bin").read_bytes())
        for data in (idx[:40], idx[:-1], b"MMIDIDX\0\0" + b"\xff" * 60, b""):
            (self.folder / "c.idx").write_bytes(data)
            self.assert_fails(1, "show", prefix, says="c.idx")
            self.assert_fails(1, "pretrain", self.recipe, "--data.tokens", prefix, "--model.vocab-size", 300,
                              "--out", self.folder / "r", says="c.idx")

    def test_no_tokenizer_and_no_vocabulary_size(self):
        for end in ("bin", "idx"):
            (self.folder / f"c.{end}").write_bytes((self.corpus.parent / f"c.{end}").read_bytes())
        self.assert_fails(2, "pretrain", self.recipe, "--data.tokens", self.folder / "c", "--out", self.folder / "r",
                          says=["tokenizer.json", "model.vocab_size"])

    def test_less_than_a_batch(self):
        self.assert_fails(1, "pretrain", self.recipe, "--batch.sequences", 5000, "--out", self.folder / "r",
                          says=["training windows", "one batch takes 5000"])
        self.assertFalse((self.folder / "r").exists())

    def test_an_index_of_another_type(self):
        idx, bin_ = ((self.corpus.parent / f"c.{end}").read_bytes() for end in ("idx", "bin"))
        for kind, data, says in ((4, bin_, ["4 bytes an id", "have 2 bytes each"]),
                                 (8, bin_ + bin_, ["2 bytes an id", "have 4 bytes each"]), (8, bin_ + b"x", ["c.bin"])):
            (self.folder / "c.idx").write_bytes(idx[:17] + bytes([kind]) + idx[18:])
            (self.folder / "c.bin").write_bytes(data)
            self.assert_fails(1, "pretrain", self.recipe, "--data.tokens", self.folder / "c", "--model.vocab-size", 300,
                              "--out", self.folder / "r", says=says)

    def test_ids_alone(self):
        ids = (self.corpus.parent / "c.bin").read_bytes()
        for data, says in ((ids + b"x", "whole number"), (struct.pack("<3i", 20240520, 1, 99) + bytes(1012) + ids, "99 ids"),
                           (struct.pack("<3i", 20240520, 1, -1) + bytes(1012), "-1"), (b"", "less than one window"),
                           (struct.pack("<3i", 20240522, 1, 1) + bytes(2000), "evaluation set"),
                           (struct.pack("<3i", 20240801, 9, 1) + bytes(2000), "version 9")):
            (self.folder / "flat.bin").write_bytes(data)
            self.assert_fails(1, "pretrain", self.recipe, "--data.tokens", self.folder / "flat", "--model.vocab-size", 300,
                              "--out", self.folder / "r", says=["flat", says])

    def test_orders_and_windows(self):
        for options, says in ((("--data.order", "numpi"), "did you mean 'numpy'"),
                              (("--data.window", "row"), "overlap, block, row2049"),
                              (("--data.order", "pythia"), "expected row2049"),
                              (("--data.validation", "blocks:none"), "none")):
            self.assert_fails(2, "pretrain", self.recipe, *options, "--out", self.folder / "r", says=says)
        # A corpus of documents of many lengths is in no order yet.
        self.assert_fails(1, "pretrain", self.recipe, "--data.order", "pythia", "--data.window", "row2049",
                          "--out", self.folder / "r", says=["c.idx", "in no order yet"])

    def test_nan_stops_the_run(self):
        self.assert_fails(1, "pretrain", self.recipe, "--optimizer.lr", "1e30", "--schedule.warmup-steps", 0,
                          "--optimizer.grad-clip", 0, "--out", self.folder / "r", "--quiet",
                          says=["not finite", "last good state"])


class Files(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_folder = cls.shared / "run"
        run("pretrain", cls.recipe, "--budget.steps", 8, "--out", cls.run_folder)
        cls.stack = cls.shared / "stack.safetensors"
        run("extract", cls.run_folder, "--out", cls.stack)

    def test_an_output_that_exists_is_kept(self):
        before = self.stack.read_bytes()
        self.assert_fails(1, "extract", self.run_folder, "--out", self.stack, says="--overwrite")
        self.assertEqual(self.stack.read_bytes(), before)

    def test_a_full_disk_loses_nothing(self):
        before = self.stack.read_bytes()
        self.assert_fails(1, "extract", self.run_folder, "--out", self.stack, "--overwrite", says=[str(self.stack)],
                          preexec_fn=limit_files(10_000))
        self.assertEqual(self.stack.read_bytes(), before)
        # A run on a disk that fills: what was written before stays good, and it goes on afterwards.
        out = self.folder / "run"
        self.assert_fails(1, "pretrain", self.recipe, "--out", out, "--quiet", preexec_fn=limit_files(60_000))
        run("pretrain", self.recipe, "--out", out)
        self.assertTrue((out / "COMPLETE").exists())

    def test_damaged_safetensors(self):
        good = self.stack.read_bytes()
        size = struct.unpack("<Q", good[:8])[0]
        header = json.loads(good[8 : 8 + size])
        step = next(name for name in header if name != "__metadata__")

        def with_header(change):
            changed = json.loads(json.dumps(header))
            change(changed)
            text = json.dumps(changed).encode()
            return struct.pack("<Q", len(text)) + text + good[8 + size :]

        cases = {
            "cut": good[:-5],
            "tiny": good[:4],
            "length": struct.pack("<Q", 2**63) + good[8:],
            "shape": with_header(lambda h: h[step].update(shape=[2**40, 2**40])),
            "offsets": with_header(lambda h: h[step].update(data_offsets=[0, 2**60])),
            "dtype": with_header(lambda h: h[step].update(dtype="F31")),
            "names": with_header(lambda h: h["__metadata__"].update(steps="0,1,77")),
            "steps": with_header(lambda h: h["__metadata__"].update(steps="0,1,x")),
        }
        for name, data in cases.items():
            path = self.folder / f"{name}.safetensors"
            path.write_bytes(data)
            for command in (("show", path), ("train", path, "--d-sae", 64, "--out", self.folder / "d")):
                self.assert_fails(1, *command, says=str(path))

    def test_settings_of_sparse_autoencoders(self):
        out = self.folder / "saes"
        train = ("train-sae", self.stack, "--out", out)
        self.assert_fails(2, *train, says="--d-sae")
        self.assert_fails(2, *train, "--d-sae", 64, "--class", "topkk", says="did you mean 'topk'")
        self.assert_fails(2, *train, "--d-sae", 8, "--k", 9, says="k is 9")
        self.assert_fails(2, *train, "--d-sae", 64, "--folds", 1, says="folds is 1")
        self.assert_fails(1, *train, "--d-sae", 64, "--steps", "3", says="3")
        self.assertFalse(out.exists())
        small = (*train, "--d-sae", 64, "--steps", "0", "--n-epochs", 3)
        run(*small)
        self.assert_fails(1, *small, "--lr", 1, says="training.lr was 0.0003, now it is 1")
        self.assert_fails(1, "train-sae", self.stack, "--d-sae", 64, "--out", self.run_folder, says="cresco pretrain")

    def test_overwrite_removes_only_what_it_made(self):
        mine = self.folder / "mine"
        mine.mkdir()
        (mine / "notes.txt").write_text("mine")
        self.assert_fails(1, "pretrain", self.recipe, "--out", mine, "--overwrite", says="no manifest")
        self.assert_fails(1, "spectra", self.stack, "--weights", "--out", mine, "--overwrite", says="no manifest")
        self.assertTrue((mine / "notes.txt").exists())
        # Nor a folder that it has to read from, nor before the rest of the command is sound.
        before = (self.run_folder / "metrics.jsonl").read_bytes()
        self.assert_fails(1, "spectra", self.run_folder, "--weights", "--out", self.run_folder, "--overwrite",
                          says="cannot be replaced")
        self.assert_fails(2, "pretrain", self.recipe, "--init.name", "nope", "--out", self.run_folder, "--overwrite",
                          says="init.name")
        self.assertEqual((self.run_folder / "metrics.jsonl").read_bytes(), before)

    def test_dictionaries_that_cannot_be_matched(self):
        dictionaries = {}
        for name, width, steps in (("a", 8, [0, 8]), ("wide", 12, [0, 8]), ("later", 8, [16, 32])):
            folder = self.folder / name
            folder.mkdir()
            header = json.dumps({"W_D": {"dtype": "F32", "shape": [2, 3, width],
                                         "data_offsets": [0, 24 * width]}}).encode()
            numbers = struct.pack(f"<{6 * width}f", *(1 + i % 7 for i in range(6 * width)))
            (folder / "d.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + numbers)
            (folder / "d.config.json").write_text(json.dumps({"model_name": "m", "steps": steps}))
            dictionaries[name] = folder
        a, out = dictionaries["a"], self.folder / "out"

        def fails(code, *arguments, says):
            self.assert_fails(code, "match", *arguments, "--out", out, says=says)
            self.assertFalse(out.exists())

        fails(2, a, says="two or more")
        fails(2, a, a, "--similarity", "dot", says="similarity 'dot'")
        fails(2, a, a, "--dead", "gone", says="dead 'gone'")
        fails(2, a, a, "--heads", "first", says="--heads: 'first'")
        fails(2, a, a, "--threshold", "1.5", says="1.5")
        fails(2, a, a, "--shuffels", "3", says="did you mean '--shuffles'")
        fails(1, a, self.folder / "nowhere", says="nowhere")
        fails(1, a, self.stack, says="config.json")
        fails(1, a, dictionaries["wide"], says=["8 wide", "is 12", "different models"])
        fails(1, a, dictionaries["later"], says=["no step in common", "0, 8", "16, 32", "--heads final"])
        fails(1, a, a, "--heads", "0,5", says=["no step 5", "0, 8"])
        file = a / "d.safetensors"
        sound = file.read_bytes()
        for damaged, says in ((sound[:-4], str(file)), (sound[:-4] + struct.pack("<f", float("nan")), "not finite"),
                              (sound.replace(b"[2, 3, 8]", b"[2, 8, 3]"), "is 3 wide")):
            file.write_bytes(damaged)
            fails(1, a, dictionaries["later"], "--heads", "all", says=says)
        file.write_bytes(sound)
        self.assertEqual(run_json("match", a, a)["mutual"], 3)

    def test_another_tokenizer_is_not_replaced(self):
        (self.folder / "tokenizer.json").write_text("{}")
        self.assert_fails(1, "extract", self.run_folder, "--out", self.folder / "s.safetensors", says="another tokenizer")
        self.assertEqual((self.folder / "tokenizer.json").read_text(), "{}")

    def test_missing_steps_are_named(self):
        self.assert_fails(1, "extract", self.run_folder, "--steps", "0,3", "--out", self.folder / "s", says="no step 3")
        self.assert_fails(1, "extract", self.shared, "--out", self.folder / "s", says="step<N>")
        self.assert_fails(1, "extract", self.run_folder, "--matrix", "W_Q", "--out", self.folder / "s", says="W_Q")

    def test_show_knows_what_things_are(self):
        kinds = {self.run_folder: "run", self.run_folder / "snapshots": "trajectory", self.stack: "stack",
                 self.run_folder / "snapshots" / "step8": "snapshot", self.corpus: "corpus",
                 self.tokenizer: "tokenizer"}
        for path, kind in kinds.items():
            self.assertEqual(run_json("show", path)["kind"], kind, path)
        self.assertEqual(run_json("show", self.run_folder)["layout"], "run")
        self.assertEqual(run_json("show", self.stack)["steps"], [0, 4, 8])


class Commands(ProgramTest):
    def test_unknown_names_are_met_with_the_nearest(self):
        self.assert_fails(2, "pretrian", says="did you mean 'pretrain'")
        self.assert_fails(2, "extract", "x", "--matrx", "W_U", says="did you mean '--matrix'")
        self.assert_fails(2, "pretrain", self.recipe, "--set", "optimizer.lrr=1", says="did you mean 'lr'")
        recipe = self.folder / "r.yaml"
        recipe.write_text(self.recipe.read_text() + "\nschedulle: {}\n")
        self.assert_fails(2, "pretrain", recipe, "--out", self.folder / "r", says="did you mean 'schedule'")
        self.assert_fails(2, "show", says="path")
        self.assert_fails(2, "pretrain", self.recipe, "--batch.sequences", "many", says="'many' is not a")

    def test_options_take_either_dash(self):
        one = run_json("pretrain", self.recipe, "--batch.micro_sequences", 2, "--budget.steps", 2, "--out", self.folder / "a")
        two = run_json("pretrain", self.recipe, "--set", "batch.micro_sequences=2", "--set", "budget.steps=2", "--out",
                       self.folder / "b")
        self.assertEqual(one["val_loss"], two["val_loss"])

    def test_outputs_have_to_be_named(self):
        self.assert_fails(2, "tokenize", self.text, "--tokenizer", self.tokenizer, says="--out")
        self.assert_fails(2, "pretrain", self.recipe, says="--out")

    def test_numbers_out_of_range(self):
        for option, value in (("--batch.sequences", 576460752303423488), ("--budget.steps", 9 * 10**18),
                              ("--seed", "x"), ("--threads", -1), ("--device", "cuda:-1")):
            self.assert_fails(2, "pretrain", self.recipe, option, value, "--out", self.folder / "r", says="")

    def test_a_closed_stderr_is_no_crash(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM, "bogus"], stdout=subprocess.PIPE, stderr=full, timeout=60)
        self.assertEqual(done.returncode, 2)

    def test_a_dry_run_writes_nothing(self):
        out = self.folder / "r"
        done = run("pretrain", self.recipe, "--out", out, "--dry-run")
        self.assertIn(b"parameters", done.stdout)
        self.assertFalse(out.exists())


if __name__ == "__main__":
    unittest.main()
