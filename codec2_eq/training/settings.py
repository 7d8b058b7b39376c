# SPDX-License-Identifier: LGPL-2.1-or-later
"""Settings of the trainings, apart from what trains: the command line asks for them without it."""

from __future__ import annotations

from dataclasses import dataclass, field

SEED = 1
MEAN_REMOVAL_EPOCHS = 240


@dataclass(frozen=True)
class Draws:
    """How the items of a batch are drawn; probabilities unless another unit is given.

    canonical : flat speech that is to stay as it is. twin : from a twin, not the plain recording.
    noisy : from a twin in the noise of a car, of babble or of white noise, before the other two.
    fitted : of a recording's vectors fitted (`knots="fit"`), not picked.
    noise : a noise floor, added in dB. change : another speaker and channel takes over midway.
    prelude : noise alone comes before the speech. smooth_db, tilt_db : largest spread of the
    random smooth curve, and largest tilt in dB/octave, of the channels added in dB.
    """

    canonical: float = 0.2
    twin: float = 0.55
    noise: float = 0.15
    change: float = 0.06
    prelude: float = 0.04
    smooth_db: float = 9.0
    tilt_db: float = 11.0
    noisy: float = 0.0
    fitted: float = 0.0


@dataclass(frozen=True)
class Settings:
    """What a training depends on, besides the speech.

    hidden : sizes of the hidden layers; the widest within 10,000 multiply-adds a frame.
    steps : batches an epoch. fv_weight : of the part of the error that wanders, beside the whole.
    trim_weight : of the squared trims, without which they shrink the speech; trim_gain : of the
    trims after training, for the same reason. still_db : of the gate, put in after training.
    ema : of the weights over steps; their average is
    judged and kept. patience : epochs without a better one, after which it ends.
    """

    hidden: tuple[int, int] = (72, 62)
    epochs: int = 24
    steps: int = 250
    batch: int = 64
    learning_rate: float = 3e-3
    fv_weight: float = 1.0
    trim_weight: float = 0.15
    trim_gain: float = 0.67
    still_db: float = 1.0
    ema: float = 0.99
    patience: int = 8
    draws: Draws = field(default_factory=Draws)
