/* SPDX-License-Identifier: GPL-3.0-or-later
 * The wire layer of protocol buffers (protobuf.dev, "Encoding"). */
#include "kernels/nn/protobuf.h"

int gw_pb_varint(gw_pb *m, uint64_t *value)
{
    if (m->at == m->end)
        return 0;
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (m->at == m->end)
            return -1;
        const uint8_t byte = *m->at++;
        if (shift == 63 && byte > 1) /* the tenth byte has room for one bit */
            return -1;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *value = v;
            return 1;
        }
    }
    return -1;
}

static int fixed(gw_pb *m, int bytes, uint64_t *value)
{
    if (gw_pb_left(*m) < (size_t)bytes)
        return -1;
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)m->at[i] << (8 * i);
    m->at += bytes;
    *value = v;
    return 1;
}

int gw_pb_next(gw_pb *m, gw_pb_field *f)
{
    uint64_t tag = 0, length = 0;
    const int more = gw_pb_varint(m, &tag);
    if (more <= 0)
        return more;
    if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
        return -1;
    *f = (gw_pb_field){.number = (uint32_t)(tag >> 3), .wire = (gw_pb_wire)(tag & 7)};
    switch (f->wire) {
    case GW_PB_VARINT:
        return gw_pb_varint(m, &f->value) == 1 ? 1 : -1;
    case GW_PB_64:
        return fixed(m, 8, &f->value);
    case GW_PB_32:
        return fixed(m, 4, &f->value);
    case GW_PB_BYTES:
        if (gw_pb_varint(m, &length) != 1 || length > gw_pb_left(*m))
            return -1;
        f->bytes = gw_pb_span(m->at, (size_t)length);
        m->at += length;
        return 1;
    }
    return -1; /* groups (3, 4) and what was never defined (6, 7) */
}
