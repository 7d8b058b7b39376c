# SPDX-License-Identifier: LGPL-2.1-or-later
"""Corpora of any size: many recordings to one folder of vectors, and that folder read back.

The way of a corpus through the modules: `listing` finds the recordings, `plan` cuts them into parts
and tasks, `review` finds what is left to do, `worker` does a task, `executors` are the workers,
`runner` keeps them busy, `manifest` lists what came out, `store` is the folder on disk, `reader`
opens it afterwards.
"""

from codec2_eq.corpus.manifest import Summary
from codec2_eq.corpus.reader import Corpus, Utterance, open_corpus
from codec2_eq.corpus.runner import Progress, batch

__all__ = ["Corpus", "Progress", "Summary", "Utterance", "batch", "open_corpus"]
