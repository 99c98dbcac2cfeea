/* SPDX-License-Identifier: GPL-3.0-or-later
 * Any bytes as a block header from outside. The bytes are read as they are, and once more with magic,
 * version and CRC mended, because no random change survives a CRC. What is accepted must agree with itself,
 * and reads back the same after it was sealed anew. */
#include "pipeline/block.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort(); /* what a fuzzer understands */
}

static void read_one(const void *data, size_t size)
{
    gw_header h, again;
    int err = gw_header_read(data, size, &h);
    if (err) {
        check(err == GW_EFORMAT && *gw_err_detail());
        return;
    }
    check(size >= GW_HEADER_BYTES && h.length <= size);
    if (h.flags & GW_FLAG_GAP)
        check(!h.payload_bytes && h.gap_samples && (int64_t)h.gap_samples + h.sample0 >= h.sample0);
    else
        check(h.n_samples && h.n_channels &&
              h.payload_bytes / h.n_channels / h.n_samples == gw_dtype_bytes((gw_dtype)h.dtype));
    if (h.flags & GW_FLAG_GAP)
        check(!h.presence_bytes && h.gap_reason < GW_GAP_REASON_COUNT);
    else if (h.presence_bytes) /* the tail follows the payload at once and has a bit for each channel */
        check(h.presence_offset == h.payload_bytes && h.presence_bytes == ((uint64_t)h.n_channels + 7) / 8);

    gw_header mine = h;
    if (h.length == GW_HEADER_BYTES) {
        gw_header_seal(&mine);
        check(!memcmp(&mine, &h, sizeof h));
        check(gw_header_read(&mine, sizeof mine, &again) == GW_OK && !memcmp(&again, &h, sizeof h));
    }
    mine.sample0 ^= 1; /* one wrong bit must be seen */
    check(gw_header_read(&mine, sizeof mine, &again) == GW_EFORMAT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_one(data, size);
    if (size >= GW_HEADER_BYTES) {
        gw_header h;
        memcpy(&h, data, sizeof h);
        gw_header_seal(&h);
        read_one(&h, sizeof h);
    }
    return 0;
}
