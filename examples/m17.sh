#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A program that reads samples from a fifo, here Codec 2 3200 as M17 has it, hears them equalised.
#
#     examples/m17.sh speech.raw speech.c2 heard.raw
#
# speech.raw: 16-bit mono 8 kHz; from a microphone: arecord -t raw -f S16_LE -r 8000 in place of cat.
set -e
fifo=$(mktemp -u)
mkfifo "$fifo"
trap 'rm -f "$fifo"' EXIT
cat "$1" | codec2-eq filter --raw - -o - >"$fifo" &
c2enc 3200 "$fifo" "$2"
wait
c2dec 3200 "$2" "$3"
