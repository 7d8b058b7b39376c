/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The step of estimator.h for vectors of LANES floats; NAME(x) makes the names of one variant.
 */

typedef float NAME(floats) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t NAME(ints) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define floats NAME(floats)
#define ints NAME(ints)
#define INLINE static inline __attribute__((always_inline))

INLINE floats NAME(all)(float x)
{
    return (floats){0} + x;
}

INLINE floats NAME(either)(ints which, floats a, floats b)
{
    return (floats)((which & (ints)a) | (~which & (ints)b));
}

INLINE floats NAME(larger)(floats a, floats b)
{
    return NAME(either)(a > b, a, b);
}

INLINE floats NAME(within)(floats x, float most)
{
    x = NAME(either)(x > most, NAME(all)(most), x);
    return NAME(either)(x < -most, NAME(all)(-most), x);
}

/* The sum of a row, in one order whatever the vectors. */
static float NAME(total)(const float *row, int columns)
{
    float sum[GROUP] = {0};
    for (int first = 0; first < columns; first += GROUP)
        for (int k = 0; k < GROUP; k++)
            sum[k] += row[first + k];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

/* e^x within 2 units of the last place, x from -87 to 88: 2^n e^r, |r| below half of log 2. */
INLINE floats NAME(exp)(floats x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves a whole number */
    x = NAME(larger)(x, NAME(all)(-87.0f));
    x = NAME(either)(x > 88.0f, NAME(all)(88.0f), x);
    floats n = x * 1.44269504f + round;
    ints whole = (ints)n - (ints)NAME(all)(round);
    n -= round;
    floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    /* Taylor's series, its last terms fitted to the interval */
    floats p = NAME(all)(1.0f / 5040.0f);
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return (floats)((ints)p + (whole << 23));
}

/* log x for x of at least the smallest normal number: n log 2 + log m, m from 0.707 to 1.414,
 * by the series of the inverse hyperbolic tangent. */
INLINE floats NAME(log)(floats x)
{
    ints bits = (ints)x;
    ints exponent = (bits - 0x3f3504f3) >> 23;
    floats m = (floats)(bits - (exponent << 23));
    floats n = __builtin_convertvector(exponent, floats);
    floats s = (m - 1.0f) / (m + 1.0f), q = s * s;
    floats p = NAME(all)(2.0f / 11.0f);
    p = p * q + 2.0f / 9.0f;
    p = p * q + 2.0f / 7.0f;
    p = p * q + 2.0f / 5.0f;
    p = p * q + 2.0f / 3.0f;
    return n * 0.693359375f + (n * -2.12194440e-4f + (s * q * p + 2.0f * s));
}

INLINE floats NAME(softplus)(floats x)
{
    floats zero = {0};
    floats e = NAME(exp)(NAME(either)(x > 0.0f, -x, x));
    floats u = 1.0f + e;
    return NAME(larger)(x, zero) + (NAME(log)(u) + (e - (u - 1.0f)) / u);
}

/* Some of the columns of a product: n vectors of them, a constant. */
INLINE void NAME(block)(const struct product *product, const float *x, float *out, int first,
                        const int n)
{
    floats sum[MOST_BLOCK];
    const float *row = product->kernel + first;
#pragma GCC unroll 9
    for (int j = 0; j < n; j++)
        sum[j] = *(const floats *)(product->bias + first + j * LANES);
    for (int k = 0; k < product->inputs; k++, row += product->columns)
#pragma GCC unroll 9
        for (int j = 0; j < n; j++)
            sum[j] += *(const floats *)(row + j * LANES) * x[k];
#pragma GCC unroll 9
    for (int j = 0; j < n; j++)
        *(floats *)(out + first + j * LANES) = sum[j];
}

static void NAME(multiply)(const struct product *product, const float *x, float *out)
{
    int n;
    for (int first = 0; first < product->columns; first += n * LANES) {
        int left = (product->columns - first) / LANES;
        n = left <= MOST_BLOCK ? left : left <= 2 * MOST_BLOCK ? (left + 1) / 2 : MOST_BLOCK;
        switch (n) {
        case 9: NAME(block)(product, x, out, first, 9); break;
        case 8: NAME(block)(product, x, out, first, 8); break;
        case 7: NAME(block)(product, x, out, first, 7); break;
        case 6: NAME(block)(product, x, out, first, 6); break;
        case 5: NAME(block)(product, x, out, first, 5); break;
        case 4: NAME(block)(product, x, out, first, 4); break;
        case 3: NAME(block)(product, x, out, first, 3); break;
        case 2: NAME(block)(product, x, out, first, 2); break;
        default: NAME(block)(product, x, out, first, 1);
        }
    }
}

INLINE void NAME(leaky)(float *x, int columns, float slope)
{
    for (int j = 0; j < columns; j += LANES) {
        floats *v = (floats *)(x + j);
        *v = NAME(either)(*v > 0.0f, *v, *v * slope);
    }
}

#define AT(array) (*(floats *)((array) + j))
#define CONST_AT(array) (*(const floats *)((array) + j))

static void NAME(step)(const struct estimator *e, struct work *w)
{
    const float n_bands = (float)e->n_bands;
    const float reach = e->reach_db / e->unit_db;
    float mean = NAME(total)(w->shape, e->columns) / n_bands;
    float peak = w->peak[0] - e->peak_fall_db;
    peak = mean > peak ? mean : peak;
    peak = peak < e->silence_db ? e->silence_db : peak;
    w->peak[0] = peak;
    float level = (mean - peak) / e->level_range_db;
    for (int j = 0; j < e->columns; j += LANES) {
        floats shape = AT(w->shape) - mean;
        AT(w->shape) = shape;
        AT(w->seen) = NAME(within)((shape - AT(w->curve)) / e->unit_db - CONST_AT(e->reference),
                                   reach);
        AT(w->lack) = NAME(log)(AT(w->weight)); /* that of what fills up is 1, its logarithm 0 */
        AT(w->trust) = AT(w->surprise) * AT(w->surprise);
        AT(w->out) = (shape - AT(w->last)) * (shape - AT(w->last));
        AT(w->last) = shape;
    }
    memset(w->out + e->n_bands, 0, sizeof(float) * (size_t)(e->columns - e->n_bands));
    const float moved = NAME(total)(w->out, e->columns) / n_bands;
    const float open = moved >= e->still_db * e->still_db ? 1.0f : 0.0f;
    float *more = w->seen + e->n_bands;
    more[0] = level > e->level_floor ? level : e->level_floor;
    more[1] = NAME(total)(w->lack, e->columns) / n_bands / 2 - 1;
    more[2] = 4 * sqrtf(NAME(total)(w->trust, e->columns) / n_bands + 1e-6f) - 1;
    NAME(multiply)(&e->products[0], w->seen, w->hidden1);
    NAME(leaky)(w->hidden1, e->products[0].columns, e->leak);
    NAME(multiply)(&e->products[1], w->hidden1, w->hidden2);
    NAME(leaky)(w->hidden2, e->products[1].columns, e->leak);
    NAME(multiply)(&e->products[2], w->hidden2, w->given);
    const size_t bytes = sizeof(float) * (size_t)e->n_bands;
    memcpy(w->lack, w->given, bytes);
    memcpy(w->trust, w->given + e->n_bands, bytes);
    memcpy(w->trim, w->given + 2 * e->n_bands, bytes);
    float keep = open > 0 ? 1 / (1 + NAME(exp)(NAME(all)(-w->given[3 * e->n_bands]))[0]) : 1;
    for (int j = 0; j < e->columns; j += LANES) {
        floats fresh = open * NAME(softplus)(AT(w->trust));
        floats news = NAME(within)(AT(w->seen) + AT(w->lack), reach);
        floats surprise = AT(w->surprise), weight = keep * AT(w->weight);
        AT(w->surprise) = surprise + e->surprise_rate * (fresh / (1 + fresh)) * (news - surprise);
        weight = NAME(larger)(NAME(larger)(weight, NAME(all)(e->least_weight)), fresh) + fresh;
        AT(w->weight) = weight;
        floats start = CONST_AT(e->start);
        floats curve = AT(w->curve) + e->unit_db * (fresh / weight) * news;
        curve = start + NAME(within)(curve - start, e->reach_db);
        AT(w->curve) = curve;
        AT(w->out) = AT(w->shape) - curve - e->unit_db * AT(w->trim);
    }
    for (int k = e->n_bands; k < e->columns; k++) { /* what fills up stays as it was */
        w->curve[k] = w->surprise[k] = w->out[k] = 0;
        w->weight[k] = 1;
    }
    mean = NAME(total)(w->out, e->columns) / n_bands;
    for (int j = 0; j < e->columns; j += LANES)
        AT(w->out) = AT(w->out) - mean;
}

static void NAME(estimate)(const struct estimator *e, struct work *w, const float *vectors,
                           float *out, int64_t n)
{
    const size_t bytes = sizeof(float) * (size_t)e->n_bands;
    for (int64_t i = 0; i < n; i++) {
        memset(w->shape, 0, sizeof(float) * (size_t)e->columns);
        memcpy(w->shape, vectors + i * e->n_bands, bytes);
        NAME(step)(e, w);
        memcpy(out + i * e->n_bands, w->out, bytes);
    }
}

#undef AT
#undef CONST_AT
#undef INLINE
#undef floats
#undef ints
