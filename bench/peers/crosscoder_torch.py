#!/usr/bin/env python3
"""One training step of the crosscoder as Python trains it; a process for each measurement, run by crosscoder_peer.py.

    crosscoder_torch.py step PEER STATE.safetensors [--updated OUT.safetensors] [--seconds 4] [--precision bf16]
    crosscoder_torch.py start STATE.safetensors --shape K,d,D,B [--updates 2000]

step: one step from the state, its updated parameters to OUT, then further steps, each from that same state and each on the clock:
      gradients dropped, forward, backward, Adam. Putting the state back is off the clock. Prints one JSON object.
start: draws a crosscoder, makes some updates with `eager` on a synthetic stack and writes the state.

Peers:

eager         PyTorch by hand: one matrix product of depth K*d for the joint pre-activation, the gate and its scores in an autograd
              function that takes one head after another, so that what lies between stays small, batched products for the decoder,
              Adam(fused=True).
compiled      the same through torch.compile, with the gate in expressions over all heads, which it fuses. In its default mode:
              max-autotune was no quicker.
llamascopium  Crosscoder of llamascopium 2.0.0b34, unchanged: its encode, decode and compute_loss, with Adam(foreach=False). Its
              compute_loss takes the mean of every part of the loss over the batch, and fails on the tanh-quad term, which is one
              number already; CrosscoderSpecs.loss is replaced by a function that names no dimensions for one number, and that
              is all. Its Trainer.fit asks each batch for a mask that the loss then does not accept, so the loop is ours.

Shapes: B rows of a batch, K heads (snapshots), d width of the model, D features.
"""
import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import time

import torch
from safetensors import safe_open
from safetensors.torch import save_file

THRESHOLD = "activation_function.log_jumprelu_threshold"
NAMES = ("W_E", "b_E", "W_D", "b_D", THRESHOLD)
SETTINGS = ("lr", "jumprelu_lr_factor", "l1_coefficient", "tanh_stretch_coefficient", "frequency_scale", "window")
DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


class Gate(torch.autograd.Function):
    """Codes (K,B,D) and mean scores (D) from the joint pre-activation (B,D), the decoder's norms (K,D) and log thresholds (D).

    A code is the pre-activation where p * norm > threshold, else 0; a score is tanh(stretch * code * norm). The threshold gets its
    gradient from the rectangle of the given width around it, from positive pre-activations only.
    """

    @staticmethod
    def forward(ctx, p_BD, n_KD, log_threshold_D, stretch, window):
        threshold_D = log_threshold_D.exp()
        num_heads, num_rows = len(n_KD), len(p_BD)
        a_KBD = p_BD.new_empty(num_heads, *p_BD.shape)
        s_KBD = torch.empty_like(a_KBD)
        mean_score_D = torch.zeros_like(threshold_D)
        for a_BD, s_BD, n_D in zip(a_KBD, s_KBD, n_KD):
            torch.mul(p_BD, n_D, out=s_BD)
            fires = s_BD > threshold_D
            torch.mul(p_BD, fires, out=a_BD)
            s_BD.mul_(fires)
            if stretch != 1:
                s_BD.mul_(stretch)
            mean_score_D += s_BD.tanh_().sum(0)
        ctx.save_for_backward(p_BD, n_KD, threshold_D, a_KBD, s_KBD)
        ctx.stretch, ctx.window = stretch, window
        return a_KBD, mean_score_D.div_(num_heads * num_rows)

    @staticmethod
    def backward(ctx, g_KBD, g_mean_score_D):
        p_BD, n_KD, threshold_D, a_KBD, s_KBD = ctx.saved_tensors
        g_score_BD = (g_mean_score_D * (ctx.stretch / (len(n_KD) * len(p_BD)))).expand_as(p_BD)
        g_p_BD, g_n_KD, g_threshold_D = torch.zeros_like(p_BD), torch.empty_like(n_KD), torch.zeros_like(threshold_D)
        for a_BD, s_BD, g_BD, n_D, g_n_D in zip(a_KBD, s_KBD, g_KBD, n_KD, g_n_KD):
            slope_BD = torch.ops.aten.tanh_backward(g_score_BD, s_BD)
            g_BD = torch.addcmul(g_BD, slope_BD, n_D)
            torch.sum(slope_BD.mul_(a_BD), 0, out=g_n_D)
            in_window = p_BD > ((threshold_D - ctx.window / 2) / n_D).clamp_(min=0)
            in_window &= p_BD < (threshold_D + ctx.window / 2) / n_D
            g_threshold_D.addcdiv_(torch.mul(g_BD, in_window, out=slope_BD).sum(0), n_D)
            g_p_BD += g_BD.mul_(a_BD != 0)
        return g_p_BD, g_n_KD, g_threshold_D.mul_(threshold_D.square().div_(-ctx.window)), None, None


def sum_of_rows(t_KBD):
    """Over B, sixteen rows at a time: a compiler's loop down one column of all rows misses the cache at each."""
    group = 16 if t_KBD.shape[1] % 16 == 0 else 1
    return t_KBD.unflatten(1, (-1, group)).sum(2).sum(1)


class WholeGate(torch.autograd.Function):
    """The same in expressions over all of (K,B,D), for a compiler to fuse."""

    @staticmethod
    def forward(ctx, p_BD, n_KD, log_threshold_D, stretch, window):
        threshold_D = log_threshold_D.exp()
        a_KBD = torch.where(p_BD * n_KD[:, None] > threshold_D, p_BD, 0.0)
        s_KBD = torch.tanh(stretch * a_KBD * n_KD[:, None])
        ctx.save_for_backward(p_BD, n_KD, threshold_D, a_KBD, s_KBD)
        ctx.stretch, ctx.window = stretch, window
        return a_KBD, sum_of_rows(s_KBD).sum(0) / (n_KD.shape[0] * p_BD.shape[0])

    @staticmethod
    def backward(ctx, g_KBD, g_mean_score_D):
        p_BD, n_KD, threshold_D, a_KBD, s_KBD = ctx.saved_tensors
        slope_KBD = (1 - s_KBD * s_KBD) * (g_mean_score_D * (ctx.stretch / (n_KD.shape[0] * p_BD.shape[0])))
        g_n_KD = sum_of_rows(slope_KBD * a_KBD)
        g_KBD = g_KBD + slope_KBD * n_KD[:, None]
        u_KBD = p_BD * n_KD[:, None]
        in_window = (u_KBD > 0) & ((u_KBD - threshold_D).abs() < ctx.window / 2)
        g_threshold_D = (sum_of_rows(torch.where(in_window, g_KBD, 0.0)) / n_KD).sum(0)
        g_p_BD = torch.where(a_KBD != 0, g_KBD, 0.0).sum(0)
        return g_p_BD, g_n_KD, -threshold_D.square() / ctx.window * g_threshold_D, None, None


def loss_with(gate, x_BKd, W_E, b_E, W_D, b_D, log_threshold_D, settings):
    p_BD = x_BKd.flatten(1) @ W_E.flatten(0, 1) + b_E.sum(0)
    n_KD = torch.linalg.vector_norm(W_D, dim=2)
    a_KBD, mean_score_D = gate.apply(p_BD, n_KD, log_threshold_D, settings["tanh_stretch_coefficient"], settings["window"])
    r_KBd = torch.bmm(a_KBD, W_D) + b_D[:, None]
    reconstruction = (r_KBd - x_BKd.transpose(0, 1)).square().sum() / (x_BKd.shape[0] * x_BKd.shape[1])
    sparsity = (mean_score_D * (1 + mean_score_D / settings["frequency_scale"])).sum()
    return reconstruction + settings["l1_coefficient"] * sparsity


def make_by_hand(loss, gate, x_BKd, start, settings):
    parameters = {name: torch.nn.Parameter(start[name].clone()) for name in NAMES}
    return parameters, lambda: loss(gate, x_BKd, *parameters.values(), settings)


def make_llamascopium(x_BKd, start, settings):
    from llamascopium.models.crosscoder import Crosscoder, CrosscoderConfig, CrosscoderSpecs

    names_of_more = CrosscoderSpecs.loss
    CrosscoderSpecs.loss = staticmethod(lambda tensor: names_of_more(tensor) if tensor.ndim else ())
    num_heads, width, num_features = start["W_E"].shape
    hooks = [f"snapshot_{k}" for k in range(num_heads)]
    model = Crosscoder(CrosscoderConfig(
        hook_points=hooks, d_model=width, expansion_factor=(num_features + 0.5) / width, act_fn="jumprelu",
        jumprelu_threshold_window=settings["window"], norm_activation="inference", dtype=start["W_E"].dtype))
    model.load_state_dict({name: start[name] for name in NAMES})
    batch = {hook: x_BKd[:, k].contiguous() for k, hook in enumerate(hooks)}
    parameters = dict(model.named_parameters())
    return {name: parameters[name] for name in NAMES}, lambda: model.compute_loss(
        batch, sparsity_loss_type="tanh-quad", tanh_stretch_coefficient=settings["tanh_stretch_coefficient"],
        frequency_scale=settings["frequency_scale"], l1_coefficient=settings["l1_coefficient"], return_aux_data=False)


def make_peer(name, x_BKd, start, settings):
    """The parameters by name, a function that computes the loss, and Adam over them."""
    if name == "llamascopium":
        parameters, loss = make_llamascopium(x_BKd, start, settings)
    elif name == "compiled":
        parameters, loss = make_by_hand(torch.compile(loss_with, dynamic=False), WholeGate, x_BKd, start, settings)
    else:
        parameters, loss = make_by_hand(loss_with, Gate, x_BKd, start, settings)
    how = {"foreach": False} if name == "llamascopium" else {"fused": True}
    adam = torch.optim.Adam([{"params": [parameters[name] for name in NAMES[:-1]], "lr": settings["lr"]},
                             {"params": [parameters[THRESHOLD]], "lr": settings["lr"] * settings["jumprelu_lr_factor"]}], **how)
    return parameters, loss, adam


@torch.no_grad()
def set_state(parameters, adam, tensors):
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])
        if not adam.state[parameter]:
            adam.state[parameter] = {"step": torch.zeros(()), "exp_avg": torch.empty_like(parameter),
                                     "exp_avg_sq": torch.empty_like(parameter)}
        state = adam.state[parameter]
        state["step"].fill_(tensors["num_updates"].item())
        state["exp_avg"].copy_(tensors[f"{name}.exp_avg"])
        state["exp_avg_sq"].copy_(tensors[f"{name}.exp_avg_sq"])


@contextlib.contextmanager
def opened(path):
    """A state file as a mapping of names to tensors, read one at a time, and its settings."""
    with safe_open(path, framework="pt") as file:
        class Tensors:
            __getitem__ = staticmethod(file.get_tensor)
        yield Tensors(), {name: float(file.metadata()[name]) for name in SETTINGS}


def step(loss, adam, precision):
    adam.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        value = loss()
    value.backward()
    adam.step()
    return value


def gates(x_BKd, parameters):
    """Mean number of features that fire, per row and head; the features with a gate so near its threshold that rounding decides."""
    fired, at_threshold = 0, set()
    with torch.no_grad():
        p_BD = x_BKd.flatten(1) @ parameters["W_E"].flatten(0, 1) + parameters["b_E"].sum(0)
        n_KD = torch.linalg.vector_norm(parameters["W_D"], dim=2)
        threshold_D = parameters[THRESHOLD].exp()
        for n_D in n_KD:
            u_BD = p_BD * n_D
            fired += (u_BD > threshold_D).sum().item()
            at_threshold |= set(((u_BD - threshold_D).abs() < 4e-6 * threshold_D).any(0).nonzero().flatten().tolist())
    return fired / (len(n_KD) * len(p_BD)), sorted(at_threshold)


def memory_bytes(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def versions(peer):
    names = ["torch"] + (["llamascopium", "transformer-lens"] if peer == "llamascopium" else [])
    return {name: importlib.metadata.version(name) for name in names}


def run_step(arguments):
    if arguments.flush_denormal:
        torch.set_flush_denormal(True)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    dtype = DTYPES[arguments.precision]
    with opened(arguments.state) as (tensors, settings):
        x_BKd = tensors["x"].to(dtype, copy=True)
        start = {name: tensors[name].to(dtype) for name in NAMES}
        parameters, loss, adam = make_peer(arguments.peer, x_BKd, start, settings)
        set_state(parameters, adam, tensors)
        l0, features_at_threshold = gates(x_BKd, parameters)
        del start
    start_bytes = memory_bytes("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    began = time.perf_counter()
    value = step(loss, adam, arguments.precision).item()
    first_seconds = time.perf_counter() - began
    if arguments.updated:
        save_file({name: parameter.detach().float() for name, parameter in parameters.items()}, arguments.updated)
    seconds, peak_bytes = [], 0
    deadline = time.perf_counter() + arguments.seconds
    while arguments.seconds and (len(seconds) < 4 or time.perf_counter() < deadline):
        with opened(arguments.state) as (tensors, _):
            set_state(parameters, adam, tensors)
        began = time.perf_counter()
        step(loss, adam, arguments.precision)
        seconds.append(time.perf_counter() - began)
        peak_bytes = peak_bytes or memory_bytes("VmHWM")
    print(json.dumps({
        "peer": arguments.peer, "loss": value, "l0": l0, "ms": [1e3 * s for s in seconds[1:]],  # the first warms up
        "first_ms": 1e3 * first_seconds, "peak_bytes": peak_bytes, "start_bytes": start_bytes,
        "features_at_threshold": features_at_threshold, "threads": torch.get_num_threads(), "versions": versions(arguments.peer)}))


def synthetic_stack(num_heads, width, num_rows):
    """Rows that grow as unembeddings do: noise that fades, a few directions of a common pool that come up, each at its own time."""
    num_directions = 4 * width
    directions = torch.nn.functional.normalize(torch.randn(num_directions, width), dim=1)
    uses = torch.rand(num_rows, num_directions) < 4 / num_directions
    strength = uses * (0.5 + torch.rand(num_rows, num_directions))
    onset = torch.rand(num_directions)
    time_K = torch.linspace(0, 1, num_heads)
    noise = torch.randn(num_rows, width) / width**0.5
    grown = torch.sigmoid(12 * (time_K[:, None] - onset))
    x_KVd = torch.stack([(strength * g) @ directions + 0.5 * noise * (1 - 0.5 * t) + 0.1 * torch.randn_like(noise) / width**0.5
                         for g, t in zip(grown, time_K)])
    x_KVd -= x_KVd.mean(1, keepdim=True)
    return (x_KVd / x_KVd.square().mean((1, 2), keepdim=True).sqrt()).transpose(0, 1).contiguous()


def run_start(arguments):
    num_heads, width, num_features, num_rows = arguments.shape
    torch.manual_seed(0)
    settings = {"lr": arguments.lr, "jumprelu_lr_factor": 0.1, "l1_coefficient": 0.3, "tanh_stretch_coefficient": 1.0,
                "frequency_scale": 0.01, "window": 4.0}
    rows_VKd = synthetic_stack(num_heads, width, 4 * num_rows)
    x_BKd = rows_VKd[:num_rows].clone()
    decoder = (2 * torch.rand(num_features, width) - 1) / num_features**0.5
    start = {"W_E": decoder.T.expand(num_heads, -1, -1).contiguous(), "b_E": torch.zeros(num_heads, num_features),
             "W_D": decoder.expand(num_heads, -1, -1).contiguous(), "b_D": torch.zeros(num_heads, width),
             THRESHOLD: torch.full((num_features,), 0.1).log()}
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)
    parameters, loss, adam = make_peer("eager", x_BKd, start, settings)
    for update in range(arguments.updates):
        torch.index_select(rows_VKd, 0, torch.randint(len(rows_VKd), (num_rows,)), out=x_BKd)
        step(loss, adam, "fp32")
    x_BKd.copy_(rows_VKd[:num_rows])
    l0, _ = gates(x_BKd, parameters)
    tensors = {"x": x_BKd, "num_updates": torch.tensor([arguments.updates])}
    for name, parameter in parameters.items():
        state = adam.state[parameter] or {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
        tensors |= {name: parameter.detach(), f"{name}.exp_avg": state["exp_avg"], f"{name}.exp_avg_sq": state["exp_avg_sq"]}
    how = (f"drawn in Python, then {arguments.updates} updates of eager PyTorch on a synthetic stack of {len(rows_VKd)} rows; "
           f"mean L0 {l0:.1f} of {num_features}, {l0 / num_features:.1%}")
    save_file(tensors, arguments.state, metadata={name: repr(value) for name, value in settings.items()} | {"how": how})
    print(json.dumps({"l0": l0, "how": how}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("step")
    verb.set_defaults(run=run_step)
    verb.add_argument("peer", choices=["eager", "compiled", "llamascopium"])
    verb.add_argument("state")
    verb.add_argument("--updated", help="where to write the parameters after one step")
    verb.add_argument("--seconds", type=float, default=4, help="for about so long steps are timed, and at least three")
    verb.add_argument("--precision", choices=DTYPES, default="fp32", help="bf16 is autocast over the loss")
    verb.add_argument("--flush-denormal", action="store_true")
    verb = verbs.add_parser("start")
    verb.set_defaults(run=run_start)
    verb.add_argument("state")
    verb.add_argument("--shape", required=True, type=lambda text: [int(part) for part in text.split(",")])
    verb.add_argument("--updates", type=int, default=4)
    verb.add_argument("--lr", type=float, default=5e-5)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
