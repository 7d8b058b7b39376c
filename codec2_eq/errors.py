# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one exception that users meet."""


class Codec2EqError(ValueError):
    """Bad data or a bad request, told in one line: file, what is wrong, limit, remedy.

    The command line prints it as ``codec2-eq: error: <message>`` and exits with 1.
    """
