#!/usr/bin/env python3
"""Makes tests/goldens/optimizers.safetensors: parameters after some updates by PyTorch's own optimizers.

    .deps/peers/bin/python tools/make_optimizer_goldens.py

Per case (the metadata's `cases`: its settings): `CASE/w` (12, 20), `CASE/t` (20, 12), `CASE/b` (12) in float64, after STEPS updates
from `start/*` with `gradient/*` (STEPS, ...), the rate multiplied by 1 / (step + 1), clipped by torch's clip_grad_norm_ when
`grad_clip` is not 0. Muon has w and t; PyTorch makes its products in bf16, so the case is also made with the same code in float64
(`muon`, beside `muon_bf16`).
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from torch.optim import _muon

STEPS = 12
GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens"

generator = torch.Generator().manual_seed(20)


def draw(*shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


start = {"w": draw(12, 20), "t": draw(20, 12), "b": draw(12)}
gradients = {name: draw(STEPS, *p.shape) for name, p in start.items()}


def exact_orthogonal(grad, coefficients, steps, eps):
    """PyTorch's function without the rounding to bf16, and with the norm it is divided by as |u| + eps."""
    a, b, c = coefficients
    x = grad.T if grad.shape[0] > grad.shape[1] else grad
    x = x / (x.norm() + eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if grad.shape[0] > grad.shape[1] else x


def run(make, names, grad_clip):
    parameters = {name: torch.nn.Parameter(start[name].clone()) for name in names}
    optimizer = make(list(parameters.values()))
    peak = optimizer.param_groups[0]["lr"]
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = peak / (step + 1)
        for name, p in parameters.items():
            p.grad = gradients[name][step].clone()
        if grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(parameters.values(), grad_clip)
        optimizer.step()
    return {name: p.detach() for name, p in parameters.items()}


# Settings by torch's names, which are ours too but for the two betas and the optimizer's name.
CASES = {
    "adamw": dict(name="adamw", lr=1e-2, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1),
    "adamw_clipped": dict(name="adamw", lr=1e-2, betas=[0.8, 0.95], eps=1e-10, weight_decay=0.3, grad_clip=1.5),
    "adam": dict(name="adam", lr=1e-2, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.1),
    "sgd": dict(name="sgd", lr=0.1, weight_decay=0.0),
    "sgd_momentum": dict(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.01),
    "sgd_nesterov": dict(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01, grad_clip=2.0),
    "muon": dict(name="muon", lr=0.05, momentum=0.95, nesterov=True, weight_decay=0.1),
    "muon_plain": dict(name="muon", lr=0.05, momentum=0.9, nesterov=False, weight_decay=0.0, ns_steps=3,
                       adjust_lr_fn="match_rms_adamw", grad_clip=1.0),
}
MAKE = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD, "muon": torch.optim.Muon}

tensors = {f"start/{name}": p for name, p in start.items()} | {f"gradient/{name}": g for name, g in gradients.items()}
for case, settings in CASES.items():
    rest = {key: value for key, value in settings.items() if key not in ("name", "grad_clip")}
    names = ["w", "t"] if settings["name"] == "muon" else list(start)

    def results():
        return run(lambda p: MAKE[settings["name"]](p, **rest), names, settings.get("grad_clip", 0))

    if settings["name"] == "muon":
        tensors |= {f"{case}_bf16/{name}": p for name, p in results().items()}
        inexact, _muon._zeropower_via_newtonschulz = _muon._zeropower_via_newtonschulz, exact_orthogonal
    tensors |= {f"{case}/{name}": p for name, p in results().items()}
    if settings["name"] == "muon":
        _muon._zeropower_via_newtonschulz = inexact

save_file({name: t.contiguous() for name, t in sorted(tensors.items())}, GOLDENS / "optimizers.safetensors",
          metadata={"cases": json.dumps(CASES), "torch": torch.__version__, "steps": str(STEPS)})
