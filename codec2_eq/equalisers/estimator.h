/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One step of the recursive estimator: three matrix products and some twenty values a band.
 *
 * The outputs of a product are the innermost axis, so that several share a vector while the sum of
 * each runs over the inputs in their order: a frame gives the same bits alone and within a file, and
 * with vectors of four or of eight. exp and log are written out here, for the same reason, and so do
 * not depend on the C library. Must be built with -ffp-contract=off.
 */
#ifndef CODEC2_EQ_ESTIMATOR_H
#define CODEC2_EQ_ESTIMATOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define GROUP 8                 /* all rows are filled up to a multiple of this */
#define MOST_BLOCK 9            /* vectors of sums that are kept in registers */

/* A product: kernel (inputs, columns) row after row, and bias. */
struct product {
    const float *kernel, *bias;
    int inputs, columns;
};

/* Bands and hidden units are filled up to whole groups; n_bands are real. */
struct estimator {
    struct product products[3];
    const float *reference, *start;
    int n_bands, columns;       /* columns: of the bands, filled up */
    float leak, unit_db, level_floor, least_weight, surprise_rate, peak_fall_db, level_range_db,
        silence_db, reach_db, still_db;
};

/* The state, and what a step works on: all in whole groups. */
struct work {
    float *curve, *weight, *surprise, *last, *peak;
    float *shape, *seen, *hidden1, *hidden2, *given, *lack, *trust, *trim, *out;
};

/* Same source, two machine codes. AVX2 alone has no fused multiply-add: both give the same bits. */
#define NAME(name) name##_baseline
#define LANES 4
#include "estimator_step.h"
#undef NAME
#undef LANES

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HAVE_AVX2
#pragma GCC push_options
#pragma GCC target("avx2")
#define NAME(name) name##_avx2
#define LANES 8
#include "estimator_step.h"
#undef NAME
#undef LANES
#pragma GCC pop_options
#endif

/* Equalise n vectors of n_bands, row after row. wide: use the widest vectors that there are. */
static void codec2_eq_estimate(const struct estimator *e, struct work *w, const float *vectors,
                               float *out, int64_t n, int wide)
{
#ifdef HAVE_AVX2
    if (wide && __builtin_cpu_supports("avx2")) {
        estimate_avx2(e, w, vectors, out, n);
        return;
    }
#endif
    (void)wide;
    estimate_baseline(e, w, vectors, out, n);
}

#endif
