# SPDX-License-Identifier: LGPL-2.1-or-later
"""Activations of network layers, in float32 and as Keras defines them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # by tanh, because exp overflows where the sigmoid is merely 0
    half = np.float32(0.5)
    return half * np.tanh(half * x) + half


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, np.float32(0))))


def _selu(x: np.ndarray) -> np.ndarray:
    # the constants are the fixed point of Klambauer et al., 2017
    return np.float32(1.0507009873554805) * np.where(
        x > 0, x, np.float32(1.6732632423543772) * np.expm1(np.minimum(x, np.float32(0)))
    )


def _hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x / np.float32(6) + np.float32(0.5), np.float32(0), np.float32(1))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, np.float32(0)) + np.log1p(np.exp(-np.abs(x)))


def _gelu(x: np.ndarray) -> np.ndarray:
    """Return x Phi(x), by the rational erf of Abramowitz and Stegun 7.1.26 (within 1.5e-7)."""
    z = np.abs(x, dtype=np.float64) / np.sqrt(2.0)
    t = 1 / (1 + 0.3275911 * z)
    coefficients = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    poly = np.zeros_like(t)
    for c in coefficients:
        poly = (poly + c) * t
    half_tail = 0.5 * poly * np.exp(-z * z)  # Phi(-|x|)
    return (x * np.where(x > 0, 1 - half_tail, half_tail)).astype(np.float32)


def _leaky_relu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.float32(0.2) * x)  # Keras' slope for the activation by name


def _silu(x: np.ndarray) -> np.ndarray:
    return x * _sigmoid(x)


def _exponential(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinity, as Keras has it, and as silently
        return np.exp(x)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "elu": _elu,
    "selu": _selu,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "softplus": _softplus,
    "softsign": lambda x: x / (np.float32(1) + np.abs(x)),
    "silu": _silu,
    "swish": _silu,
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "exponential": _exponential,
}
