# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples in the docstrings of all public names."""

import doctest
import shutil

import numpy as np
import pytest

import codec2_eq


@pytest.mark.parametrize("name", codec2_eq.__all__)
def test_the_example_of_a_public_name_runs(name, samples_dir, tmp_path, monkeypatch):
    shutil.copytree(samples_dir, tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    globs = {"ce": codec2_eq, "np": np}
    test = doctest.DocTestParser().get_doctest(
        getattr(codec2_eq, name).__doc__ or "", globs, name, None, None
    )
    assert test.examples, f"{name}: its docstring has no example"
    flags = doctest.IGNORE_EXCEPTION_DETAIL | doctest.ELLIPSIS
    said: list[str] = []
    doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    assert not said, "".join(said)
