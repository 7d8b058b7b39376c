# SPDX-License-Identifier: LGPL-2.1-or-later
"""The C that exports are put together from, in the order of operations of the Python."""

from __future__ import annotations

HEADER = """\
/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * {title}: {does}
 * An equaliser for Codec 2 rate-K vectors, written by `codec2-eq export`.
 * sha256 of its layers and weights: {sha256}
 *
 * One state for each voice: {name}_init() once, then {name}_process() every {frame_ms} ms.
 * No memory is allocated; nothing but libm is needed. {multiply_adds} multiply-adds a frame.
 */
#ifndef CODEC2_EQ_{NAME}_H
#define CODEC2_EQ_{NAME}_H

#define {NAME}_BANDS {bands}
#define {NAME}_FRAME_MS {frame_ms}
#define {NAME}_SHA256 "{sha256}"

#ifdef __cplusplus
extern "C" {{
#endif

struct {name}_state {{
{members}
}};

/* Forget all: a cold start. */
void {name}_init(struct {name}_state *state);

/* Equalise one vector, its mean included [dB], to the shape that is to be quantised [dB].
 * The two may not overlap. */
void {name}_process(struct {name}_state *state, const float vector_db[{bands}],
    float shape_db[{bands}]);

#ifdef __cplusplus
}}
#endif

#endif
"""

SOURCE = """\
/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * {title}, written by `codec2-eq export`; see the header.
 * sha256 of its layers and weights: {sha256}
 */
#include "{name}.h"

#include <math.h>

{tables}
{helpers}
void {name}_init(struct {name}_state *state)
{{
{starts}
}}

void {name}_process(struct {name}_state *state, const float vector_db[{bands}],
    float shape_db[{bands}])
{{
{steps}
}}
"""

HELPERS = {
    "affine": """\
/* out = x kernel + bias, kernel row after row */
static void affine(const float *x, int n_in, const float *kernel, const float *bias, float *out,
    int n_out)
{
    int i, j;
    for (j = 0; j < n_out; j++)
        out[j] = bias[j];
    for (i = 0; i < n_in; i++, kernel += n_out)
        for (j = 0; j < n_out; j++)
            out[j] += x[i] * kernel[j];
}
""",
    "within": """\
static float within(float x, float most)
{
    return x > most ? most : x < -most ? -most : x;
}
""",
    "leaky": """\
static void leaky(float *x, int n, float slope)
{
    int i;
    for (i = 0; i < n; i++)
        if (!(x[i] > 0.0f))
            x[i] *= slope;
}
""",
    "act_relu": "static float act_relu(float x)\n{\n    return x > 0.0f ? x : 0.0f;\n}\n",
    "act_elu": "static float act_elu(float x)\n{\n    return x > 0.0f ? x : expm1f(x);\n}\n",
    "act_selu": """\
static float act_selu(float x)
{
    return 1.05070099f * (x > 0.0f ? x : 1.67326324f * expm1f(x));
}
""",
    "act_tanh": "static float act_tanh(float x)\n{\n    return tanhf(x);\n}\n",
    "act_sigmoid": """\
static float act_sigmoid(float x)
{
    return 0.5f * tanhf(0.5f * x) + 0.5f;
}
""",
    "act_hard_sigmoid": """\
static float act_hard_sigmoid(float x)
{
    return fminf(fmaxf(x / 6.0f + 0.5f, 0.0f), 1.0f);
}
""",
    "act_softplus": """\
static float act_softplus(float x)
{
    return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
}
""",
    "act_softsign": "static float act_softsign(float x)\n{\n    return x / (1.0f + fabsf(x));\n}\n",
    "act_silu": "static float act_silu(float x)\n{\n    return x * act_sigmoid(x);\n}\n",
    "act_gelu": """\
static float act_gelu(float x)
{
    return 0.5f * x * (1.0f + erff(0.707106781f * x));
}
""",
    "act_leaky_relu": """\
static float act_leaky_relu(float x)
{
    return x > 0.0f ? x : 0.2f * x;
}
""",
    "act_exponential": "static float act_exponential(float x)\n{\n    return expf(x);\n}\n",
}
"""Functions by name."""

CALLS = {"act_silu": ("act_sigmoid",)}
"""Functions that a function calls."""

GRU_AFTER = """\
    {{ /* gates: update, reset */
        float x[{wide}], g[{edge}], c[{units}];
        affine({taken}, {inputs}, {kernel}, {bias}, x, {wide});
        affine({state}, {units}, {gates}, {gates_bias}, g, {edge});
        affine({state}, {units}, {candidate}, {candidate_bias}, c, {units});
        for (i = 0; i < {edge}; i++)
            g[i] += x[i];
        GATE;
        for (i = 0; i < {units}; i++)
            c[i] = x[{edge} + i] + g[{units} + i] * c[i];
        SQUASH;
        for (i = 0; i < {units}; i++)
            {out}[i] = {state}[i] = c[i] + g[i] * ({state}[i] - c[i]);
    }}"""

GRU_BEFORE = """\
    {{ /* gates: update, reset */
        float x[{wide}], g[{edge}], c[{units}], reset[{units}];
        affine({taken}, {inputs}, {kernel}, {bias}, x, {wide});
        affine({state}, {units}, {gates}, {gates_bias}, g, {edge});
        for (i = 0; i < {edge}; i++)
            g[i] += x[i];
        GATE;
        for (i = 0; i < {units}; i++)
            reset[i] = g[{units} + i] * {state}[i];
        affine(reset, {units}, {candidate}, {candidate_bias}, c, {units});
        for (i = 0; i < {units}; i++)
            c[i] += x[{edge} + i];
        SQUASH;
        for (i = 0; i < {units}; i++)
            {out}[i] = {state}[i] = c[i] + g[i] * ({state}[i] - c[i]);
    }}"""

LSTM = """\
    {{ /* gates: input, forget, cell, output */
        float x[{wide}], g[{wide}];
        affine({taken}, {inputs}, {kernel}, {bias}, x, {wide});
        affine({state}, {units}, {recurrent}, {zeros}, g, {wide});
        for (i = 0; i < {wide}; i++)
            g[i] += x[i];
        for (i = 0; i < {units}; i++) {{
            {cell}[i] = {gate}(g[{units} + i]) * {cell}[i]
                + {gate}(g[i]) * {squash}(g[2 * {units} + i]);
            {out}[i] = {state}[i] = {gate}(g[3 * {units} + i]) * {squash}({cell}[i]);
        }}
    }}"""

GATE = {
    "gate_starts": "\n        float *last = {last}, moved = 0.0f, moves;",
    "gate_sums": "\n            last[i] = {taken}[i] - mean - last[i]; /* the change, for now */"
    "\n            moved += last[i] * last[i];"
    "\n            last[i] = {taken}[i] - mean;",
    "gate_closes": "\n        moves = moved / {bands}.0f >= {still} ? 1.0f : 0.0f;"
    "\n        keep = moves > 0.0f ? keep : 1.0f;",
    "gate_factor": "moves * ",
}
"""What a gated estimator adds to RECURSIVE_ESTIMATOR, by placeholder."""

RECURSIVE_ESTIMATOR = """\
    {{
        float x[{seen}], h1[{hidden1}], h2[{hidden2}], o[{given}];
        float mean = 0.0f, weights = 0.0f, shock = 0.0f, total = 0.0f, level, keep;{gate_starts}
        float *curve = {curve}, *weight = {weight}, *surprise = {surprise}, *peak = {peak};
        for (i = 0; i < {bands}; i++)
            mean += {taken}[i];
        mean /= {bands}.0f;
        peak[0] = fmaxf(fmaxf(peak[0] - {peak_fall_db}, mean), {silence_db});
        level = (mean - peak[0]) / {level_range_db};
        for (i = 0; i < {bands}; i++) {{
            x[i] = within(({taken}[i] - mean - curve[i]) / {unit_db} - {reference}[i], {reach});
            weights += logf(weight[i]);
            shock += surprise[i] * surprise[i];{gate_sums}
        }}
        x[{bands}] = fmaxf(level, {level_floor});
        x[{bands} + 1] = weights / {bands}.0f / 2.0f - 1.0f;
        x[{bands} + 2] = 4.0f * sqrtf(shock / {bands}.0f + 1e-6f) - 1.0f;
        affine(x, {seen}, {kernel1}, {bias1}, h1, {hidden1});
        leaky(h1, {hidden1}, {leak});
        affine(h1, {hidden1}, {kernel2}, {bias2}, h2, {hidden2});
        leaky(h2, {hidden2}, {leak});
        affine(h2, {hidden2}, {kernel3}, {bias3}, o, {given});
        keep = act_sigmoid(o[3 * {bands}]);{gate_closes}
        for (i = 0; i < {bands}; i++) {{
            float fresh = {gate_factor}act_softplus(o[{bands} + i]);
            float news = within(x[i] + o[i], {reach});
            surprise[i] += {surprise_rate} * (fresh / (1.0f + fresh)) * (news - surprise[i]);
            weight[i] = fmaxf(fmaxf(keep * weight[i], {least_weight}), fresh) + fresh;
            curve[i] += {unit_db} * (fresh / weight[i]) * news;
            curve[i] = {start}[i] + within(curve[i] - {start}[i], {reach_db});
            {out}[i] = {taken}[i] - mean - curve[i] - {unit_db} * o[2 * {bands} + i];
            total += {out}[i];
        }}
        for (i = 0; i < {bands}; i++)
            {out}[i] -= total / {bands}.0f;
    }}"""
