/* SPDX-License-Identifier: GPL-3.0-or-later
 * Any bytes as what a shm link says of a block: [segment length: 8 bytes][descriptor: 16][header: 128]. The
 * header's magic, version and CRC are mended first. What is accepted lies wholly in the segment; where that
 * is small, every byte of payload and presence is read from memory that is exactly so long. */
#include "pipeline/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort(); /* what a fuzzer understands */
}

static void read_samples(const gw_header *h, const gw_descriptor *d, size_t segment_bytes)
{
    static volatile unsigned sum; /* so that every byte is really read */
    uint8_t *segment = malloc(segment_bytes ? segment_bytes : 1);
    check(segment != NULL);
    memset(segment, 1, segment_bytes);
    const gw_block b = {.hdr = *h, .data = segment + d->offset};
    for (uint64_t i = 0; i < h->payload_bytes; i++)
        sum = sum + ((const uint8_t *)b.data)[i];
    const uint8_t *presence = gw_block_presence(&b);
    for (uint32_t c = 0; presence && c < h->n_channels; c++)
        sum = sum + gw_present(presence, c);
    free(segment);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t segment_bytes;
    gw_header h;
    gw_descriptor d;
    const size_t before = sizeof segment_bytes + sizeof d;
    if (size < sizeof segment_bytes)
        return 0;
    memcpy(&segment_bytes, data, sizeof segment_bytes);
    const bool has_header = size >= before + sizeof h;
    if (has_header) {
        memcpy(&h, data + before, sizeof h);
        gw_header_seal(&h);
    }
    if (!has_header || gw_header_read(&h, sizeof h, &h) != GW_OK) {
        h = (gw_header){.flags = GW_FLAG_GAP, .gap_samples = 1}; /* then any length of descriptor */
        gw_header_seal(&h);
    }
    const size_t descriptor_bytes = has_header ? sizeof d : size - sizeof segment_bytes;
    const int err = gw_descriptor_read(data + sizeof segment_bytes, descriptor_bytes, &h, segment_bytes, &d);
    if (err) {
        check(err == GW_EFORMAT && *gw_err_detail());
        return 0;
    }
    check(descriptor_bytes == sizeof d && d.offset <= segment_bytes &&
          d.capacity <= segment_bytes - d.offset && h.payload_bytes <= d.capacity &&
          h.presence_bytes <= d.capacity - h.payload_bytes);
    if (segment_bytes <= 1 << 20)
        read_samples(&h, &d, segment_bytes);
    return 0;
}
