# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples in the docstrings of all public names."""

import doctest
import inspect
import re
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


@pytest.mark.parametrize("name", codec2_eq.__all__)
def test_every_parameter_of_a_public_name_is_explained(name):
    public = getattr(codec2_eq, name)
    told = inspect.getdoc(public) or ""
    sections = re.split(r"^(\w+)\n-+\n", told, flags=re.M)
    explained = dict(zip(sections[1::2], sections[2::2], strict=True))
    heads = re.findall(
        r"^(\w.*)$", explained.get("Parameters", explained.get("Attributes", "")), re.M
    )
    names = {word for head in heads for word in re.findall(r"\w+", head.partition(" : ")[0])}
    wanted = {p for p in inspect.signature(public).parameters if not p.startswith("_")}
    assert names == wanted
