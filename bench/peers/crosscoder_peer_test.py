"""The peers of crosscoder_torch.py against numbers computed from the method's formulas in float64, and against Adam's first 20 steps.

    .deps/peers/bin/python -m unittest discover -s bench/peers -p '*_test.py'

Skips without PyTorch; the part for llamascopium runs where that is installed.
"""
import importlib.util
import math
import unittest
import unittest.mock

if importlib.util.find_spec("torch"):
    import torch

    import crosscoder_torch as peers

K, WIDTH, D, B = 2, 3, 5, 4
SETTINGS = {"lr": 1e-2, "jumprelu_lr_factor": 0.1, "l1_coefficient": 0.02, "tanh_stretch_coefficient": 1.0, "frequency_scale": 0.01,
            "window": 4.0}
# Sum and L2 norm of each gradient; all of the last one.
GRADIENTS = {"W_E": (-23.055143025908, 10.286298312785), "b_E": (17.813625619161, 6.951584266235),
             "W_D": (1.650167264784, 5.980247916666), "b_D": (0.132412692039, 1.684909295211)}
LOG_THRESHOLD_GRADIENT = [-0.0653830120, -0.0242070171, -0.2508289558, -0.1062859577, -0.5584460899]
LOSSES = {0: 9.064610774062, 1: 8.225779714146, 2: 7.465174983106, 19: 2.816776333977, 20: 2.814028914645}
FINAL_NORMS = {"W_E": 2.8821892308, "b_E": 0.4746280432, "W_D": 2.7763520453, "b_D": 0.3056389408, "log_threshold": 1.5353037726}


def table(shape, formula):
    """A tensor whose elements are a formula of their indices."""
    indices = torch.cartesian_prod(*(torch.arange(size) for size in shape)).reshape(-1, len(shape)).tolist()
    return torch.tensor([formula(*index) for index in indices], dtype=torch.float64).reshape(shape)


def example():
    x_BKd = table((B, K, WIDTH), lambda b, k, i: 1.5 * math.sin(0.5 + 1.3 * b + 0.7 * k + 0.9 * i))
    return x_BKd, {
        "W_E": table((K, WIDTH, D), lambda k, i, j: 0.8 * math.cos(2 + 5 * k + i + 3 * j) + 0.1 * math.sin(i + j)),
        "b_E": table((K, D), lambda k, j: 0.05 * math.cos(k + 2 * j)),
        "W_D": table((K, D, WIDTH), lambda k, j, i: (0.5 + 0.5 * k) * math.cos(2 + 5 * k + 3 * j + i)),
        "b_D": table((K, WIDTH), lambda k, i: 0.02 * math.sin(3 + k + i)),
        peers.THRESHOLD: table((D,), lambda j: math.log(0.3 + 0.15 * j))}


@unittest.skipUnless(importlib.util.find_spec("torch"), "PyTorch is not installed")
class CrosscoderPeers(unittest.TestCase):
    def check(self, peer):
        x_BKd, start = example()
        parameters, loss, adam = peers.make_peer(peer, x_BKd, start, SETTINGS)
        value = loss()
        self.assertAlmostEqual(value.item(), LOSSES[0], places=11)
        value.backward()
        for name, (total, norm) in GRADIENTS.items():
            self.assertAlmostEqual(parameters[name].grad.sum().item(), total, places=10)
            self.assertAlmostEqual(parameters[name].grad.norm().item(), norm, places=10)
        for found, expected in zip(parameters[peers.THRESHOLD].grad.tolist(), LOG_THRESHOLD_GRADIENT):
            self.assertAlmostEqual(found, expected, places=9)
        for update in range(20):
            value = peers.step(loss, adam, "fp64").item()
            if update in LOSSES:
                self.assertAlmostEqual(value, LOSSES[update], places=10)
        self.assertAlmostEqual(loss().item(), LOSSES[20], places=10)
        for parameter, norm in zip(parameters.values(), FINAL_NORMS.values()):
            self.assertAlmostEqual(parameter.norm().item(), norm, places=9)

    def test_eager(self):
        self.check("eager")

    def test_whole_gate(self):
        with unittest.mock.patch.object(torch, "compile", lambda function, **_: function):
            self.check("compiled")

    @unittest.skipUnless(importlib.util.find_spec("llamascopium"), "llamascopium is not installed")
    def test_llamascopium(self):
        self.check("llamascopium")

    def test_rows_are_summed_whole_whatever_their_number(self):
        t_KBD = torch.arange(2 * 48 * 3.0).reshape(2, 48, 3)
        for rows in (1, 15, 16, 47, 48):
            torch.testing.assert_close(peers.sum_of_rows(t_KBD[:, :rows]), t_KBD[:, :rows].sum(1))


if __name__ == "__main__":
    unittest.main()
