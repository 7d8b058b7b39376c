# SPDX-License-Identifier: LGPL-2.1-or-later
"""Build of the compiled parts, every .pyx, and the manual pages; all else is in setup.cfg."""

import re
import shutil
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Bit-equality with libcodec2 needs float32 in the order written: no fused multiply-add, no
# reassociation. -O3 alone keeps to it.
EXACT = ["-O3", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]

# All directives of all modules.
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}

# Sources that one kind of machine alone can run, and what the compiler must know for it.
X86 = ("x86_64", "amd64")
VARIANTS = {
    "x86_64_v3": (X86, ["-march=x86-64-v3"]),
    "x86_64_v4": (X86, ["-march=x86-64-v4", "-mprefer-vector-width=512"]),
}

MACHINE = sysconfig.get_platform().rsplit("-", 1)[-1]  # the one built for


class BuildExact(build_ext):
    """Compile with GCC or Clang: the sources use their vector types."""

    def build_extensions(self) -> None:
        """Put clang-cl in the place of Windows' own compiler."""
        if self.compiler.compiler_type == "msvc":
            clang = shutil.which("clang-cl")
            if clang is None:
                sys.exit("clang-cl: not found; install LLVM, whose compiler the sources need")
            self.compiler.initialize()
            self.compiler.cc = clang
            for module in self.extensions:
                module.extra_compile_args = [f"/clang:{a}" for a in module.extra_compile_args]
        super().build_extensions()


def extensions() -> list[Extension]:
    """Describe the modules for this machine."""
    headers = sorted(map(str, Path("codec2_eq").rglob("*.h")))
    found = []
    for path in sorted(Path("codec2_eq").rglob("*.pyx")):
        machines, flags = VARIANTS.get(path.stem, ((MACHINE,), []))
        if MACHINE in machines:
            name = ".".join(path.with_suffix("").parts)
            libm = [] if sys.platform == "win32" else ["m"]
            found.append(
                Extension(
                    name,
                    [path.as_posix()],
                    depends=headers,
                    libraries=libm,
                    extra_compile_args=[*EXACT, *flags],
                )
            )
    return found


def description() -> str:
    """Return README.md for package indexes, without pictures and links that only clones have."""
    text = Path("README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:)[^)]*\)", lambda m: "" if m[1] else m[2], text)


def man_pages() -> list[str]:
    """Write the manual pages, made from the parsers of the commands; return their paths."""
    sys.path.insert(0, str(Path(__file__).parent))
    from codec2_eq import __version__, cli
    from codec2_eq.commands.manual import man_pages as make_pages

    folder = Path("build", "man")
    folder.mkdir(parents=True, exist_ok=True)
    pages = make_pages(cli.whole_parser(), version=__version__, environment=cli.ENVIRONMENT)
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [(folder / name).as_posix() for name in pages]


setup(
    long_description=description(),
    data_files=[("share/man/man1", man_pages())],
    cmdclass={"build_ext": BuildExact},
    ext_modules=cythonize(extensions(), compiler_directives=DIRECTIVES),
)
