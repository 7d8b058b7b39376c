# SPDX-License-Identifier: LGPL-2.1-or-later
"""Networks for the tests of exports: every kind of layer, the estimator without its gate."""

import dataclasses

import numpy as np

from codec2_eq.codec2 import K
from codec2_eq.equalisers.equaliser import load_trained
from codec2_eq.equalisers.estimator import GatedEstimator, RecursiveEstimator
from codec2_eq.equalisers.layers import Activation, Dense, Layer, Relu, Scale
from codec2_eq.equalisers.network import Network
from codec2_eq.equalisers.recurrent import GRU, LSTM


def weights(*shape, seed=0):
    return (0.3 * np.random.default_rng([seed, *shape]).standard_normal(shape)).astype(np.float32)


def all_layers():
    """All but the estimators, branches that are added, and a layer that is given a sum."""
    layers: list[Layer] = [
        Scale(weights(1) + np.float32(0.05), weights(1)),
        GRU(weights(K, 24), weights(8, 24), weights(2, 24)),
        GRU(weights(8, 24), weights(8, 24), weights(2, 24), reset_after=False),
        LSTM(weights(8, 32), weights(8, 32), weights(32)),
        Dense(weights(8, K), weights(K), "tanh"),
        Scale(weights(K), weights(K)),
        Relu(0.3, 0.1, 0.8),
        Relu(0.2),
        Activation("softsign"),
        Dense(weights(K, K), weights(K)),
    ]
    wiring = [(0,), (1,), (2,), (3,), (4,), (5,), (6,), (7,), (8, 1), (9, 5, 1)]
    return Network("all layers", layers, wiring=wiring)


def without_gate():
    """The layer of channel_eq as a plain recursive estimator."""
    (layer,) = load_trained("channel_eq").layers
    assert isinstance(layer, GatedEstimator)
    own = {f.name: getattr(layer, f.name) for f in dataclasses.fields(RecursiveEstimator)}
    return RecursiveEstimator(**own)
