/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * channel_eq in firmware: rate-K vectors in, one each 40 ms, and out what the quantiser is given.
 * Vectors are 20 float32 in dB, as `codec2-eq extract` writes them.
 *
 *     make -C examples/firmware      (exports the network with `codec2-eq export channel_eq --c build`)
 *     codec2-eq extract speech.wav | examples/firmware/build/equalise > shapes.f32
 *
 * On a microcontroller, next_vector() is the end of the analysis and put_shape() the start of the
 * quantiser; all between them stays as it is.
 */
#include <stdio.h>

#include "channel_eq.h"

/* One state for each microphone, static: it outlives an over, and the linker counts its bytes. */
static struct channel_eq_state microphone;

static int next_vector(float vector_db[CHANNEL_EQ_BANDS])
{
    return fread(vector_db, sizeof(float), CHANNEL_EQ_BANDS, stdin) == CHANNEL_EQ_BANDS;
}

static int put_shape(const float shape_db[CHANNEL_EQ_BANDS])
{
    return fwrite(shape_db, sizeof(float), CHANNEL_EQ_BANDS, stdout) == CHANNEL_EQ_BANDS;
}

int main(void)
{
    float vector_db[CHANNEL_EQ_BANDS], shape_db[CHANNEL_EQ_BANDS];

    channel_eq_init(&microphone); /* at power-up, or copy a state kept in flash */
    while (next_vector(vector_db)) {
        channel_eq_process(&microphone, vector_db, shape_db);
        if (!put_shape(shape_db))
            return 1;
    }
    return ferror(stdin) || fflush(stdout) ? 1 : 0;
}
