/* SPDX-License-Identifier: GPL-3.0-or-later
 * The block header's codec and checks, stream specs, and blocks' reference counts. Pools are in pool.c. */
#include "pipeline/block.h"

#include <inttypes.h>
#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t gw_dtype_bytes(gw_dtype t)
{
    switch (t) {
    case GW_F32:
    case GW_I32:
        return 4;
    case GW_F64:
        return 8;
    case GW_I16:
        return 2;
    case GW_U8:
        return 1;
    }
    return 0;
}

const char *gw_dtype_text(gw_dtype t)
{
    static const char *const text[] = {"?", "float32", "float64", "int16", "int32", "uint8"};
    return text[t <= GW_U8 ? t : 0];
}

size_t gw_spec_slab_bytes(const gw_spec *s)
{
    const size_t payload = (size_t)s->block_samples * s->n_channels * gw_dtype_bytes(s->dtype);
    return payload + (s->n_channels + 7) / 8;
}

const char *gw_gap_reason_text(gw_gap_reason r)
{
    static const char *const text[] = {
#define X(name, text) text,
        GW_GAP_REASONS(X)
#undef X
    };
    return (unsigned)r < GW_GAP_REASON_COUNT ? text[r] : "unknown";
}

/* CRC32C (Castagnoli, RFC 3720), by the processor's own instructions where it has them. */
uint32_t gw_crc32c(uint32_t crc, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    crc = ~crc;
    while (bytes > 0) {
        const int n = bytes < 1 << 30 ? (int)bytes : 1 << 30;
        crc = crc32_iscsi((unsigned char *)p, n, crc);
        p += n;
        bytes -= (size_t)n;
    }
    return ~crc;
}

static uint32_t header_crc(const gw_header *h)
{
    return gw_crc32c(0, h, offsetof(gw_header, header_crc));
}

void gw_header_seal(gw_header *h)
{
    h->magic = GW_BLOCK_MAGIC;
    h->version = GW_BLOCK_VERSION;
    h->length = GW_HEADER_BYTES;
    h->header_crc = header_crc(h);
}

static int header_sizes(const gw_header *h)
{
    if (h->flags & GW_FLAG_GAP) {
        if (h->payload_bytes || h->n_samples || h->presence_bytes || !h->gap_samples ||
            h->gap_samples > INT64_MAX)
            return gw_fail(GW_EFORMAT, "block header: a GAP has a length and no payload");
        if (h->sample0 > INT64_MAX - (int64_t)h->gap_samples)
            return gw_fail(GW_EFORMAT, "block header: the GAP ends beyond the end of time");
        if (h->gap_reason >= GW_GAP_REASON_COUNT)
            return gw_fail(GW_EFORMAT, "block header: unknown gap reason %" PRIu32, h->gap_reason);
        return GW_OK;
    }
    size_t size = gw_dtype_bytes((gw_dtype)h->dtype);
    if (!size)
        return gw_fail(GW_EFORMAT, "block header: unknown dtype %u", (unsigned)h->dtype);
    if (!h->n_samples || !h->n_channels || h->gap_samples)
        return gw_fail(GW_EFORMAT, "block header: %" PRIu32 " channels x %" PRIu32 " samples", h->n_channels,
                       h->n_samples);
    uint64_t samples = (uint64_t)h->n_samples * h->n_channels; /* 32 x 32 bits fit */
    if (samples > UINT64_MAX / 8 || samples * size != h->payload_bytes)
        return gw_fail(GW_EFORMAT,
                       "block header: %" PRIu32 " x %" PRIu32 " samples of %zu bytes are not %" PRIu64
                       " bytes",
                       h->n_channels, h->n_samples, size, h->payload_bytes);
    if (h->sample0 > INT64_MAX - (int64_t)h->n_samples)
        return gw_fail(GW_EFORMAT, "block header: the block ends beyond the end of time");
    if (h->channel0 > UINT32_MAX - h->n_channels)
        return gw_fail(GW_EFORMAT, "block header: channel numbers overflow");
    if (h->presence_bytes &&
        (h->presence_bytes != (h->n_channels - 1) / 8 + 1 || h->presence_offset != h->payload_bytes))
        return gw_fail(GW_EFORMAT,
                       "block header: %" PRIu32 " presence bytes at %" PRIu32 " for %" PRIu32 " channels",
                       h->presence_bytes, h->presence_offset, h->n_channels);
    return GW_OK;
}

int gw_header_read(const void *data, size_t bytes, gw_header *out)
{
    if (bytes < GW_HEADER_BYTES)
        return gw_fail(GW_EFORMAT, "block header: %zu bytes, want %u", bytes, GW_HEADER_BYTES);
    gw_header h;
    memcpy(&h, data, sizeof h);
    if (h.magic != GW_BLOCK_MAGIC)
        return gw_fail(GW_EFORMAT, "block header: magic 0x%08" PRIx32 ", want 0x%08x", h.magic,
                       GW_BLOCK_MAGIC);
    if (h.version != GW_BLOCK_VERSION)
        return gw_fail(GW_EFORMAT, "block header: version %u, this program reads %u", (unsigned)h.version,
                       GW_BLOCK_VERSION);
    if (h.length < GW_HEADER_BYTES || h.length > bytes)
        return gw_fail(GW_EFORMAT, "block header: stated length %u of %zu bytes", (unsigned)h.length, bytes);
    if (h.header_crc != header_crc(&h))
        return gw_fail(GW_EFORMAT, "block header: CRC 0x%08" PRIx32 " does not match", h.header_crc);
    GW_TRY(header_sizes(&h));
    *out = h;
    return GW_OK;
}

int gw_spec_set_channels(gw_spec *s, uint32_t n, const char *const *names)
{
    char(*list)[GW_NAME_BYTES] = calloc(n ? n : 1, sizeof *list);
    if (!list)
        return gw_fail(GW_ENOMEM, "%" PRIu32 " channel names", n);
    for (uint32_t i = 0; names && i < n; i++)
        snprintf(list[i], sizeof list[i], "%s", names[i]);
    free(s->channel);
    s->channel = list;
    s->n_channels = n;
    return GW_OK;
}

int gw_spec_copy(gw_spec *to, const gw_spec *from)
{
    *to = *from;
    to->channel = NULL;
    if (!from->channel)
        return GW_OK;
    to->channel = malloc((from->n_channels ? from->n_channels : 1) * sizeof *to->channel);
    if (!to->channel)
        return gw_fail(GW_ENOMEM, "%" PRIu32 " channel names", from->n_channels);
    memcpy(to->channel, from->channel, from->n_channels * sizeof *to->channel);
    return GW_OK;
}

void gw_spec_free(gw_spec *s)
{
    free(s->channel);
    s->channel = NULL;
    s->n_channels = 0;
}

static uint64_t fnv1a(uint64_t h, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

uint64_t gw_spec_hash(const gw_spec *s)
{
    const uint64_t number[] = {s->rate.num, s->rate.den,   (uint64_t)s->phase_ns,
                               s->dtype,    s->n_channels, s->block_samples};
    uint64_t h = fnv1a(UINT64_C(0xcbf29ce484222325), number, sizeof number);
    h = fnv1a(h, s->detector, strnlen(s->detector, sizeof s->detector) + 1);
    h = fnv1a(h, s->unit, strnlen(s->unit, sizeof s->unit) + 1);
    h = fnv1a(h, s->whitening, strnlen(s->whitening, sizeof s->whitening) + 1);
    for (uint32_t i = 0; s->channel && i < s->n_channels && s->channel[i][0]; i++) /* unnamed = no names */
        h = fnv1a(h, s->channel[i], strnlen(s->channel[i], GW_NAME_BYTES) + 1);
    return h;
}

void gw_spec_text(const gw_spec *s, char *text, size_t n)
{
    snprintf(text, n, "%s: %" PRIu32 " x %.10g Hz %s%s%s, blocks of %" PRIu32, s->name, s->n_channels,
             gw_rate_hz(s->rate), gw_dtype_text(s->dtype), s->unit[0] ? " " : "", s->unit, s->block_samples);
}
