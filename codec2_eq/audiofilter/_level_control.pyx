# SPDX-License-Identifier: LGPL-2.1-or-later
"""Causal control of the level of speech, compiled because it goes frame by frame."""

from libc.math cimport INFINITY, exp
from libc.stdint cimport uint8_t

import numpy as np

from codec2_eq.codec2 cimport FRAME_MS

cdef double FRAME_S = FRAME_MS / 1000.0
cdef double MOST_GAIN_DB = 30
cdef double WAITING_DB = 5  # gain before a voice: brings the usual 26 dB below full scale to 36 dB
cdef double WAITING_STEP_DB = 25 * FRAME_S  # largest step up to it
cdef double VOICED_RUN_MS = 40  # from first to last: a single frame is often noise
cdef int NOISE_SPAN = 32  # frames (1.3 s); the quietest is taken over one to two of them
cdef double SILENCE_DB = 0  # mean of a frame of noise of a few quantisation steps
cdef double ABOVE_NOISE_DB = 8  # of speech over the quietest frames: steady noise and hum are not
cdef double FAR_ABOVE_NOISE_DB = 25  # what stands out so far is the first speech, voiced or not
cdef int VOICE = 22  # frames of speech (0.9 s) after which a new voice is recognised
cdef double VOICE_SPAN_DB = 6  # from its softest to its loudest: a tone has less
cdef double SETTLED = 25  # frames (1 s) from which on the gain falls slowly
cdef double AFRESH = 5  # frames of evidence that are left of a level that is far too loud
cdef double SETTLING_STEP_DB = 0.4  # largest step down when 1 s was heard, more while less was
cdef double FOLLOW = 2.5  # while settling, this over the frames heard is made up for in each
cdef double WEIGHT_DB = 20  # by which the weight of a frame rises tenfold
cdef double SETTLED_S = 2  # time constant, once settled
cdef double FALL_DB = 6 * FRAME_S  # largest step down, once settled: 1 dB within a syllable


cdef class LevelControl:
    """Causal gain on the energy of frames that brings speech to `target_db` and holds it there.

    Speech is what is voiced and stands out of the quietest frames of late; all else leaves the
    gain as it is. The level is the mean over speech in dB, each frame weighted by its amplitude,
    and the evidence is the sum of the weights in units of that level's own: frames of speech *at
    that level*. When a voice comes in after hiss that was taken for speech, its weights dwarf
    those before, so the evidence falls to a frame or two and the gain settles afresh. As nothing
    but differences of dB counts, the same speech at another level ends at the same one.

    What is too loud comes down with its first frame. What is too quiet comes up slowly, as a word
    within which the gain jumps is not understood; so that a quiet first word is not lost, there is
    some gain before it already, unless what is heard then is loud enough.

    There is a gain every 40 ms; of several frames in that time the loudest counts.

    tolerance_db : speech that is this near to `target_db` stays as it is
    rise_db_per_s : fastest rise of the gain
    memory_s : s of speech after which a frame counts 1/e
    new_voice_db : 0.9 s of speech that is nowhere nearer to the level than this is a new voice, to
        which the gain settles afresh; so is a voice that is this much too loud at any time
    step : frames in 40 ms
    """

    cdef readonly double gain_db
    cdef double target_db, tolerance_db, rise_db, forget, new_voice_db
    cdef double weights, weighted_db, quietest_before_db, quietest_db, loudest_db, softest_db
    cdef int voiced_run, frames_in_span, frames_of_voice, step, n_unfilled
    cdef bint started

    def __init__(self, double target_db, *, double tolerance_db, double rise_db_per_s,
                 double memory_s=15, double new_voice_db=INFINITY, int step=1):
        self.target_db, self.tolerance_db = target_db, tolerance_db
        self.rise_db = rise_db_per_s * FRAME_S
        self.forget = exp(-FRAME_S / memory_s)
        self.new_voice_db = new_voice_db
        self.step, self.n_unfilled = step, step - 1
        self.loudest_db, self.softest_db = -INFINITY, INFINITY
        self.quietest_before_db = self.quietest_db = INFINITY

    @property
    def state(self):
        """What is known of the level, (4,): gain_db and the frames it comes from.

        Speech whose level is known begins right at `target_db`: nothing has to move.
        """
        return np.array([self.gain_db, self.weights, self.weighted_db, self.started])

    @state.setter
    def state(self, values):
        self.gain_db, self.weights, self.weighted_db = values[:3]
        self.started = values[3] > 0
        if self.weights > 0:
            wanted_db = self.target_db - self.weighted_db / self.weights
            self.gain_db = min(max(wanted_db, -MOST_GAIN_DB), MOST_GAIN_DB)

    def process(self, energy_db, voiced):
        """Return the gain for each of the next n times 40 ms, (n,) dB.

        energy_db : (n step,) means that the frames would be sent with;  voiced : (n step,) bool
        """
        cdef const double[::1] energies = np.ascontiguousarray(energy_db, dtype=np.float64)
        cdef const uint8_t[::1] is_voiced = np.ascontiguousarray(voiced, dtype=np.uint8)
        gains = np.empty(len(energies) // self.step)
        cdef double[::1] out = gains
        cdef double loudest_db
        cdef Py_ssize_t i, j
        for i in range(out.shape[0]):
            loudest_db = -INFINITY
            for j in range(i * self.step, (i + 1) * self.step):
                loudest_db = max(loudest_db, energies[j])
                if self.n_unfilled: # the window still reaches beyond the start
                    self.n_unfilled -= 1
                else:
                    self.quietest_db = min(self.quietest_db, energies[j])
                self.voiced_run = self.voiced_run + 1 if is_voiced[j] else 0
            if self.is_speech(loudest_db):
                self.hear(loudest_db)
            elif not self.started:
                self.wait(loudest_db)
            out[i] = self.gain_db
        return gains

    cdef bint is_speech(self, double energy_db) noexcept:
        cdef double noise_db = min(self.quietest_before_db, self.quietest_db)
        self.frames_in_span += 1
        if self.frames_in_span == NOISE_SPAN:
            self.quietest_before_db, self.quietest_db = self.quietest_db, INFINITY
            self.frames_in_span = 0
        if not self.started and energy_db > max(noise_db, SILENCE_DB) + FAR_ABOVE_NOISE_DB:
            return True
        return (self.voiced_run * FRAME_MS > self.step * VOICED_RUN_MS
                and energy_db > max(noise_db + ABOVE_NOISE_DB, SILENCE_DB))

    cdef void wait(self, double energy_db) noexcept:
        """Up in quiet; what is too loud comes down, be it speech or not."""
        cdef double wanted_db = self.target_db - energy_db
        if self.gain_db < min(wanted_db - self.tolerance_db, WAITING_DB):
            self.gain_db = min(self.gain_db + WAITING_STEP_DB, WAITING_DB)
        self.gain_db = max(min(self.gain_db, wanted_db + self.tolerance_db), -MOST_GAIN_DB)

    cdef void hear(self, double energy_db) noexcept:
        self.loudest_db = max(self.loudest_db, energy_db)
        self.softest_db = min(self.softest_db, energy_db)
        self.frames_of_voice += 1
        if self.frames_of_voice == VOICE:
            if (self.weights * (self.loudest_db + self.new_voice_db) < self.weighted_db
                    and self.loudest_db > self.softest_db + VOICE_SPAN_DB):
                self.weights = self.weighted_db = 0
            self.loudest_db, self.softest_db, self.frames_of_voice = -INFINITY, INFINITY, 0
        cdef double weight = 10 ** (energy_db / WEIGHT_DB)
        self.weights = self.weights * self.forget + weight
        self.weighted_db = self.weighted_db * self.forget + weight * energy_db
        cdef double level_db = self.weighted_db / self.weights
        cdef double evidence = self.weights / 10 ** (level_db / WEIGHT_DB)
        cdef double wanted_db = min(max(self.target_db - level_db, -MOST_GAIN_DB), MOST_GAIN_DB)
        cdef double step_db = wanted_db - self.gain_db
        step_db -= min(max(step_db, -self.tolerance_db), self.tolerance_db)
        if step_db < -self.new_voice_db and evidence > AFRESH:
            self.weights *= AFRESH / evidence
            self.weighted_db *= AFRESH / evidence
            evidence = AFRESH
        if self.started:
            step_db *= max(min(1.0, FOLLOW / evidence), FRAME_S / SETTLED_S)
            step_db = max(step_db, -max(SETTLING_STEP_DB * (SETTLED / evidence) ** 2, FALL_DB))
        self.started = True
        self.gain_db += min(step_db, self.rise_db)
