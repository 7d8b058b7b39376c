# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every export needs to know of a network: who takes whose output, and how wide it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from codec2_eq.codec2 import K
from codec2_eq.equalisers.classic import CLASSIC
from codec2_eq.equalisers.equaliser import load_trained, model_names
from codec2_eq.equalisers.network import Network
from codec2_eq.errors import Codec2EqError


@dataclass(frozen=True)
class Plan:
    """The values of one frame, numbered: 0 is the input, i + 1 what layer i gives.

    widths : length of each value
    sources : for each layer, the values whose sum it takes
    multiply_adds : of one frame, in matrix products
    """

    widths: tuple[int, ...]
    sources: tuple[tuple[int, ...], ...]
    multiply_adds: int

    @classmethod
    def of(cls, network: Network) -> Plan:
        """Plan a network that maps K values to K; raises Codec2EqError for another."""
        if {network.inputs, network.outputs} - {K, None} or not network.layers:
            raise Codec2EqError(
                network.name,
                f"maps {network.inputs} values to {network.outputs}",
                f"an equaliser maps {K} to {K}",
            )
        widths = [K]
        for layer, sources in zip(network.layers, network.wiring, strict=True):
            widths.append(layer.outputs or widths[sources[0]])
        products = sum(
            value.size
            for layer in network.layers
            for name, value in vars(layer).items()
            if "kernel" in name and not name.startswith("_")
        )
        return cls(tuple(widths), tuple(network.wiring), products)


def load_exportable(name: str | Path) -> Network:
    """Find a network by name or path; raises Codec2EqError for what is none."""
    if str(name) in CLASSIC:
        trained = [known for known in model_names() if known not in CLASSIC]
        raise Codec2EqError(
            str(name),
            "is no network, so there is nothing to export",
            f"choose one of {', '.join(trained)}, or a .keras or .npz file",
        )
    return load_trained(name)
