"""Models as transformers and PyTorch write them, against what they compute and read: `make test-peers`.

CRESCO_PEER_MODELS is the folder that tools/make_goldens.py --folders wrote: a folder per model, stored type and
layout, with the ids and the logits beside the weights. What the program writes is opened by the same libraries.
"""
import os
import pathlib
import shutil
import tempfile
import unittest

import numpy
import safetensors.torch
import torch
import transformers

from parity_test import read_npy, relative_error
from program import run, run_json

FOLDERS = sorted(path.parent for path in pathlib.Path(os.environ["CRESCO_PEER_MODELS"]).glob("*/logits.npy"))


class PeerModels(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cresco-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def test_there_are_models_of_every_family(self):
        self.assertEqual({path.name.split("_")[0] for path in FOLDERS}, {"gpt2", "neox", "olmo2"})

    def test_logits_agree(self):
        for model in FOLDERS:
            with self.subTest(model=model.name):
                out = self.folder / f"{model.name}.npy"
                run("logits", model, "--ids", model / "ids.npy", "--out", out)
                shape, ours = read_npy(out)
                golden_shape, golden = read_npy(model / "logits.npy")
                self.assertEqual(shape, golden_shape)
                self.assertLessEqual(relative_error(ours, golden), 1e-5)

    def steps_of(self, family, dtype):
        """A trajectory of one model four times over: each of the layouts that the libraries write is a step."""
        steps = self.folder / f"{family}_{dtype}"
        layouts = ("safetensors", "safetensors_shards", "bin", "bin_shards")
        for step, layout in enumerate(layouts):
            shutil.copytree(next(path for path in FOLDERS if path.name == f"{family}_{dtype}_{layout}"),
                            steps / f"step{step}")
        return steps

    def test_show_extract_and_lint(self):
        names = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}
        for family in ("gpt2", "neox", "olmo2"):
            for dtype, shown_as in names.items():
                with self.subTest(family=family, dtype=dtype):
                    steps = self.steps_of(family, dtype)
                    shown = run_json("show", steps)
                    self.assertEqual(shown["layout"], "hf_steps")
                    self.assertEqual(shown["dtypes"], {shown_as: [0, 1, 2, 3]})
                    model = transformers.AutoModelForCausalLM.from_pretrained(steps / "step0", dtype="auto")
                    for matrix, module in (("W_U", model.get_output_embeddings()),
                                           ("W_E", model.get_input_embeddings())):
                        out = self.folder / f"{family}_{dtype}_{matrix}.safetensors"
                        run("extract", steps, "--matrix", matrix, "--out", out)
                        stack = safetensors.torch.load_file(out)
                        for step in range(4):
                            self.assertTrue(torch.equal(stack[f"step_{step}"], module.weight.data))
                    found = run_json("lint", steps, check=False)
                    # The same model four times over is what lint is there to say.
                    codes = {finding["code"] for finding in found["findings"] if finding["level"] == "error"}
                    self.assertLessEqual(codes, {"identical-snapshots"}, found)

    def test_scores_are_the_losses_of_transformers(self):
        for family in ("gpt2", "neox", "olmo2"):
            folder = next(path for path in FOLDERS if path.name == f"{family}_fp32_safetensors")
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
            ids = torch.from_numpy(numpy.load(folder / "ids.npy"))
            with torch.no_grad():
                logits = model(ids[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item()
            score = run_json("score", folder, "--ids", folder / "ids.npy")["snapshots"][0]
            self.assertAlmostEqual(score["loss"], loss, delta=1e-5 * loss)
            self.assertEqual(score["num_tokens"], ids.numel() - ids.shape[0])

    def test_what_is_converted_opens_elsewhere(self):
        folder = next(path for path in FOLDERS if path.name == "gpt2_fp32_bin")
        wu, nanogpt, back = self.folder / "wu", self.folder / "ckpt.pt", self.folder / "back"
        run("convert", folder, "--to", "wu_pt", "--out", wu)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        loaded = torch.load(next(wu.glob("*_wu.pt")), weights_only=True, mmap=True)
        self.assertTrue(torch.equal(loaded["W_U"], model.get_output_embeddings().weight.data))
        run("convert", folder, "--to", "nanogpt", "--out", nanogpt)
        checkpoint = torch.load(nanogpt, weights_only=True)
        self.assertEqual(checkpoint["model_args"]["n_layer"], model.config.n_layer)
        self.assertTrue(torch.equal(checkpoint["model"]["transformer.h.0.mlp.c_fc.weight"],
                                    model.transformer.h[0].mlp.c_fc.weight.data.t()))
        run("convert", nanogpt, "--to", "llmc", "--out", self.folder / "model.bin")
        run("convert", self.folder / "model.bin", "--to", "hf_model", "--out", back)
        again = transformers.AutoModelForCausalLM.from_pretrained(back)
        ids = torch.from_numpy(numpy.load(folder / "ids.npy"))
        with torch.no_grad():
            self.assertTrue(torch.equal(again(ids).logits, model(ids).logits))


if __name__ == "__main__":
    unittest.main()
