"""Trajectories as a user meets them: shown, extracted, scored and converted, by processes that may be killed."""
import hashlib
import json
import math
import shutil
import signal
import struct
import subprocess
import time
import unittest

from program import PROGRAM, ProgramTest, peak_bytes, run, run_json


def read_header(path):
    """(tensors, metadata, where the data begins) of a safetensors file, read without any library."""
    with path.open("rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    metadata = header.pop("__metadata__", {})
    return header, metadata, 8 + size


def tensor_bytes(path, name):
    header, _, begin = read_header(path)
    first, last = header[name]["data_offsets"]
    with path.open("rb") as file:
        file.seek(begin + first)
        return file.read(last - first)


def write_sparse(folder, steps, rows, width):
    """Snapshots of one large matrix of zeros that take no room on the disk."""
    size = rows * width * 4
    header = json.dumps({"lm_head.weight": {"dtype": "F32", "shape": [rows, width], "data_offsets": [0, size]}}).encode()
    for step in steps:
        path = folder / f"step{step}"
        path.mkdir(parents=True)
        (path / "config.json").write_text('{"model_type": "llama"}')
        with (path / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + size)


def contents(folder):
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Trajectories(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_folder = cls.shared / "run"
        run("pretrain", cls.recipe, "--out", cls.run_folder)

    def kill_when(self, arguments, happened):
        """SIGKILLs the command as soon as `happened()`; whether it was killed before it ended."""
        process = subprocess.Popen([PROGRAM, *map(str, arguments), "--quiet"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline and not happened():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL

    def test_show_reads_headers_alone(self):
        shown = run_json("show", self.run_folder)
        self.assertEqual(shown["layout"], "run")
        self.assertEqual(shown["steps"], list(range(0, 41, 4)))
        self.assertEqual(shown["dtypes"], {"F32": shown["steps"]})
        broken = self.folder / "steps"
        run("convert", self.run_folder, "--to", "hf_steps", "--steps", "0,4,8", "--out", broken)
        with (broken / "step4/model.safetensors").open("r+b") as file:
            file.truncate(100)
        shown = run_json("show", broken)
        self.assertEqual(shown["dtypes"], {"F32": [0, 8]})
        self.assertEqual([item["step"] for item in shown["unreadable"]], [4])
        self.assertIn("incomplete copy", shown["unreadable"][0]["error"])

    def test_equal_bytes_in_and_out(self):
        out = self.folder / "s.safetensors"
        run("extract", self.run_folder, "--matrix", "W_U", "--out", out)
        hashes = read_header(out)[1]["source_sha256"].split(",")
        for k, step in enumerate(range(0, 41, 4)):
            source = tensor_bytes(self.run_folder / f"snapshots/step{step}/model.safetensors", "embed_out.weight")
            self.assertEqual(tensor_bytes(out, f"step_{step}"), source)
            self.assertEqual(hashes[k], hashlib.sha256(source).hexdigest())

    def test_a_pattern_writes_a_folder(self):
        out = self.folder / "stacks"
        made = run_json("extract", self.run_folder, "--matrix", "W_QK.1.*", "--steps", "0,40", "--out", out)
        self.assertEqual([item["matrix"] for item in made["matrices"]], ["W_QK.1.0", "W_QK.1.1"])
        self.assertIn("without rotary", read_header(out / "W_QK.1.0.safetensors")[1]["note"])
        self.assert_fails(1, "extract", self.run_folder, "--matrix", "W_Z.*", "--out", self.folder / "x",
                          says="no matrix and no tensor matches")
        self.assert_fails(1, "extract", self.run_folder, "--matrix", "W_QK.1.*", "--out", out, says="--overwrite")

    def test_a_killed_extraction_goes_on(self):
        source = self.folder / "steps"
        write_sparse(source, range(40), 512, 1024)
        whole, killed = self.folder / "whole.safetensors", self.folder / "killed.safetensors"
        run("extract", source, "--out", whole)
        journal = self.folder / "killed.safetensors.part.json"
        arguments = ("extract", source, "--out", killed)
        for _ in range(8):  # on a busy machine it may end before the kill
            if self.kill_when(arguments, journal.exists):
                break
            killed.unlink()
        self.assertFalse(killed.exists())
        self.assertTrue(journal.exists())
        run(*arguments)
        self.assertEqual(killed.read_bytes(), whole.read_bytes())
        self.assertFalse(journal.exists())

    def test_memory_does_not_grow_with_steps(self):
        source = self.folder / "steps"
        rows, width = 8192, 1024  # 32 MiB
        write_sparse(source, range(14), rows, width)
        base = peak_bytes("--version")
        limit = rows * width * 4 + (256 << 20)  # less than the matrices together
        used = peak_bytes("extract", source, "--out", self.folder / "s.safetensors", "--quiet")
        self.assertLess(used - base, limit)
        used = peak_bytes("extract", source, "--dtype", "bf16", "--out", self.folder / "b.safetensors", "--quiet")
        self.assertLess(used - base, limit)

    def test_scores_are_those_of_training_and_go_on(self):
        arguments = ("score", self.run_folder, "--corpus", self.corpus)
        scores = run_json(*arguments)["snapshots"]
        self.assertEqual([s["step"] for s in scores], list(range(0, 41, 4)))
        self.assertLess(scores[-1]["loss"], scores[0]["loss"] - 0.5)
        manifest = json.loads((self.corpus.parent / "c.bin.manifest.json").read_text())
        per_token = manifest["facts"]["num_bytes"] / manifest["facts"]["num_tokens"]
        for s in scores:
            self.assertAlmostEqual(s["perplexity"], 2.718281828459045 ** s["loss"], delta=1e-6 * s["perplexity"])
            self.assertAlmostEqual(s["bits_per_byte"], s["loss"] / 0.6931471805599453 / per_token, places=9)

        out = self.folder / "scores"
        lines = out / "scores.jsonl"
        if self.kill_when((*arguments, "--out", out), lambda: lines.exists() and lines.read_text().count("\n") >= 3):
            self.assertFalse((out / "scores.csv").exists())
        kept = lines.read_text()
        again = run_json(*arguments, "--out", out)["snapshots"]
        self.assertEqual(again, scores)
        self.assertTrue(lines.read_text().startswith(kept))
        self.assertTrue((out / "scores.csv").exists())
        self.assert_fails(1, *arguments, "--context", 8, "--out", out, says=["other settings", "--overwrite"])
        self.assert_fails(2, "score", self.run_folder, says="--corpus and --ids")
        self.assert_fails(1, *arguments, "--context", 64, says="the model's context has 32")

    def test_converted_snapshots_give_the_same_scores(self):
        out = self.folder / "steps"
        made = run_json("convert", self.run_folder, "--to", "hf_steps", "--steps", "8,40", "--out", out)
        self.assertEqual([s["num_equal"] for s in made["steps"]], [s["num_tensors"] for s in made["steps"]])
        ours = run_json("score", self.run_folder, "--steps", "8,40", "--corpus", self.corpus)
        theirs = run_json("score", out, "--corpus", self.corpus)
        self.assertEqual(ours, theirs)
        self.assertTrue((out / "tokenizer.json").exists())
        run("convert", self.run_folder, "--to", "wu_pt", "--out", self.folder / "wu")
        run("convert", self.folder / "wu", "--to", "stack", "--out", self.folder / "s.safetensors")
        run("extract", self.run_folder, "--out", self.folder / "e.safetensors")
        self.assertEqual(tensor_bytes(self.folder / "s.safetensors", "step_40"),
                         tensor_bytes(self.folder / "e.safetensors", "step_40"))
        self.assert_fails(1, "convert", self.folder / "wu", "--to", "hf_steps", "--out", self.folder / "x",
                          says="holds single matrices")
        self.assert_fails(2, "convert", self.run_folder, "--to", "gguf", "--out", self.folder / "x",
                          says="not one of")

    def test_an_output_never_replaces_what_it_is_made_from(self):
        source, copy = self.folder / "run", self.folder / "source.safetensors"
        shutil.copytree(self.run_folder, source)
        run("extract", source, "--steps", "40", "--out", copy)
        before = contents(self.folder)
        ids = self.folder / "none.npy"
        for arguments in (("score", source, "--corpus", self.corpus, "--out", source),
                          ("convert", source, "--to", "hf_steps", "--out", source),
                          ("convert", source, "--to", "wu_pt", "--out", source / "snapshots"),
                          ("convert", copy, "--to", "wu_pt", "--out", copy),
                          ("extract", source, "--out", "/dev/null")):
            done = run(*arguments, "--overwrite", check=False)
            self.assertIn(done.returncode, (1, 2), arguments)
        self.assertEqual(contents(self.folder), before)
        self.assert_fails(1, "score", source, "--ids", ids, says="none.npy")

    def test_files_named_from_where_one_stands(self):
        where = self.run_folder / "snapshots/step40"
        out = self.folder / "s.safetensors"
        run("extract", "model.safetensors", "--out", out, cwd=where)
        self.assertEqual(tensor_bytes(out, "step_40"), tensor_bytes(where / "model.safetensors", "embed_out.weight"))
        self.assertEqual(run_json("show", ".", cwd=where)["kind"], "snapshot")

    def test_scores_go_on_from_their_first_snapshot(self):
        out = self.folder / "scores"
        arguments = ("score", self.run_folder, "--corpus", self.corpus, "--steps", "0,4", "--out", out)
        self.kill_when(arguments, (out / "settings.json").exists)
        self.assertEqual(len(run_json(*arguments)["snapshots"]), 2)

    def test_a_conversion_is_gone_on_with_by_the_same_settings_alone(self):
        out = self.folder / "steps"
        run("convert", self.run_folder, "--to", "hf_steps", "--steps", "0", "--dtype", "fp16", "--out", out)
        self.assert_fails(1, "convert", self.run_folder, "--to", "hf_steps", "--out", out,
                          says=["dtype", "--overwrite"])
        run("convert", self.run_folder, "--to", "hf_steps", "--dtype", "fp16", "--out", out)
        self.assertEqual(run_json("show", out)["dtypes"], {"F16": list(range(0, 41, 4))})

    def test_a_state_dict_without_a_config(self):
        """The shapes of a Pythia size say which it is; those of a deeper model are no smaller one's."""
        def write(path, layers, width):
            tensors = {"gpt_neox.embed_in.weight": [50304, width], "embed_out.weight": [50304, width],
                       "gpt_neox.final_layer_norm.weight": [width], "gpt_neox.final_layer_norm.bias": [width]}
            for layer in range(layers):
                at = f"gpt_neox.layers.{layer}."
                for name, rows, columns in (("attention.query_key_value", 3, 1), ("attention.dense", 1, 1),
                                            ("mlp.dense_h_to_4h", 4, 1), ("mlp.dense_4h_to_h", 1, 4)):
                    tensors[f"{at}{name}.weight"] = [rows * width, columns * width]
                    tensors[f"{at}{name}.bias"] = [rows * width]
                for norm in ("input_layernorm", "post_attention_layernorm"):
                    tensors[f"{at}{norm}.weight"] = tensors[f"{at}{norm}.bias"] = [width]
            header, end = {}, 0
            for name, shape in tensors.items():
                size = 2 * math.prod(shape)
                header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
                end += size
            text = json.dumps(header).encode()
            with path.open("wb") as file:
                file.write(struct.pack("<Q", len(text)) + text)
                file.truncate(8 + len(text) + end)
        dry = ("--out", self.folder / "x.safetensors", "--dry-run")
        write(self.folder / "b.safetensors", 24, 2048)  # 1.4b: 1b's width, and 8 layers more
        done = run("extract", self.folder / "b.safetensors", "--matrix", "W_QK.15.15", *dry)
        self.assertIn(b"(2048, 2048)", done.stdout)  # 1b has 8 heads a layer, 1.4b 16
        write(self.folder / "c.safetensors", 17, 2048)
        self.assert_fails(1, "extract", self.folder / "c.safetensors", "--matrix", "W_QK.0.0", *dry,
                          says="no config of a known family")

    def test_bench_extract_reports_its_limit(self):
        file = self.run_folder / "snapshots/step40/model.safetensors"
        made = run_json("bench", "extract", file, "--tensor", "embed_out.weight")
        self.assertEqual(made["num_bytes"], len(tensor_bytes(file, "embed_out.weight")))
        self.assertGreater(made["bytes_per_second"], 0)


if __name__ == "__main__":
    unittest.main()
