# SPDX-License-Identifier: LGPL-2.1-or-later
"""Training with Keras: the only part of the package that imports it, and only when it trains."""
