# SPDX-License-Identifier: LGPL-2.1-or-later
"""Causal control of the level of speech, compiled because it goes frame by frame."""

from libc.math cimport INFINITY, exp
from libc.stdint cimport uint8_t

import numpy as np

from codec2_eq.codec2 cimport FRAME_MS

TARGET_DB = 36.0
"""Where an encoder brings speech to. What is heard of a stream is the same within 2 % from 34 to
40 dB; the top energy step takes 2 % of active frames at 34 dB, 5 % at 36, 9 % at 38, 13 % at 40."""

cdef double MOST_GAIN_DB = 30
cdef double FRAME_S = FRAME_MS / 1000.0
cdef int VOICED_RUN = 2  # frames: a single one is often noise
cdef double ABOVE_NOISE_DB = 8  # above the quietest frame of late: steady noise and hum are not
cdef int NOISE_SPAN = 32  # frames (1.3 s); the quietest is taken over one to two of them
cdef double SILENCE_DB = 0  # mean of a frame of noise of a few quantisation steps
cdef int SECOND = 25  # frames
cdef double SETTLED = 25  # frames (1 s) from which on the gain moves slowly
cdef double SETTLING_STEP_DB = 0.4  # largest step when 1 s was heard, more while less was
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

    memory_s : s of speech after which a frame counts 1/e
    rise_db_per_s : fastest rise of the gain, once settled
    enough : frames of speech at the present level, before which nothing moves
    tolerance_db : speech that is this near to `target_db` stays as it is
    new_voice_db : a second of speech that is nowhere nearer to the level than this is a new voice,
        to which the gain settles afresh
    weight_db : dB by which the weight of a frame rises tenfold
    first_above_noise_db : how far the first speech stands out of the quietest frames of late
    far_above_noise_db : what stands out so far is the first speech, be it voiced or not
    follow : while settling, this over the frames heard is made up for in each
    """

    cdef readonly double gain_db
    cdef double target_db, forget, rise_db, enough, tolerance_db, new_voice_db
    cdef double weights, weighted_db, quietest_before_db, quietest_db, loudest_db
    cdef int voiced_run, frames_in_span, frames_in_second
    cdef double weight_db, first_above_noise_db, far_above_noise_db, follow
    cdef bint started

    def __init__(self, double target_db=TARGET_DB, *, double memory_s=15, double rise_db_per_s=2,
                 double enough=5, double tolerance_db=0,
                 double new_voice_db=INFINITY, double weight_db=20,
                 double first_above_noise_db=ABOVE_NOISE_DB,
                 double far_above_noise_db=INFINITY, double follow=2.5):
        self.far_above_noise_db = far_above_noise_db
        self.weight_db, self.follow = weight_db, follow
        self.first_above_noise_db = first_above_noise_db
        self.new_voice_db = new_voice_db
        self.loudest_db = -INFINITY
        self.enough, self.tolerance_db = enough, tolerance_db
        self.target_db = target_db
        self.forget = exp(-FRAME_S / memory_s)
        self.rise_db = rise_db_per_s * FRAME_S
        self.quietest_before_db = self.quietest_db = INFINITY

    @property
    def state(self):
        """What is known of the level, (4,): gain_db and the frames it comes from."""
        return np.array([self.gain_db, self.weights, self.weighted_db, self.started])

    @state.setter
    def state(self, values):
        self.gain_db, self.weights, self.weighted_db = values[:3]
        self.started = values[3] > 0

    def process(self, energy_db, voiced):
        """Return the gain for each of the next frames, (n,) dB.

        energy_db : (n,) means that the frames would be sent with;  voiced : (n,) bool
        """
        cdef const double[::1] energies = np.ascontiguousarray(energy_db, dtype=np.float64)
        cdef const uint8_t[::1] is_voiced = np.ascontiguousarray(voiced, dtype=np.uint8)
        gains = np.empty(len(energies))
        cdef double[::1] out = gains
        cdef Py_ssize_t i
        for i in range(energies.shape[0]):
            if self.is_speech(energies[i], is_voiced[i]):
                self.hear(energies[i])
            out[i] = self.gain_db
        return gains

    cdef bint is_speech(self, double energy_db, bint voiced) noexcept:
        self.quietest_db = min(self.quietest_db, energy_db)
        cdef double noise_db = min(self.quietest_before_db, self.quietest_db)
        self.frames_in_span += 1
        if self.frames_in_span == NOISE_SPAN:
            self.quietest_before_db, self.quietest_db = self.quietest_db, INFINITY
            self.frames_in_span = 0
        self.voiced_run = self.voiced_run + 1 if voiced else 0
        cdef double above_db = ABOVE_NOISE_DB if self.started else self.first_above_noise_db
        if not self.started and energy_db > max(noise_db, SILENCE_DB) + self.far_above_noise_db:
            return True
        return (self.voiced_run >= VOICED_RUN and energy_db > noise_db + above_db
                and energy_db > SILENCE_DB)

    cdef void hear(self, double energy_db) noexcept:
        self.loudest_db = max(self.loudest_db, energy_db)
        self.frames_in_second += 1
        if self.frames_in_second == SECOND:
            if self.weights * (self.loudest_db + self.new_voice_db) < self.weighted_db:
                self.weights = self.weighted_db = 0
            self.loudest_db, self.frames_in_second = -INFINITY, 0
        cdef double weight = 10 ** (energy_db / self.weight_db)
        self.weights = self.weights * self.forget + weight
        self.weighted_db = self.weighted_db * self.forget + weight * energy_db
        cdef double level_db = self.weighted_db / self.weights
        cdef double evidence = self.weights / 10 ** (level_db / self.weight_db)
        if evidence < self.enough:
            return
        cdef double wanted_db = min(max(self.target_db - level_db, -MOST_GAIN_DB), MOST_GAIN_DB)
        cdef double step_db = wanted_db - self.gain_db
        step_db -= min(max(step_db, -self.tolerance_db), self.tolerance_db)
        cdef double limit_db = SETTLING_STEP_DB * (SETTLED / evidence) ** 2
        if self.started:
            step_db *= max(min(1.0, self.follow / evidence), FRAME_S / SETTLED_S)
            step_db = min(max(step_db, -max(limit_db, FALL_DB)), max(limit_db, self.rise_db))
        self.started = True
        self.gain_db += step_db
