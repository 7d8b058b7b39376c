/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The search of search.h for vectors of LANES floats; NAME(x) makes the names of one variant.
 */

typedef float NAME(floats) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t NAME(ints) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define FLOATS NAME(floats)
#define INTS NAME(ints)
#define PARTS (GROUP / LANES)

/* Squared errors of one group of entries against x. */
static inline __attribute__((always_inline))
void NAME(group_errors)(const float *c, const float *x, int k, FLOATS sum[PARTS])
{
    FLOATS s[PARTS] = {{0}};
    for (int i = 0; i < k; i++, c += GROUP) {
#pragma GCC unroll 8
        for (int p = 0; p < PARTS; p++) {
            FLOATS difference = *(const FLOATS *)(c + p * LANES) - x[i];
            s[p] += difference * difference;
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < PARTS; p++)
        sum[p] = s[p];
}

/* The best of the entries after each of n <= AT_ONCE residuals; of equal ones the first residual's,
 * then the first entry, or 0 and 0 if no error is below MAX_ERROR. */
static inline __attribute__((always_inline))
struct survivor NAME(nearest)(const struct stage *stage, const float *residuals, int k, int n)
{
    struct survivor found = {MAX_ERROR, 0, 0};
    FLOATS best[AT_ONCE] = {{0}};
    INTS arg[AT_ONCE] = {{0}}, first = {0};
    for (int r = 0; r < n; r++)
        best[r] += MAX_ERROR;
    for (int v = 0; v < LANES; v++)
        first[v] = v;
    for (int g = 0; g < stage->n_groups; g++, first += GROUP)
        for (int r = 0; r < n; r++) {
            FLOATS sum[PARTS];
            INTS j = first;
            NAME(group_errors)(stage->grouped + (size_t)g * GROUP * k, residuals + (size_t)r * k, k, sum);
#pragma GCC unroll 8
            for (int p = 0; p < PARTS; p++, j += LANES) {
                INTS less = sum[p] < best[r];
                best[r] = (FLOATS)((less & (INTS)sum[p]) | (~less & (INTS)best[r]));
                arg[r] = (less & j) | (~less & arg[r]);
            }
        }
    for (int r = 0; r < n; r++)
        for (int v = 0; v < LANES; v++)
            if (best[r][v] < found.error
                || (best[r][v] == found.error && r == found.parent && arg[r][v] < found.entry))
                found = (struct survivor){best[r][v], arg[r][v], r};
    return found;
}

static inline __attribute__((always_inline))
int NAME(any_less)(const FLOATS sum[PARTS], float limit)
{
    INTS less = sum[0] < limit;
#pragma GCC unroll 8
    for (int p = 1; p < PARTS; p++)
        less |= sum[p] < limit;
    int32_t any = 0;
    for (int v = 0; v < LANES; v++)
        any |= less[v];
    return any;
}

/* Put every entry that belongs there into the list, which is ordered by error. */
static inline __attribute__((always_inline))
int NAME(keep_best)(const struct stage *stage, const float *x, int k, int parent,
                    struct survivor *list, int count, int survivors)
{
    for (int g = 0; g < stage->n_groups; g++) {
        FLOATS sum[PARTS];
        NAME(group_errors)(stage->grouped + (size_t)g * GROUP * k, x, k, sum);
        if (!NAME(any_less)(sum, list[survivors - 1].error))
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

static void NAME(mbest)(const float *x, int64_t n, int k, const struct stage *stages,
                        int n_stages, int survivors, int32_t *indexes, float *work,
                        struct survivor *list, int32_t *paths)
{
    for (int64_t row = 0; row < n; row++, x += k, indexes += n_stages) {
        float *residual = work, *next_residual = work + (size_t)survivors * k;
        int32_t *path = paths, *next_path = paths + (size_t)survivors * n_stages;
        int parents = 1;
        memcpy(residual, x, (size_t)k * sizeof *x);
        for (int s = 0; s < n_stages - 1; s++) {
            int count = 0;
            for (int i = 0; i < survivors; i++)
                list[i] = (struct survivor){MAX_ERROR, 0, 0};
            for (int p = 0; p < parents; p++)
                count = NAME(keep_best)(&stages[s], residual + (size_t)p * k, k, p, list, count,
                                        survivors);
            parents = count > 0 ? count : 1;
            for (int p = 0; p < parents; p++) {
                const float *from = residual + (size_t)list[p].parent * k;
                const float *entry = stages[s].plain + (size_t)list[p].entry * k;
                for (int i = 0; i < k; i++)
                    next_residual[(size_t)p * k + i] = from[i] - entry[i];
                memcpy(next_path + (size_t)p * n_stages, path + (size_t)list[p].parent * n_stages,
                       (size_t)s * sizeof *path);
                next_path[(size_t)p * n_stages + s] = list[p].entry;
            }
            float *swap_residual = residual;
            residual = next_residual;
            next_residual = swap_residual;
            int32_t *swap_path = path;
            path = next_path;
            next_path = swap_path;
        }
        struct survivor best = {MAX_ERROR, 0, 0};
        for (int p = 0; p < parents; p += AT_ONCE) {
            int n = parents - p < AT_ONCE ? parents - p : AT_ONCE;
            struct survivor found = NAME(nearest)(&stages[n_stages - 1], residual + (size_t)p * k, k, n);
            if (found.error < best.error)
                best = (struct survivor){found.error, found.entry, p + found.parent};
        }
        memcpy(indexes, path + (size_t)best.parent * n_stages, (size_t)(n_stages - 1) * sizeof *path);
        indexes[n_stages - 1] = best.entry;
    }
}

#undef FLOATS
#undef INTS
#undef PARTS
