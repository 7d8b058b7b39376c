# SPDX-License-Identifier: LGPL-2.1-or-later
"""Settings of the trainings, in a module that imports without Keras, for the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

SEED = 1
MEAN_REMOVAL_EPOCHS = 240


@dataclass(frozen=True)
class Draws:
    """How the items of a batch are drawn; probabilities unless another unit is given.

    canonical : flat speech, to be left as it is. twin : a twin instead of the plain recording.
    noisy : a twin in car, babble or white noise, drawn before either of these.
    fitted : fitted vectors (`knots="fit"`) instead of picked ones.
    noise : a noise floor, added in dB. change : another speaker and channel takes over midway.
    prelude : noise alone precedes the speech. smooth_db, tilt_db : largest spread of the
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
    """What a training depends on besides the speech.

    hidden : sizes of the hidden layers; the widest within 10,000 multiply-adds per frame.
    steps : batches per epoch. fv_weight : of the part of the error that is not constant, counted
    in addition to the whole.
    trim_weight : of the squared trims, without which they shrink the speech; trim_gain : of the
    trims after training, for the same reason. still_db : of the gate, added after training.
    ema : momentum of the average of the weights over steps, which is measured and kept.
    patience : epochs without improvement, after which training stops.
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
