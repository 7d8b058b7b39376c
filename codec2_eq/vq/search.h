/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Multi-stage m-best search, bit-equal to libcodec2's mbest.
 *
 * The order of operations is the contract: for each entry the float32 sum over the bands runs in
 * their order, an entry enters the list of survivors only if its error is strictly less, and
 * survivors are tried best first. The entries are the innermost axis, so that several share
 * an instruction while the sum of each stays sequential. Must be built with -ffp-contract=off.
 */
#ifndef CODEC2_EQ_SEARCH_H
#define CODEC2_EQ_SEARCH_H

#include <stdint.h>
#include <string.h>

#define GROUP 64                /* entries whose sums are kept in registers */
#define AT_ONCE 8               /* residuals that a group is searched for while it is in the cache */
#define MAX_ERROR 1e32f         /* an entry must be better than this; codec2 mbest_create */

/* One stage. grouped: entries in groups of GROUP, within a group band by band, GROUP values each;
 * the last group filled up with entries whose error exceeds MAX_ERROR. plain: (size, k) rows. */
struct stage {
    const float *grouped;
    const float *plain;
    int32_t n_groups;
};

/* A survivor: its error, its entry, and which survivor of the stage before it continues. */
struct survivor {
    float error;
    int32_t entry;
    int32_t parent;
};

/* Same source, three machine codes; without contraction to fused multiply-adds all give the same
 * bits. */
#define LANES 4
#define NAME(name) name##_baseline
#include "search_lanes.h"
#undef LANES
#undef NAME

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HAVE_AVX2
#pragma GCC push_options
#pragma GCC target("avx2")
#define LANES 8
#define NAME(name) name##_avx2
#include "search_lanes.h"
#undef LANES
#undef NAME
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,prefer-vector-width=512")
#define LANES 16
#define NAME(name) name##_avx512
#include "search_lanes.h"
#undef LANES
#undef NAME
#pragma GCC pop_options
#endif

/* Search all stages for n vectors of k bands; indexes: (n, n_stages).
 * work: floats for 2 * survivors * k residuals; list: survivors; paths: 2 * survivors * n_stages.
 * wide: whether to use the widest vectors that the processor has */
static void codec2_eq_mbest(const float *x, int64_t n, int k, const struct stage *stages,
                            int n_stages, int survivors, int32_t *indexes, float *work,
                            struct survivor *list, int32_t *paths, int wide)
{
#ifdef HAVE_AVX2
    if (wide && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512bw")) {
        mbest_avx512(x, n, k, stages, n_stages, survivors, indexes, work, list, paths);
        return;
    }
    if (wide && __builtin_cpu_supports("avx2")) {
        mbest_avx2(x, n, k, stages, n_stages, survivors, indexes, work, list, paths);
        return;
    }
#endif
    (void)wide;
    mbest_baseline(x, n, k, stages, n_stages, survivors, indexes, work, list, paths);
}

#endif
