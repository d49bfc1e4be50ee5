"""Runs of `cresco pretrain` against transformers and PyTorch: snapshots open there, and a step is the step they take."""
import json
import unittest

import numpy
import torch
import transformers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from parity_test import read_npy, relative_error
from program import FolderTest, run

VOCABULARY, CONTEXT = 96, 24
MODELS = {
    "neox": "{family: neox, vocab_size: %d, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 64, "
            "max_position_embeddings: %d, rotary_pct: 0.5}" % (VOCABULARY, CONTEXT),
    "gpt2": "{family: gpt2, vocab_size: %d, n_positions: %d, n_embd: 32, n_layer: 2, n_head: 4}" % (VOCABULARY, CONTEXT),
}
RECIPE = """
model: %s
init: {name: gpt2}
data: {tokens: %s, validation: "blocks:4", sequence_length: %d, order: sequential}
batch: {sequences: 4, micro_sequences: 2}
budget: {steps: 3}
optimizer: {lr: 1.0e-3, betas: [0.9, 0.95], eps: 1.0e-8, weight_decay: 0.1, grad_clip: 0.5}
schedule: {name: constant}
snapshots: {at: "0,1,2,3", dtype: %s}
log: {every: 1}
"""


class Pretrain(FolderTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ids = numpy.random.default_rng(0).integers(0, VOCABULARY, 1000).astype("<u2")
        cls.ids.tofile(cls.shared / "tokens.bin")

    def train(self, family, dtype="fp32", *options):
        name = "_".join([family, dtype, *(str(o).strip("-") for o in options)])
        recipe, out = self.folder / f"{name}.yaml", self.folder / name
        recipe.write_text(RECIPE % (MODELS[family], self.shared / "tokens.bin", CONTEXT, dtype))
        run("pretrain", recipe, "--out", out, *options)
        return out

    def test_snapshots_open_in_transformers(self):
        ids = torch.from_numpy(self.ids[: 2 * CONTEXT].astype("int64")).view(2, CONTEXT)
        numpy.save(self.folder / "ids.npy", ids.numpy())
        for family in MODELS:
            for dtype, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
                with self.subTest(family=family, dtype=dtype):
                    snapshot = self.train(family, dtype) / "snapshots/step3"
                    stored = transformers.AutoModelForCausalLM.from_pretrained(snapshot, dtype="auto")
                    self.assertEqual(next(stored.parameters()).dtype, kind)
                    with torch.no_grad():
                        logits = stored.double()(ids).logits
                    run("logits", snapshot, "--ids", self.folder / "ids.npy", "--out", self.folder / "logits.npy",
                        "--overwrite")
                    shape, ours = read_npy(self.folder / "logits.npy")
                    self.assertEqual(list(shape), list(logits.shape))
                    self.assertLessEqual(relative_error(ours, logits.flatten().tolist()), 1e-5)

    def test_steps_are_those_of_pytorch(self):
        batches = self.ids[: 12 * CONTEXT + 1].astype("int64")
        for family in MODELS:
            with self.subTest(family=family):
                out = self.train(family)
                model = transformers.AutoModelForCausalLM.from_pretrained(out / "snapshots/step0", dtype=torch.float64)
                model.train()
                matrices = [p for p in model.parameters() if p.dim() >= 2]
                vectors = [p for p in model.parameters() if p.dim() < 2]
                optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                                              lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
                lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
                for step in range(3):
                    first = 4 * step * CONTEXT
                    window = numpy.stack([batches[first + i * CONTEXT : first + (i + 1) * CONTEXT + 1] for i in range(4)])
                    window = torch.from_numpy(window)
                    logits = model(window[:, :-1]).logits
                    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
                    optimizer.zero_grad()
                    loss.backward()
                    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                    optimizer.step()
                    self.assertAlmostEqual(lines[step + 1]["train/loss"], loss.item(), delta=1e-5)
                    self.assertAlmostEqual(lines[step + 1]["optim/grad_norm"], norm.item(), delta=1e-4 * norm.item())
                ours = transformers.AutoModelForCausalLM.from_pretrained(out / "snapshots/step3", dtype=torch.float64)
                start = transformers.AutoModelForCausalLM.from_pretrained(out / "snapshots/step0", dtype=torch.float64)
                theirs, before = dict(model.named_parameters()), dict(start.named_parameters())
                for name, weight in ours.named_parameters():
                    moved = (theirs[name] - before[name]).norm().item()
                    self.assertLessEqual((weight - theirs[name]).norm().item(), 2e-3 * moved, name)

    def test_tensorboard_reads_the_event_file(self):
        out = self.train("neox", "fp32", "--seed", 5)
        events = EventAccumulator(str(out / "tensorboard"))
        events.Reload()
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        for tag in ("train/loss", "val/loss", "optim/lr", "optim/grad_norm/embed_out"):
            want = [(line["step"], line[tag]) for line in lines if tag in line]
            got = [(event.step, event.value) for event in events.Scalars(tag)]
            self.assertEqual([step for step, _ in got], [step for step, _ in want])
            for (_, a), (_, b) in zip(got, want):
                self.assertAlmostEqual(a, b, delta=1e-6 * max(1, abs(b)))


if __name__ == "__main__":
    unittest.main()
