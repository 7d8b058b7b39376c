# SPDX-License-Identifier: LGPL-2.1-or-later
"""The workers: any concurrent.futures executor, and calls on it that outlive a worker's death.

Processes, not threads, since a fifth of the work on short recordings is Python's own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass
from typing import Any

from codec2_eq.errors import Codec2EqError, missing_extra
from codec2_eq.system import start_method

AHEAD = 4
"""Calls handed to a local worker ahead of its work, so that it never waits."""

AHEAD_ELSEWHERE = 512
"""The same for an executor of unknown size, in all."""

TRIES = 5
"""How often a call may lose its worker without a recording to blame."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc

KEPT_BYTES = 32 << 20
"""Freed memory that a worker keeps: faulting it in again for every recording is 7 % of the CPU."""


@dataclass
class Call:
    """A call to be made by a worker: ``function(*arguments, *extra)``.

    done : called with its result
    blame : called after a worker died that did nothing else; returns more arguments to try it
        with again, or None if the death may be none of its doing
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    done: Callable[[Any], None]
    blame: Callable[[], tuple[Any, ...] | None] = lambda: None
    extra: tuple[Any, ...] = ()
    tries: int = 0


class Pool:
    """Workers that make calls in the order they are added, never idle while there are any."""

    def __init__(self, start: Callable[[], Executor], ahead: int, *, restartable: bool) -> None:
        self.calls: deque[Call] = deque()
        self._start = start
        self._ahead = ahead
        self._restartable = restartable
        self._executor: Executor | None = None
        self._running: dict[Future[Any], Call] = {}
        self._finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._suspects = 0

    def run(self) -> None:
        """Make all calls; more may be added meanwhile.

        Raises what a call raises, and Codec2EqError if workers keep dying.
        """
        while self.calls or self._running:
            # After a death one call at a time: so it is clear which of them brings it about.
            while self.calls and len(self._running) < (1 if self._suspects else self._ahead):
                if not self._submit(self.calls[0]):
                    break
                self.calls.popleft()
            if not self._running:
                self._restart(None)
                continue
            future = self._finished.get()
            call = self._running.pop(future, None)
            if call is None:
                continue
            try:
                result = future.result()
            except BrokenExecutor as error:
                self._after_break(call, error)
            except CancelledError as error:
                raise Codec2EqError(
                    "scheduler", "has dropped the work", "run again to go on where it stopped"
                ) from error
            except Exception as error:
                if type(error).__name__ == "KilledWorker":  # Dask's, after several deaths
                    self._again(call, error)
                elif self._restartable or isinstance(error, (Codec2EqError, OSError)):
                    raise
                else:  # most likely it does not know what it is asked for
                    raise Codec2EqError(
                        "workers",
                        f"one failed with {type(error).__name__}: {error}",
                        "install the same codec2_eq on all machines",
                    ) from error
            else:
                self._suspects = max(0, self._suspects - 1)
                call.done(result)

    def _submit(self, call: Call) -> bool:
        """Hand a call over; False if the executor is broken; its calls will fail, too."""
        try:
            if self._executor is None:
                self._executor = self._start()
            future = self._executor.submit(call.function, *call.arguments, *call.extra)
        except BrokenExecutor:
            return False
        self._running[future] = call
        future.add_done_callback(self._finished.put)
        return True

    def _after_break(self, call: Call, error: BaseException) -> None:
        """Start afresh after a worker's death has taken all others with it."""
        suspects = [call, *self._running.values()]
        self._running.clear()
        self._restart(error)
        if self._suspects:
            self._again(call, error)
        else:
            self._suspects = len(suspects)
            self.calls.extendleft(reversed(suspects))

    def _again(self, call: Call, error: BaseException) -> None:
        extra = call.blame()
        if extra is not None:
            call.extra = extra
        else:
            call.tries += 1
            if call.tries == TRIES:
                raise Codec2EqError(
                    "workers",
                    f"died {TRIES} times ({error})",
                    "is the memory used up? run again with fewer --jobs to go on where it stopped",
                ) from error
        self.calls.appendleft(call)

    def _restart(self, error: BaseException | None) -> None:
        if not self._restartable:
            raise Codec2EqError(
                "executor", "a worker died", "run again with a new one to go on where it stopped"
            ) from error
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        self._executor = None

    def stop(self, *, at_once: bool) -> None:
        """End local workers, at once if their work is of no more use; drop the calls elsewhere."""
        for future in self._running:
            future.cancel()
        if self._executor is None or not self._restartable:
            return
        if at_once:
            # ProcessPoolExecutor can only wait for a long recording to end.
            for process in (getattr(self._executor, "_processes", None) or {}).values():
                process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def local_workers(jobs: int) -> Iterator[Pool]:
    """Processes on this machine; one job is done right here."""
    if jobs == 1:
        _keep_freed_memory()
        pool = Pool(_InPlace, 1, restartable=True)
    else:
        pool = Pool(
            functools.partial(_process_pool, jobs, _start_method()), AHEAD * jobs, restartable=True
        )
    with _stopping(pool):
        yield pool


@contextlib.contextmanager
def given_workers(executor: Executor) -> Iterator[Pool]:
    """Any executor; it is left running."""
    pool = Pool(lambda: executor, AHEAD_ELSEWHERE, restartable=False)
    with _stopping(pool):
        yield pool


@contextlib.contextmanager
def _stopping(pool: Pool) -> Iterator[None]:
    try:
        yield
    except BaseException:
        pool.stop(at_once=True)
        raise
    pool.stop(at_once=False)


@contextlib.contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """Executor of the Dask cluster whose scheduler is at an address.

    Raises Codec2EqError if Dask is not installed or there is no scheduler.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise missing_extra(f"scheduler {address}", "dask", error) from error
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise Codec2EqError(
            f"scheduler {address}",
            f"cannot be reached ({error})",
            "start one with `dask scheduler`",
        ) from error
    with client, client.get_executor() as executor:
        yield executor


class _InPlace(Executor):
    """Makes each call when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _start_method() -> str:
    """Fork where no other thread may hold a lock, to stay locked; TensorFlow has such threads."""
    alone = threading.active_count() == 1 and "tensorflow" not in sys.modules
    return start_method(alone=alone)


def _process_pool(jobs: int, start_method: str) -> Executor:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context(start_method)
    parent = os.getpid() if start_method == "fork" else None
    return ProcessPoolExecutor(jobs, context, _begin_worker, (parent,))


def _begin_worker(parent: int | None) -> None:
    """Leave Ctrl-C to the parent, and follow it when it dies.

    parent : who has forked us; None if the parent had another process do it
    """
    import ctypes
    from multiprocessing import parent_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError, TypeError):  # Linux has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _keep_freed_memory()
    # It may have died before.
    family = parent_process()
    orphan = os.getppid() != parent if parent else family is None or not family.is_alive()
    if orphan:
        os._exit(1)


def _keep_freed_memory() -> None:
    """Have the C library keep KEPT_BYTES for the next recording, if it is one that can."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
