# SPDX-License-Identifier: LGPL-2.1-or-later
# The stages joined: samples in, Codec 2 parameters of each frame out, in blocks, with memory.
#
# A block of hops is cut into LANES consecutive segments, one a lane; all stages then run over the
# hops of a segment with one frame of every segment at a time. What crosses from one segment to
# the next (pitch filters' memories, the previous pitch) is handed over between the stages.

from libc.string cimport memcpy

cdef extern from "<time.h>" nogil:
    enum: TIME_UTC
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int timespec_get(timespec *now, int base)      # C11, so every system has it

import numpy as np

cdef enum:
    MAX_SEGMENT = 32                           # hops; a block is at most 5.12 s
    ROW_BYTES = 4 * LANES                      # a cache line
    MIN_SEGMENT = 4                            # the pitch DFT reaches 3 hops back: one lane at most
    FIR_MEMORY = N_TAPS - 1
    DFT_MEMORY = N_DECIMATED - NEW_DECIMATED

cdef struct Memory:
    # All that one block leaves to the next.
    float history[HISTORY]                     # newest samples before the block
    Notch notch
    float notched[FIR_MEMORY]
    float decimated[DFT_MEMORY]
    int pitch_bin
    int phase                                  # hops since the last output frame


cdef enum Stage:
    LAYOUT, NOTCH, LOW_PASS, PITCH_DFT, PITCH_PEAKS, SPECTRUM, REFINEMENT, AMPLITUDES, RATE_K, VOICING
    N_STAGES

STAGES = ("layout", "notch", "low pass", "pitch DFT", "pitch peaks", "spectrum", "refinement",
          "amplitudes", "rate K", "voicing")

cdef struct StopWatch:
    bint on
    double last_s
    double total_s[N_STAGES]


cdef struct Workspace:
    # Rows first, all of whole cache lines.
    float samples[HISTORY + LANES * MAX_SEGMENT * HOP]
    float x[(HISTORY + MAX_SEGMENT * HOP) * LANES]
    float notched[(FIR_MEMORY + MAX_SEGMENT * HOP) * LANES]
    float decimated[(DFT_MEMORY + MAX_SEGMENT * NEW_DECIMATED) * LANES]
    float spectrum[2 * IM]
    float rows[N_BINS * LANES]
    float power[LANES * POWER_STRIDE]
    PitchCandidates found[LANES * MAX_SEGMENT]
    unsigned char pitch_bin[LANES * MAX_SEGMENT]
    StopWatch watch


cdef struct Output:
    float *vectors                             # BANDS a frame, dB
    float *mean_db
    float *wo
    int *n_harm
    unsigned char *voiced
    float *harmonics                           # MAX_HARMONICS a frame, before the floor; or NULL
    bint linear                                # harmonics as amplitudes, not in dB


cdef struct Block:
    int n_hops
    int segment                                # hops a lane
    int n_lanes                                # lanes in use
    int last                                   # hops in the last of them


cdef inline void lap(StopWatch *watch, int stage) noexcept nogil:
    """Add the time since the last lap to a stage; for the benchmarks."""
    cdef timespec now
    cdef double now_s
    if watch.on:
        timespec_get(&now, TIME_UTC)
        now_s = now.tv_sec + 1e-9 * now.tv_nsec
        if stage < N_STAGES:
            watch.total_s[stage] += now_s - watch.last_s
        watch.last_s = now_s


cdef Block plan_block(int n_hops, int step) noexcept nogil:
    """Cut a block into segments that are whole output frames, so that lanes agree on the phase."""
    cdef Block block
    cdef int segment = max((n_hops + LANES - 1) // LANES, <int>MIN_SEGMENT)
    block.n_hops = n_hops
    block.segment = (segment + step - 1) // step * step
    block.n_lanes = (n_hops + block.segment - 1) // block.segment
    block.last = n_hops - (block.n_lanes - 1) * block.segment
    return block


cdef void spread_samples(Workspace *w, Block block) noexcept nogil:
    """Lay the segments, each with the history before it, side by side as lanes."""
    cdef int n_rows = HISTORY + block.segment * HOP
    cdef int n_valid = HISTORY + block.last * HOP
    cdef int l, n, i
    cdef const float *source
    if block.n_lanes < LANES:
        memset(w.x, 0, n_rows * LANES * sizeof(float))
    for l in range(block.n_lanes):
        source = w.samples + l * block.segment * HOP
        for n in range(n_valid if l == block.n_lanes - 1 else n_rows):
            w.x[n * LANES + l] = source[n]
        if l == block.n_lanes - 1:
            for n in range(n_valid, n_rows):
                w.x[n * LANES + l] = 0


cdef void hand_over(float *rows, int n_memory, int n_rows, const float *memory) noexcept nogil:
    """Fill the n_memory rows before each segment from the end of the one before it."""
    cdef int n, l
    for n in range(n_memory):
        for l in range(1, LANES):
            rows[n * LANES + l] = rows[(n + n_rows) * LANES + l - 1]
        rows[n * LANES] = memory[n]


cdef void keep_tail(const float *rows, int n_memory, int n_rows, int lane, float *memory) noexcept nogil:
    """Store the last n_memory values of the last lane's n_rows."""
    cdef int n
    for n in range(n_memory):
        memory[n] = rows[(n + n_rows) * LANES + lane]


cdef void estimate_pitch(Workspace *w, Memory *memory, Block block) noexcept nogil:
    """Pitch bin of every hop of the block."""
    cdef int n_rows = block.segment * HOP
    cdef int h, l, g, n_hops = block.segment if block.n_lanes > 1 else block.last
    cdef float group_peaks[N_GROUPS * LANES]
    square_and_notch(w.x + HISTORY * LANES, w.notched + FIR_MEMORY * LANES, n_rows,
                     block.n_lanes, block.last * HOP, &memory.notch)
    lap(&w.watch, NOTCH)
    hand_over(w.notched, FIR_MEMORY, n_rows, memory.notched)
    keep_tail(w.notched, FIR_MEMORY, block.last * HOP, block.n_lanes - 1, memory.notched)
    for h in range(n_hops):
        low_pass_hop(w.notched + (FIR_MEMORY + h * HOP) * LANES,
                     w.decimated + (DFT_MEMORY + h * NEW_DECIMATED) * LANES)
    lap(&w.watch, LOW_PASS)
    hand_over(w.decimated, DFT_MEMORY, block.segment * NEW_DECIMATED, memory.decimated)
    keep_tail(w.decimated, DFT_MEMORY, block.last * NEW_DECIMATED, block.n_lanes - 1, memory.decimated)
    for h in range(n_hops):
        pitch_power(w.decimated + h * NEW_DECIMATED * LANES, w.spectrum, w.rows)
        lap(&w.watch, PITCH_DFT)
        find_group_peaks(w.rows, group_peaks)
        for l in range(block.n_lanes):
            find_pitch_candidates(w.rows, group_peaks, l, &w.found[l * block.segment + h])
        lap(&w.watch, PITCH_PEAKS)
    for g in range(block.n_hops):
        memory.pitch_bin = track_pitch(&w.found[g], memory.pitch_bin)
        w.pitch_bin[g] = <unsigned char>memory.pitch_bin


cdef void describe_frame(
    const float *x, const float *power, int pitch_bin, Output out, StopWatch *watch
) noexcept nogil:
    """All parameters of one frame, from one lane of its spectrum."""
    cdef float amp[MAX_HARMONICS + 1]
    cdef float amp_db[MAX_HARMONICS]
    cdef float wo = refine_pitch(power, pitch_bin)
    cdef int n_harm = count_harmonics(wo)
    lap(watch, REFINEMENT)
    estimate_amplitudes(power, wo, n_harm, amp)
    lap(watch, AMPLITUDES)
    to_db(amp, n_harm, amp_db)
    if out.harmonics != NULL:
        memcpy(out.harmonics, &amp[1] if out.linear else &amp_db[0], n_harm * sizeof(float))
    raise_to_floor(amp_db, n_harm)
    resample_to_rate_k(amp_db, wo, n_harm, out.vectors)
    out.mean_db[0] = mean_of_bands(out.vectors)
    lap(watch, RATE_K)
    out.wo[0] = wo
    out.n_harm[0] = n_harm
    out.voiced[0] = is_voiced(x, wo, n_harm, amp)
    lap(watch, VOICING)


cdef int analyse_block(Workspace *w, Memory *memory, int n_hops, int step, Output out) noexcept nogil:
    """Analyse n_hops hops of w.samples (after HISTORY older samples); returns the frames put out."""
    cdef Block block = plan_block(n_hops, step)
    cdef int first = step - 1 - memory.phase       # the first hop that gives an output frame
    cdef int h = first, l, g, frame
    cdef Output one
    lap(&w.watch, N_STAGES)
    spread_samples(w, block)
    lap(&w.watch, LAYOUT)
    estimate_pitch(w, memory, block)
    while h < min(block.segment, n_hops):
        short_time_spectrum(w.x + h * HOP * LANES, w.spectrum, w.rows, w.power)
        lap(&w.watch, SPECTRUM)
        for l in range(block.n_lanes):
            g = l * block.segment + h
            if g >= n_hops:
                break
            frame = (g - first) // step
            one.vectors = out.vectors + frame * BANDS
            one.mean_db = out.mean_db + frame
            one.wo = out.wo + frame
            one.n_harm = out.n_harm + frame
            one.voiced = out.voiced + frame
            one.linear = out.linear
            one.harmonics = NULL
            if out.harmonics != NULL:
                one.harmonics = out.harmonics + frame * MAX_HARMONICS
            describe_frame(w.spectrum + l, w.power + l * POWER_STRIDE, w.pitch_bin[g], one, &w.watch)
        h += step
    memcpy(memory.history, w.samples + n_hops * HOP, HISTORY * sizeof(float))
    frame = (memory.phase + n_hops) // step
    memory.phase = (memory.phase + n_hops) % step
    return frame


cdef class Analyser:
    """Streaming analysis: memory between blocks, nothing else.

    step : hops of 10 ms between two output frames: 1, 2 or 4; frames come at hop step - 1,
        2 step - 1, … as the 700C encoder has them
    timed : keep `stage_seconds`, which costs some 3 % of the speed
    harmonics : give the harmonics, too
    linear : give them as amplitudes, not in dB
    """

    cdef void *room
    cdef Workspace *work                       # in `room`, where a cache line begins
    cdef Memory memory
    cdef float rest[HOP]
    cdef int n_rest
    cdef bint busy                             # in another thread
    cdef readonly int step
    cdef readonly bint harmonics
    cdef readonly bint linear

    def __cinit__(self, int step, *, bint timed=False, bint harmonics=False, bint linear=False):
        if step not in (1, 2, 4):
            raise ValueError(f"step {step}: expected 1, 2 or 4 hops")
        self.step = step
        self.harmonics = harmonics
        self.linear = linear
        self.room = calloc(1, sizeof(Workspace) + ROW_BYTES)
        if self.room == NULL:
            raise MemoryError
        self.work = <Workspace *>((<size_t>self.room // ROW_BYTES + 1) * ROW_BYTES)
        self.work.watch.on = timed
        memset(&self.memory, 0, sizeof(Memory))
        cdef int i
        for i in range(HISTORY):
            self.memory.history[i] = 1.0        # codec2 starts its buffer at one, not at zero
        self.memory.pitch_bin = BIN_START
        self.n_rest = 0

    def __dealloc__(self):
        free(self.room)

    @property
    def stage_seconds(self):
        """Time spent in each stage so far, by name, if the analyser is timed."""
        return {name: self.work.watch.total_s[i] for i, name in enumerate(STAGES)}

    @property
    def state(self):
        """Memory of the analysis between two hops, as bytes; equal bytes give equal futures.

        Samples of an incomplete hop are not part of it: it may be read and set between whole hops.
        """
        self._require_idle()
        if self.n_rest:
            raise ValueError(f"{self.n_rest} samples of an incomplete hop: state is between hops")
        return (<char *>&self.memory)[:sizeof(Memory)]

    @state.setter
    def state(self, state):
        cdef Memory memory
        self._require_idle()
        if not isinstance(state, bytes) or len(state) != sizeof(Memory):
            raise ValueError(f"state: expected {sizeof(Memory)} bytes, as read from an analyser")
        memcpy(&memory, <const char *>state, sizeof(Memory))
        if not (0 <= memory.phase < self.step and BIN_MIN <= memory.pitch_bin <= BIN_MAX):
            raise ValueError(f"state: not of an analyser with a step of {self.step} hops")
        self.memory = memory
        self.n_rest = 0

    cdef int _require_idle(self) except -1:
        if self.busy:
            raise RuntimeError("analyser in use by another thread; give each thread its own")
        return 0

    def process(self, const float[::1] samples not None):
        """Analyse what is complete of the samples so far.

        samples : (n,) float32, 8 kHz, int16 scale; any n
        Returns vectors (f, 20) float32 dB, mean_db (f,) float32, wo (f,) float32 rad/sample,
        n_harm (f,) int32, voiced (f,) bool: the frames that these samples completed; and, if
        asked for, harmonics (f, MAX_HARMONICS) float32, before the floor, 0 beyond n_harm.
        """
        self._require_idle()
        cdef Py_ssize_t n_hops = (self.n_rest + samples.shape[0]) // HOP
        cdef Py_ssize_t n_frames = (self.memory.phase + n_hops) // self.step
        vectors = np.empty((n_frames, BANDS), np.float32)
        mean_db = np.empty(n_frames, np.float32)
        wo = np.empty(n_frames, np.float32)
        n_harm = np.empty(n_frames, np.int32)
        voiced = np.empty(n_frames, np.uint8)
        cdef float[:, ::1] vectors_view = vectors
        cdef float[::1] mean_view = mean_db
        cdef float[::1] wo_view = wo
        cdef int[::1] n_harm_view = n_harm
        cdef unsigned char[::1] voiced_view = voiced
        cdef float[:, ::1] harmonics_view
        cdef Output out
        cdef const float *source = NULL
        out.harmonics = NULL
        out.linear = self.linear
        arrays = [vectors, mean_db, wo, n_harm, voiced.view(np.bool_)]
        if self.harmonics:
            harmonics = np.zeros((n_frames, MAX_HARMONICS), np.float32)
            arrays.append(harmonics)
            harmonics_view = harmonics
            if n_frames:
                out.harmonics = &harmonics_view[0, 0]
        if n_frames:
            out.vectors = &vectors_view[0, 0]
            out.mean_db = &mean_view[0]
            out.wo = &wo_view[0]
            out.n_harm = &n_harm_view[0]
            out.voiced = &voiced_view[0]
        if samples.shape[0]:
            source = &samples[0]
        self.busy = True
        with nogil:
            self._run(source, samples.shape[0], n_hops, out)
        self.busy = False
        return tuple(arrays)

    cdef void _run(self, const float *source, Py_ssize_t n_samples, Py_ssize_t n_hops, Output out) noexcept nogil:
        cdef Workspace *w = self.work
        cdef Py_ssize_t done = 0
        cdef int hops, frames, wanted, from_rest
        while done < n_hops:
            hops = <int>min(n_hops - done, <Py_ssize_t>(LANES * MAX_SEGMENT))
            memcpy(w.samples, self.memory.history, HISTORY * sizeof(float))
            memcpy(w.samples + HISTORY, self.rest, self.n_rest * sizeof(float))
            wanted = hops * HOP - self.n_rest
            memcpy(w.samples + HISTORY + self.n_rest, source, wanted * sizeof(float))
            self.n_rest = 0
            source += wanted
            n_samples -= wanted
            frames = analyse_block(w, &self.memory, hops, self.step, out)
            out.vectors += frames * BANDS
            out.mean_db += frames
            out.wo += frames
            out.n_harm += frames
            out.voiced += frames
            if out.harmonics != NULL:
                out.harmonics += frames * MAX_HARMONICS
            done += hops
        if n_samples:  # of an empty chunk there is no address
            memcpy(self.rest + self.n_rest, source, n_samples * sizeof(float))
        self.n_rest += <int>n_samples


def band_centres_hz():
    """Centres of the K = 20 bands: (20,) float32, Hz."""
    return np.array([BAND_KHZ[k] for k in range(BANDS)], np.float32) * np.float32(1000)


def window_transform():
    """Transform of the analysis window: (1024,) float32, real and imaginary parts in turn."""
    return np.array([WINDOW_TRANSFORM[i] for i in range(2 * N_FFT)], np.float32)


init_twiddles()
init_pitch()
init_spectrum()
init_harmonics()
