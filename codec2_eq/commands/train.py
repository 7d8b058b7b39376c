# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq train: train an equaliser network with Keras."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from codec2_eq import messages
from codec2_eq.commands import options
from codec2_eq.commands.progress import StepBar, print_json
from codec2_eq.training.settings import MEAN_REMOVAL_EPOCHS, SEED, Draws, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from codec2_eq.equalisers.network import Network

SPEECH = ".speech"  # where scripts/fetch_speech.py puts it
_SHARES = {
    "noisy": "examples with car, babble or white noise, 8 to 24 dB below the speech",
    "fitted": "examples of fitted vectors (--knots fit)",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the trainable networks and their options."""
    networks = parser.add_subparsers(metavar="NETWORK", title="networks", required=True)
    _configure_mean_removal(
        networks.add_parser(
            "mean_removal",
            help="one layer that subtracts a vector's mean; under a minute",
            description="Train one Dense layer on random vectors to subtract a vector's mean.",
        )
    )
    _configure_channel_eq(
        networks.add_parser(
            "channel_eq",
            help="the recursive estimator that removes spectral shaping; about 20 minutes",
            description="Train the network that removes what microphones and filters do to speech.",
        )
    )


def run(args: argparse.Namespace) -> None:
    """Train the network that was named."""
    from codec2_eq.errors import require_extra

    require_extra("train", "train", "matplotlib", "scipy")  # whose lack would show at the end
    args.train(args)


def _configure_mean_removal(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument(
        "--epochs",
        type=options.count,
        default=MEAN_REMOVAL_EPOCHS,
        metavar="N",
        help="passes over the data (default: %(default)s)",
    )
    parser.add_argument(
        "--speech",
        nargs="+",
        metavar="FILE",
        help="recordings to evaluate on, not to train on (default: the samples, if present)",
    )
    parser.set_defaults(train=_train_mean_removal)


def _configure_channel_eq(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    settings = Settings()
    parser.add_argument(
        "--epochs",
        type=options.count,
        default=settings.epochs,
        metavar="N",
        help=f"maximum epochs of {settings.steps} batches (default: %(default)s)",
    )
    parser.add_argument(
        "--speech",
        default=SPEECH,
        metavar="DIR",
        help="the speech fetched by scripts/fetch_speech.py (default: %(default)s)",
    )
    parser.add_argument(
        "--cache",
        default=".cache",
        metavar="DIR",
        help="cache of features for the next training (default: %(default)s)",
    )
    for name, what in _SHARES.items():
        parser.add_argument(
            f"--{name}",
            type=options.share,
            default=0.0,
            metavar="SHARE",
            help=f"share of {what}, 0 to 1 (default: %(default)s)",
        )
    parser.add_argument(
        "--tensorboard", metavar="DIR", help="write logs of each epoch for TensorBoard"
    )
    parser.set_defaults(train=_train_channel_eq)


def _train_channel_eq(args: argparse.Namespace) -> None:
    from pathlib import Path

    from codec2_eq.training import channel_eq

    folder = _folder(args)
    command = ["codec2-eq train channel_eq", f"--seed {args.seed}", f"--epochs {args.epochs}"]
    shares = {name: getattr(args, name) for name in _SHARES}
    command += [f"--{name} {share:g}" for name, share in shares.items() if share]
    if args.speech != SPEECH:
        command.append(f"--speech {args.speech}")
    with StepBar() as bar:
        network = channel_eq.train_on_speech(
            folder,
            Path(args.speech),
            Path(args.cache),
            seed=args.seed,
            settings=Settings(epochs=args.epochs, draws=Draws(**shares)),
            command=" ".join(command),
            watch=channel_eq.Watch(
                bar.tell, bar.step, Path(args.tensorboard) if args.tensorboard else None
            ),
            force=args.force,
        )
    _show_figures(args, network)
    messages.tell(f"wrote {folder / network.name}.keras, .npz, .json and pictures")


def _show_figures(args: argparse.Namespace, network: Network) -> None:
    figures = network.card["figures"]
    if args.json:
        print_json(figures)
    else:
        for name, value in figures.items():
            print(f"{name:44} {value}")


def _folder(args: argparse.Namespace) -> Path:
    """Return the output folder: never inside an installed package."""
    from pathlib import Path

    from codec2_eq.equalisers.equaliser import clone_dir

    if args.output:
        return Path(args.output)
    clone = clone_dir()
    if clone is None:
        return args.refuse(
            "-o DIR is required when the package is installed; name a folder of your own"
        )
    return clone / "models"


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Declare the options common to all networks."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="folder for model, card and pictures (default in a clone: models/; else required)",
    )
    parser.set_defaults(refuse=parser.error)
    options.add_force(parser)
    options.add_json(parser)
    parser.add_argument(
        "--seed",
        type=options.natural,
        default=SEED,
        metavar="N",
        help="random seed; the same seed gives the same figures (default: %(default)s)",
    )


def _train_mean_removal(args: argparse.Namespace) -> None:
    from codec2_eq.training import mean_removal

    folder = _folder(args)
    command = ["codec2-eq train mean_removal", f"--seed {args.seed}", f"--epochs {args.epochs}"]
    if args.speech:
        command.append("--speech " + " ".join(args.speech))
    with StepBar() as bar:
        network = mean_removal.train(
            folder,
            seed=args.seed,
            epochs=args.epochs,
            speech=mean_removal.read_speech(args.speech or mean_removal.sample_files()),
            command=" ".join(command),
            force=args.force,
            report=bar.tell,
            step=bar.step,
        )
    _show_figures(args, network)
    messages.tell(f"wrote {folder / network.name}.keras, .npz, .json and pictures")
