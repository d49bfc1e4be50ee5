"""Dictionaries in the files of other libraries, by those libraries: `make test-peers`.

What we write is loaded by SAELens, dictionary_learning, sparsify and llamascopium, and computes what ours does; what
they write is read by us. Codes are compared times the decoder's row norms, since norms are folded on the way.
"""
import json
import os
import pathlib
import shutil
import tempfile
import unittest

import numpy
import safetensors.torch
import torch

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # it decodes by Triton wherever that is installed, GPU or not
from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from dictionary_learning.utils import load_dictionary
from llamascopium.models.crosscoder import Crosscoder, CrosscoderConfig
from llamascopium.models.sae import SAEConfig, SparseAutoEncoder
from llamascopium.models.sparse_dictionary import SparseDictionary
from sae_lens import (GatedSAE, GatedSAEConfig, JumpReLUSAE, JumpReLUSAEConfig, SAE, StandardSAE, StandardSAEConfig,
                      TopKSAE, TopKSAEConfig)
from sparsify import SparseCoder, SparseCoderConfig

from program import run, run_json

WIDTH, FEATURES, ROWS = 24, 100, 300
EXPORTS = {
    "saelens": ("jumprelu", "shared_jumprelu", "topk", "gated", "relu"),
    "dictionary_learning": ("jumprelu", "shared_jumprelu", "topk", "gated", "relu"),
    "sparsify": ("topk",),
    "llamascopium": ("jumprelu", "shared_jumprelu", "topk", "batchtopk", "relu"),
    "params_npz": ("jumprelu", "shared_jumprelu", "relu"),
}


def relative(a, b):
    return float((a - b).double().norm() / b.double().norm())


def loaded(layout, folder):
    """The library's own object, and how it codes and reconstructs rows (B, d), or (B, K, d)."""
    if layout == "saelens":
        sae = SAE.load_from_disk(folder)
        return lambda x: sae.encode(x), lambda x: sae(x)
    if layout == "dictionary_learning":
        ae, _ = load_dictionary(str(folder), "cpu")
        return lambda x: ae.encode(x), lambda x: ae(x)
    if layout == "sparsify":
        coder = SparseCoder.load_from_disk(folder)

        def codes(x):
            values, indices, _ = coder.encode(x)
            return torch.zeros(len(x), FEATURES).scatter_(1, indices, values)

        return codes, lambda x: coder(x).sae_out
    if layout == "llamascopium":
        model = SparseDictionary.from_pretrained(str(folder))
        return lambda x: model.encode(x), lambda x: model(x)
    # params.npz has no library: this is the forward pass that Gemma Scope publishes with it.
    p = {name: torch.from_numpy(array) for name, array in numpy.load(folder / "params.npz").items()}

    def npz_codes(x):
        pre = x @ p["W_enc"] + p["b_enc"]
        return torch.relu(pre) * (pre > p["threshold"])

    return npz_codes, lambda x: npz_codes(x) @ p["W_dec"] + p["b_dec"]


class PeerDictionaries(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        torch.set_grad_enabled(False)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cresco-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    # --- ours ---------------------------------------------------------------------------------------------

    def write_dictionary(self, activation, heads=1, preprocess="none"):
        """In the released layout; rows of all lengths in the decoder."""
        tensors = {"W_E": torch.randn(heads, WIDTH, FEATURES) / WIDTH**0.5, "b_E": torch.randn(heads, FEATURES) / 5,
                   "W_D": torch.randn(heads, FEATURES, WIDTH) * torch.rand(FEATURES, 1), "b_D": torch.randn(heads, WIDTH)}
        if activation.endswith("jumprelu"):
            tensors["activation_function.log_jumprelu_threshold"] = torch.randn(FEATURES) / 2 - 1
        if activation == "gated":
            tensors |= {f"activation_function.{n}": torch.randn(FEATURES) / 2 for n in ("b_gate", "r_mag", "b_mag")}
        config = {"jumprelu": {"act_fn": "jumprelu"}, "relu": {"act_fn": "relu"},
                  "shared_jumprelu": {"arch": "jumprelu"}, "gated": {"arch": "gated"},
                  "topk": {"arch": "topk", "topk_k": 7},
                  "batchtopk": {"arch": "batchtopk", "batchtopk_k": 7}}[activation]
        stem = self.folder / f"{activation}_{heads}_{preprocess}"
        safetensors.torch.save_file(tensors, f"{stem}.safetensors")
        pathlib.Path(f"{stem}.config.json").write_text(json.dumps(
            {"model_name": "org/model", "steps": list(range(heads)), "config": config,
             "training": {"lr": 1e-4, "batch_size": ROWS, "input_preprocess": preprocess}}))
        return f"{stem}.safetensors", tensors["W_D"].norm(dim=-1)

    def ours(self, dictionary, rows):
        """Codes and reconstructions of `cresco codes`."""
        numpy.save(self.folder / "rows.npy", rows.numpy())
        run("codes", dictionary, "--rows", self.folder / "rows.npy", "--out", self.folder / "codes.npy",
            "--reconstructions", self.folder / "r.npy", "--overwrite", "--quiet")
        codes, reconstructions = (torch.from_numpy(numpy.load(self.folder / name)) for name in ("codes.npy", "r.npy"))
        if codes.dim() < rows.dim():  # all heads share them
            codes = codes.unsqueeze(1).expand(-1, rows.shape[1], -1)
        return codes, reconstructions

    def test_what_we_write_is_what_they_compute(self):
        for layout, activations in EXPORTS.items():
            for activation in activations:
                with self.subTest(layout=layout, activation=activation):
                    dictionary, norms = self.write_dictionary(activation)
                    out = self.folder / f"{layout}_{activation}"
                    said = run_json("convert", dictionary, "--to", layout, "--out", out)
                    self.assertLessEqual(said["reconstructions_relative_difference"], 1e-5)
                    rows = torch.randn(ROWS, WIDTH)
                    codes, reconstructions = self.ours(dictionary, rows)
                    encode, forward = loaded(layout, out)
                    factor = norms[0] if said["origin"]["folded"]["decoder_norms"] else 1
                    self.assertLessEqual(relative(encode(rows), codes * factor), 1e-5)
                    self.assertLessEqual(relative(forward(rows), reconstructions), 1e-5)
                    self.assertGreater(codes.gt(0).float().mean(), 0.01)

    def test_means_and_scales_are_folded(self):
        matrix = torch.randn(500, WIDTH) * 3 + torch.randn(WIDTH)
        stack = self.folder / "stack.safetensors"
        safetensors.torch.save_file({"step_0": matrix}, stack, metadata={
            "format": "cresco-stack", "version": "1", "model": "org/model", "matrix": "W_U", "steps": "0",
            "source_sha256": "0" * 64})
        mean = matrix.mean(0)
        scale = (matrix - mean).square().mean().sqrt()
        for layout, activations in EXPORTS.items():
            for activation in activations:
                with self.subTest(layout=layout, activation=activation):
                    dictionary, norms = self.write_dictionary(activation, preprocess="center_scale")
                    out = self.folder / f"folded_{layout}_{activation}"
                    said = run_json("convert", dictionary, "--to", layout, "--stack", stack, "--out", out)
                    rows = matrix[:ROWS]
                    codes, reconstructions = self.ours(dictionary, (rows - mean) / scale)
                    encode, forward = loaded(layout, out)
                    folded = said["origin"]["folded"]
                    self.assertTrue(folded["input_preprocess"])
                    factor = norms[0] * scale if folded["decoder_norms"] else 1
                    self.assertLessEqual(relative(encode(rows), codes * factor), 1e-5)
                    self.assertLessEqual(relative(forward(rows), reconstructions * scale + mean), 1e-5)

    def test_crosscoders_in_llamascopium(self):
        for activation in ("jumprelu", "relu"):
            with self.subTest(activation=activation):
                dictionary, _ = self.write_dictionary(activation, heads=3)
                out = self.folder / f"crosscoder_{activation}"
                run("convert", dictionary, "--to", "llamascopium", "--out", out)
                rows = torch.randn(ROWS, 3, WIDTH)
                codes, reconstructions = self.ours(dictionary, rows)
                encode, forward = loaded("llamascopium", out)
                self.assertLessEqual(relative(encode(rows), codes), 1e-5)
                self.assertLessEqual(relative(forward(rows), reconstructions), 1e-5)

    # --- theirs -------------------------------------------------------------------------------------------

    def expect_read(self, layout, folder, encode, forward, rows, decoder, heads=1):
        """What they saved in `folder`, read by us, computes what they do."""
        out = self.folder / "imported"
        steps = ",".join(map(str, range(heads)))
        run("convert", folder, "--to", "dictionary", "--out", out, "--model", "org/model", "--steps", steps,
            "--overwrite")
        shown = run_json("show", folder)
        self.assertEqual((shown["kind"], shown["layout"]), ("dictionary", layout))
        codes, reconstructions = self.ours(out, rows)
        written = safetensors.torch.load_file(next(out.glob("*.safetensors")))
        theirs = encode(rows) * decoder.norm(dim=-1)
        self.assertLessEqual(relative(codes * written["W_D"].norm(dim=-1).squeeze(0), theirs), 1e-5)
        self.assertLessEqual(relative(reconstructions, forward(rows)), 1e-5)
        self.assertGreater(codes.gt(0).float().mean(), 0.01)

    def randomize(self, module, **special):
        """Random numbers in every parameter; `special` gives some of them."""
        for name, p in module.named_parameters():
            p.data = special[name] if name in special else torch.randn(p.shape) / WIDTH**0.5
        return module

    def test_what_saelens_writes(self):
        sizes = {"d_in": WIDTH, "d_sae": FEATURES}
        threshold = {"threshold": torch.rand(FEATURES)}
        for sae in (StandardSAE(StandardSAEConfig(**sizes)), StandardSAE(StandardSAEConfig(**sizes, apply_b_dec_to_input=False)),
                    JumpReLUSAE(JumpReLUSAEConfig(**sizes)), TopKSAE(TopKSAEConfig(**sizes, k=9)),
                    TopKSAE(TopKSAEConfig(**sizes, k=9, rescale_acts_by_decoder_norm=True)),
                    GatedSAE(GatedSAEConfig(**sizes)), GatedSAE(GatedSAEConfig(**sizes, apply_b_dec_to_input=False))):
            with self.subTest(config=sae.cfg):
                self.randomize(sae, **threshold)
                folder = self.folder / "saelens"
                sae.save_model(folder)
                # With rescaled activations the code is the contribution already.
                rescales = getattr(sae.cfg, "rescale_acts_by_decoder_norm", False)
                decoder = torch.eye(FEATURES) if rescales else sae.W_dec
                self.expect_read("saelens", folder, sae.encode, sae, torch.randn(ROWS, WIDTH), decoder)

    def test_what_dictionary_learning_writes(self):
        batch, matryoshka = BatchTopKSAE(WIDTH, FEATURES, 8), MatryoshkaBatchTopKSAE(WIDTH, FEATURES, 8, [40, 60])
        for sae in (batch, matryoshka):
            sae.threshold.fill_(0.6)
        threshold = {"threshold": torch.rand(FEATURES)}
        for ae in (AutoEncoder(WIDTH, FEATURES), AutoEncoderNew(WIDTH, FEATURES), GatedAutoEncoder(WIDTH, FEATURES),
                   JumpReluAutoEncoder(WIDTH, FEATURES), AutoEncoderTopK(WIDTH, FEATURES, 8), batch, matryoshka):
            with self.subTest(ae=type(ae).__name__):
                self.randomize(ae, **threshold)
                folder = self.folder / type(ae).__name__
                folder.mkdir()
                torch.save(ae.state_dict(), folder / "ae.pt")
                (folder / "config.json").write_text(json.dumps(
                    {"trainer": {"dict_class": type(ae).__name__, "k": 8, "lm_name": "org/lm"}}))
                decoder = ae.W_dec if hasattr(ae, "W_dec") else ae.decoder.weight.T
                self.expect_read("dictionary_learning", folder, ae.encode, ae, torch.randn(ROWS, WIDTH), decoder)

    def test_what_sparsify_writes(self):
        coder = self.randomize(SparseCoder(WIDTH, SparseCoderConfig(num_latents=FEATURES, k=6)))
        coder.save_to_disk(self.folder / "sparsify")
        encode, forward = loaded("sparsify", self.folder / "sparsify")
        self.expect_read("sparsify", self.folder / "sparsify", encode, forward, torch.randn(ROWS, WIDTH), coder.W_dec)

    def test_what_llamascopium_writes(self):
        factor = FEATURES / WIDTH
        special = {"activation_function.log_jumprelu_threshold": torch.randn(FEATURES) / 2 - 1}
        hooks = {"hook_point_in": "h", "hook_point_out": "h"}
        size = {"d_model": WIDTH, "expansion_factor": factor}
        models = [Crosscoder(CrosscoderConfig(**size, hook_points=["a", "b", "c"], act_fn=act_fn,
                                              norm_activation="inference")) for act_fn in ("jumprelu", "relu")]
        for act_fn in ("jumprelu", "relu", "topk", "batchtopk"):
            for norms in (True, False):
                models.append(SparseAutoEncoder(SAEConfig(**size, **hooks, act_fn=act_fn, top_k=9,
                                                          norm_activation="inference",
                                                          sparsity_include_decoder_norm=norms)))
        for model in models:
            with self.subTest(config=model.cfg):
                self.assertEqual(model.cfg.d_sae, FEATURES)
                self.randomize(model, **special)
                folder = self.folder / "llamascopium"
                model.save_pretrained(folder)
                model.cfg.save_hyperparameters(folder)
                heads = len(getattr(model.cfg, "hook_points", ["h"]))
                rows = torch.randn(ROWS, heads, WIDTH) if heads > 1 else torch.randn(ROWS, WIDTH)
                self.expect_read("llamascopium", folder, model.encode, model, rows, model.W_D, heads)

    def test_dataset_norms_are_folded(self):
        model = SparseAutoEncoder(SAEConfig(d_model=WIDTH, expansion_factor=FEATURES / WIDTH, hook_point_in="h",
                                            hook_point_out="h", act_fn="jumprelu", norm_activation="dataset-wise"))
        self.randomize(model, **{"activation_function.log_jumprelu_threshold": torch.randn(FEATURES) / 2 - 1})
        model.set_dataset_average_activation_norm({"h": 11.0})
        folder = self.folder / "normed"
        model.save_pretrained(folder)
        model.cfg.save_hyperparameters(folder)
        factor = WIDTH**0.5 / 11.0

        def encode(x):
            return model.encode(x * factor)

        self.expect_read("llamascopium", folder, encode, lambda x: model(x * factor) / factor,
                         2 * torch.randn(ROWS, WIDTH), model.W_D / factor)


if __name__ == "__main__":
    unittest.main()
