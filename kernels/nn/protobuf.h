/* SPDX-License-Identifier: GPL-3.0-or-later
 * The wire layer of protocol buffers: walks the fields of one message in memory. Called by onnx.c. Knows
 * no schema, allocates nothing, copies nothing, and never recurses: a submessage is a span of bytes that
 * the caller may walk in turn. */
#ifndef GW_PROTOBUF_H
#define GW_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gw_pb { /* a message, or what is left of it */
    const uint8_t *at, *end;
} gw_pb;

typedef enum gw_pb_wire { GW_PB_VARINT = 0, GW_PB_64 = 1, GW_PB_BYTES = 2, GW_PB_32 = 5 } gw_pb_wire;

typedef struct gw_pb_field {
    uint32_t number; /* 1 .. 2^29 - 1 */
    gw_pb_wire wire;
    uint64_t value; /* varint, or the 32 or 64 bits of a fixed field */
    gw_pb bytes;    /* GW_PB_BYTES: a string, a submessage or packed values */
} gw_pb_field;

static inline gw_pb gw_pb_span(const void *data, size_t bytes)
{
    return (gw_pb){(const uint8_t *)data, (const uint8_t *)data + bytes};
}

static inline size_t gw_pb_left(gw_pb m)
{
    return (size_t)(m.end - m.at);
}

/* 1: *f is the next field and m stands behind it; 0: the end; -1: not well formed (cut short, a varint of
 * more than 64 bits, field 0, a group). */
int gw_pb_next(gw_pb *m, gw_pb_field *f);

/* The next of packed varints: 1, 0 or -1 as above. */
int gw_pb_varint(gw_pb *m, uint64_t *value);

#endif
