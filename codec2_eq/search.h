/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Multi-stage m-best search, bit-equal to libcodec2's mbest.
 *
 * The order of operations is the contract: for each entry the float32 sum over the bands runs in
 * their order, an entry enters the list of survivors only if its error is strictly less, and
 * survivors are tried best first. The entries are the innermost axis, so that LANES of them share
 * an instruction while the sum of each stays sequential. Must be built with -ffp-contract=off.
 */
#ifndef CODEC2_EQ_SEARCH_H
#define CODEC2_EQ_SEARCH_H

#include <stdint.h>
#include <string.h>

#define LANES 8
#define GROUP 32                /* entries whose sums are kept in registers: 4 vectors of LANES */
#define MAX_ERROR 1e32f         /* an entry must be better than this; codec2 mbest_create */

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* Same source, two machine codes, chosen when the module is loaded. AVX2 alone has no fused
 * multiply-add, so both give the same bits. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define PER_MACHINE __attribute__((target_clones("avx2", "default")))
#else
#define PER_MACHINE
#endif
#define INLINE static inline __attribute__((always_inline))

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

/* Squared errors of one group of entries against x, in four registers' worth. */
INLINE void group_errors(const float *c, const float *x, int k, floats sum[4])
{
    floats s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    for (int i = 0; i < k; i++, c += GROUP) {
        floats d0 = *(const floats *)c - x[i];
        floats d1 = *(const floats *)(c + LANES) - x[i];
        floats d2 = *(const floats *)(c + 2 * LANES) - x[i];
        floats d3 = *(const floats *)(c + 3 * LANES) - x[i];
        s0 += d0 * d0;
        s1 += d1 * d1;
        s2 += d2 * d2;
        s3 += d3 * d3;
    }
    sum[0] = s0;
    sum[1] = s1;
    sum[2] = s2;
    sum[3] = s3;
}

/* The first entry with the least error, or 0 if none is below MAX_ERROR. */
INLINE struct survivor nearest(const struct stage *stage, const float *x, int k, int parent)
{
    floats best = {0};
    ints arg = {0}, j = {0, 1, 2, 3, 4, 5, 6, 7};
    best += MAX_ERROR;
    for (int g = 0; g < stage->n_groups; g++) {
        floats sum[4];
        group_errors(stage->grouped + (size_t)g * GROUP * k, x, k, sum);
        for (int v = 0; v < 4; v++, j += LANES) {
            ints less = sum[v] < best;
            best = (floats)((less & (ints)sum[v]) | (~less & (ints)best));
            arg = (less & j) | (~less & arg);
        }
    }
    struct survivor found = {best[0], arg[0], parent};
    for (int v = 1; v < LANES; v++)
        if (best[v] < found.error || (best[v] == found.error && arg[v] < found.entry)) {
            found.error = best[v];
            found.entry = arg[v];
        }
    return found;
}

INLINE int any_less(const floats sum[4], float limit)
{
    ints less = (sum[0] < limit) | (sum[1] < limit) | (sum[2] < limit) | (sum[3] < limit);
    int32_t any = 0;
    for (int v = 0; v < LANES; v++)
        any |= less[v];
    return any;
}

/* Put every entry that belongs there into the list, which is ordered by error. */
INLINE int keep_best(const struct stage *stage, const float *x, int k, int parent,
                     struct survivor *list, int count, int survivors)
{
    for (int g = 0; g < stage->n_groups; g++) {
        floats sum[4];
        group_errors(stage->grouped + (size_t)g * GROUP * k, x, k, sum);
        if (!any_less(sum, list[survivors - 1].error))
            continue;
        const float *error = (const float *)sum;
        for (int j = 0; j < GROUP; j++) {
            if (!(error[j] < list[survivors - 1].error))
                continue;
            int place = survivors - 1;
            for (; place > 0 && error[j] < list[place - 1].error; place--)
                list[place] = list[place - 1];
            list[place] = (struct survivor){error[j], g * GROUP + j, parent};
            count += count < survivors;
        }
    }
    return count;
}

/* Search all stages for n vectors of k bands; indexes: (n, n_stages).
 * work: floats for 2 * survivors * k residuals; list: survivors; paths: 2 * survivors * n_stages */
PER_MACHINE
void codec2_eq_mbest(const float *x, int64_t n, int k, const struct stage *stages, int n_stages,
                     int survivors, int32_t *indexes, float *work, struct survivor *list,
                     int32_t *paths)
{
    for (int64_t row = 0; row < n; row++, x += k, indexes += n_stages) {
        float *residual = work, *next_residual = work + survivors * k;
        int32_t *path = paths, *next_path = paths + survivors * n_stages;
        int parents = 1;
        memcpy(residual, x, (size_t)k * sizeof *x);
        for (int s = 0; s < n_stages - 1; s++) {
            int count = 0;
            for (int i = 0; i < survivors; i++)
                list[i] = (struct survivor){MAX_ERROR, 0, 0};
            for (int p = 0; p < parents; p++)
                count = keep_best(&stages[s], residual + p * k, k, p, list, count, survivors);
            parents = count > 0 ? count : 1;
            for (int p = 0; p < parents; p++) {
                const float *from = residual + list[p].parent * k;
                const float *entry = stages[s].plain + (size_t)list[p].entry * k;
                for (int i = 0; i < k; i++)
                    next_residual[p * k + i] = from[i] - entry[i];
                memcpy(next_path + p * n_stages, path + list[p].parent * n_stages,
                       (size_t)s * sizeof *path);
                next_path[p * n_stages + s] = list[p].entry;
            }
            float *swap_residual = residual;
            residual = next_residual;
            next_residual = swap_residual;
            int32_t *swap_path = path;
            path = next_path;
            next_path = swap_path;
        }
        struct survivor best = {MAX_ERROR, 0, 0};
        for (int p = 0; p < parents; p++) {
            struct survivor found = nearest(&stages[n_stages - 1], residual + p * k, k, p);
            if (found.error < best.error)
                best = found;
        }
        memcpy(indexes, path + best.parent * n_stages, (size_t)(n_stages - 1) * sizeof *path);
        indexes[n_stages - 1] = best.entry;
    }
}

#endif
