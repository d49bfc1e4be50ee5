#!/usr/bin/env python3
"""Training steps of a GPT-NeoX model as transformers and PyTorch make them; a process for each measurement, run by pretrain_peer.py.

    pretrain_torch.py START.safetensors [--precision fp32|bf16] [--seconds 4] [--updated OUT.safetensors]

START is what `cresco bench pretrain --write-start` wrote: weights, a batch of ids, settings. A step: gradients dropped, forward and loss by
GPTNeoXForCausalLM (its own loss function, targets given as they are), backward, clip_grad_norm_ where the start clips, AdamW. bf16 is
torch.autocast around forward and loss. AdamW is tried fused and foreach, and the quicker one is timed. Prints one JSON object.
"""
import argparse
import contextlib
import importlib.metadata
import json
import resource
import time

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM


# What files call the readout, and what this version's model does.
STORED, HELD = "embed_out.weight", "lm_head.weight"


def read_start(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


class Step:
    def __init__(self, start, precision, implementation):
        weights, self.settings = read_start(start)
        settings, ids_NT = self.settings, weights.pop("ids")
        self.model = GPTNeoXForCausalLM(GPTNeoXConfig(**json.loads(settings["config"])))
        weights[HELD] = weights.pop(STORED)
        self.model.load_state_dict(weights)
        self.model.train()
        self.inputs, self.targets = ids_NT[:, :-1].contiguous(), ids_NT[:, 1:].contiguous()
        self.precision = precision
        parameters = list(self.model.parameters())
        groups = [{"params": [p for p in parameters if p.dim() >= 2], "weight_decay": float(settings["weight_decay"])},
                  {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=float(settings["lr"]), eps=float(settings["eps"]),
                                           betas=(float(settings["beta1"]), float(settings["beta2"])), **{implementation: True})

    def __call__(self):
        self.optimizer.zero_grad(set_to_none=True)
        autocast = torch.autocast("cpu", torch.bfloat16) if self.precision == "bf16" else contextlib.nullcontext()
        with autocast:
            loss = self.model(input_ids=self.inputs, labels=self.targets, shift_labels=self.targets, use_cache=False).loss
        loss.backward()
        if float(self.settings["grad_clip"]) > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), float(self.settings["grad_clip"]))
        self.optimizer.step()
        return loss.item()


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(step, times):
    started, processor_started = time.perf_counter(), processor_seconds()
    step()
    times.append(((time.perf_counter() - started) * 1e3, (processor_seconds() - processor_started) * 1e3))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("start")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--adamw", choices=["fused", "foreach"], help="left out: whichever is quicker")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--updated")
    arguments = parser.parse_args()

    start_bytes = peak_bytes()  # the libraries
    adamw = arguments.adamw
    if adamw is None:
        trials = {}
        for implementation in ("fused", "foreach"):
            step, times = Step(arguments.start, arguments.precision, implementation), []
            step()
            for _ in range(3):
                timed(step, times)
            trials[implementation] = min(times)
            del step
        adamw = min(trials, key=trials.get)
    step = Step(arguments.start, arguments.precision, adamw)
    loss = step()
    if arguments.updated:
        save_file({STORED if name == HELD else name: p.detach().contiguous() for name, p in step.model.named_parameters()},
                  arguments.updated)
    times, ends = [], time.perf_counter() + arguments.seconds
    while len(times) < 3 or time.perf_counter() < ends:
        timed(step, times)
    print(json.dumps({
        "ms": [wall for wall, _ in times], "processor_ms": [processor for _, processor in times], "loss": loss, "adamw": adamw,
        "start_bytes": start_bytes, "peak_bytes": peak_bytes(), "tokens": step.targets.numel(), "threads": torch.get_num_threads(),
        "versions": {"PyTorch": torch.__version__, "transformers": importlib.metadata.version("transformers")}}))


if __name__ == "__main__":
    main()
