/* SPDX-License-Identifier: GPL-3.0-or-later
 * The parts of an ONNX graph: tensors, attributes, nodes, inputs and outputs, and the arena that they
 * are copied into. Tensor data stays where it is unless the file stores it as varints. Nothing recurses:
 * a node's subgraph (If, Loop) is skipped as one span of bytes. */
#include "kernels/nn/onnx_reader.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t MAX_DATA_BYTES = (size_t)1 << 31;
/* Two bytes of a hostile file can ask for a 72-byte attribute: what the tables may grow to. */
static const size_t MAX_ARENA_BYTES = (size_t)256 << 20;
static const size_t CHUNK_BYTES = (size_t)64 << 10;

typedef struct gw_onnx_chunk {
    struct gw_onnx_chunk *next;
    size_t used, bytes;
    _Alignas(max_align_t) unsigned char data[];
} gw_onnx_chunk;

/* ---- Complaints and memory ---- */

int gw_onnx_fail(const gw_onnx_reader *o, int err, const char *fmt, ...)
{
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    if (o->part && o->index >= 0)
        return gw_fail(err, "%s: %s %ld: %s", o->m.path, o->part, o->index, what);
    return gw_fail(err, "%s: %s%s%s", o->m.path, o->part ? o->part : "", o->part ? ": " : "", what);
}

int gw_onnx_broken(const gw_onnx_reader *o, const char *what)
{
    return gw_onnx_fail(o, GW_EFORMAT, "%s is cut short or damaged; is this an ONNX file?", what);
}

void *gw_onnx_take(gw_onnx_reader *o, size_t count, size_t bytes)
{
    if (count == 0)
        count = 1;
    const size_t limit = o->arena_limit ? o->arena_limit : MAX_ARENA_BYTES;
    if (count > limit / bytes || o->arena_bytes + count * bytes > limit) {
        o->err = gw_onnx_fail(o, GW_EFORMAT, "names, attributes and unpacked numbers fill more than %zu MiB",
                              limit >> 20);
        return NULL;
    }
    const size_t align = _Alignof(max_align_t), need = (count * bytes + align - 1) / align * align;
    gw_onnx_chunk *c = o->chunks;
    if (!c || c->bytes - c->used < need) {
        const size_t room = need > CHUNK_BYTES ? need : CHUNK_BYTES;
        c = calloc(1, sizeof *c + room);
        if (!c) {
            o->err = gw_onnx_fail(o, GW_ENOMEM, "no memory for %zu bytes of tables", room);
            return NULL;
        }
        c->bytes = room;
        if (o->chunks && room > CHUNK_BYTES) { /* full at once: the room in the first one is used on */
            c->next = o->chunks->next;
            o->chunks->next = c;
        } else {
            c->next = o->chunks;
            o->chunks = c;
        }
    }
    void *out = c->data + c->used;
    c->used += need;
    o->arena_bytes += need;
    return out;
}

int gw_onnx_take_text(gw_onnx_reader *o, gw_pb bytes, const char **out)
{
    const size_t n = gw_pb_left(bytes);
    char *text = gw_onnx_take(o, n + 1, 1);
    if (!text)
        return o->err;
    for (size_t i = 0; i < n; i++)
        text[i] = bytes.at[i] < 0x20 || bytes.at[i] == 0x7f ? '?' : (char)bytes.at[i];
    text[n] = '\0';
    *out = text;
    return GW_OK;
}

void gw_onnx_release(gw_onnx_reader *o)
{
    while (o->chunks) {
        gw_onnx_chunk *next = o->chunks->next;
        free(o->chunks);
        o->chunks = next;
    }
}

/* ---- Repeated fields ---- */

int gw_onnx_find(const gw_onnx_reader *o, gw_pb m, const char *what, uint32_t number, gw_pb *out, long *count)
{
    gw_pb_field f;
    int more;
    *count = 0;
    *out = gw_pb_span("", 0);
    while ((more = gw_pb_next(&m, &f)) == 1) {
        if (f.number != number || f.wire != GW_PB_BYTES)
            continue;
        *out = f.bytes;
        ++*count;
    }
    return more < 0 ? gw_onnx_broken(o, what) : GW_OK;
}

/* Repeated numbers, packed or not: their low `bytes` bytes go to out (if it is not NULL). */
static int read_numbers(const gw_onnx_reader *o, gw_pb m, const char *what, uint32_t number, gw_pb_wire wire,
                        size_t bytes, unsigned char *out, size_t *count)
{
    gw_pb_field f;
    int more;
    *count = 0;
    while ((more = gw_pb_next(&m, &f)) == 1) {
        if (f.number != number)
            continue;
        if (f.wire == wire) {
            if (out)
                memcpy(out + *count * bytes, &f.value, bytes); /* little-endian host */
            ++*count;
        } else if (f.wire == GW_PB_BYTES && wire != GW_PB_VARINT) {
            const size_t n = gw_pb_left(f.bytes);
            if (n % bytes != 0)
                return gw_onnx_broken(o, what);
            if (out && n)
                memcpy(out + *count * bytes, f.bytes.at, n);
            *count += n / bytes;
        } else if (f.wire == GW_PB_BYTES) {
            uint64_t value;
            int got;
            while ((got = gw_pb_varint(&f.bytes, &value)) == 1) {
                if (out)
                    memcpy(out + *count * bytes, &value, bytes);
                ++*count;
            }
            if (got < 0)
                return gw_onnx_broken(o, what);
        } else {
            return gw_onnx_broken(o, what);
        }
    }
    return more < 0 ? gw_onnx_broken(o, what) : GW_OK;
}

static int take_numbers(gw_onnx_reader *o, gw_pb m, const char *what, uint32_t number, gw_pb_wire wire,
                        size_t bytes, const void **out, size_t *count)
{
    GW_TRY(read_numbers(o, m, what, number, wire, bytes, NULL, count));
    unsigned char *to = gw_onnx_take(o, *count, bytes);
    if (!to)
        return o->err;
    *out = to;
    return read_numbers(o, m, what, number, wire, bytes, to, count);
}

/* ---- Tensors ---- */

static size_t type_bytes(gw_onnx_type t)
{
    switch (t) {
    case GW_ONNX_UINT8:
    case GW_ONNX_INT8:
    case GW_ONNX_BOOL:
        return 1;
    case GW_ONNX_FLOAT16:
    case GW_ONNX_BFLOAT16:
        return 2;
    case GW_ONNX_FLOAT:
    case GW_ONNX_INT32:
        return 4;
    case GW_ONNX_INT64:
    case GW_ONNX_DOUBLE:
        return 8;
    }
    return 0;
}

/* The elements of a tensor that has no raw_data. */
static int read_typed_data(gw_onnx_reader *o, gw_pb m, gw_onnx_tensor *t)
{
    uint32_t number;
    gw_pb_wire wire = GW_PB_VARINT;
    switch (t->type) {
    case GW_ONNX_FLOAT:
        number = 4, wire = GW_PB_32;
        break;
    case GW_ONNX_INT64:
        number = 7;
        break;
    case GW_ONNX_DOUBLE:
        number = 10, wire = GW_PB_64;
        break;
    default:
        number = 5; /* int32_data carries all the narrow types */
        break;
    }
    const size_t bytes = type_bytes(t->type);
    gw_pb packed;
    long spans;
    size_t count;
    GW_TRY(gw_onnx_find(o, m, "a tensor", number, &packed, &spans));
    GW_TRY(read_numbers(o, m, "a tensor's data", number, wire, bytes, NULL, &count));
    if (wire != GW_PB_VARINT && spans == 1 && gw_pb_left(packed) == count * bytes) {
        t->data = packed.at;
    } else {
        GW_TRY(take_numbers(o, m, "a tensor's data", number, wire, bytes, &t->data, &count));
    }
    t->bytes = count * bytes;
    return GW_OK;
}

int gw_onnx_read_tensor(gw_onnx_reader *o, gw_pb m, gw_onnx_tensor *t)
{
    gw_pb whole = m, raw = {NULL, NULL};
    gw_pb_field f;
    bool has_raw = false, external = false;
    int more;
    *t = (gw_onnx_tensor){.name = ""};
    while ((more = gw_pb_next(&m, &f)) == 1) {
        if (f.number == 2 && f.wire == GW_PB_VARINT) {
            t->type = f.value <= INT_MAX ? (gw_onnx_type)f.value : (gw_onnx_type)0;
        } else if (f.number == 8 && f.wire == GW_PB_BYTES) {
            GW_TRY(gw_onnx_take_text(o, f.bytes, &t->name));
        } else if (f.number == 9 && f.wire == GW_PB_BYTES) {
            raw = f.bytes;
            has_raw = true;
        } else if (f.number == 14 && f.wire == GW_PB_VARINT) {
            external = f.value != 0;
        } else if (f.number == 3) {
            return gw_onnx_fail(o, GW_ENOTSUP, "tensor '%s' is stored in segments", t->name);
        }
    }
    if (more < 0)
        return gw_onnx_broken(o, "a tensor");
    const size_t bytes = type_bytes(t->type);
    if (bytes == 0)
        return gw_onnx_fail(o, GW_ENOTSUP, "tensor '%s' has element type %d, which cannot be read here",
                            t->name, (int)t->type);

    size_t rank;
    GW_TRY(read_numbers(o, whole, "a tensor's shape", 1, GW_PB_VARINT, 8, NULL, &rank));
    if (rank > GW_ONNX_MAX_RANK)
        return gw_onnx_fail(o, GW_EFORMAT, "tensor '%s' has %zu dimensions; at most %d are read", t->name,
                            rank, GW_ONNX_MAX_RANK);
    GW_TRY(read_numbers(o, whole, "a tensor's shape", 1, GW_PB_VARINT, 8, (unsigned char *)t->dim, &rank));
    t->rank = (int)rank;
    size_t elements = 1;
    bool empty = false;
    for (size_t i = 0; i < rank; i++) {
        if (t->dim[i] < 0)
            return gw_onnx_fail(o, GW_EFORMAT, "tensor '%s' has a negative dimension", t->name);
        empty |= t->dim[i] == 0;
    }
    for (size_t i = 0; i < rank && !empty; i++) {
        if ((uint64_t)t->dim[i] > MAX_DATA_BYTES / bytes / elements)
            return gw_onnx_fail(o, GW_EFORMAT, "tensor '%s' is larger than any file that can hold it",
                                t->name);
        elements *= (size_t)t->dim[i];
    }
    if (empty)
        elements = 0;

    if (external) {
        GW_TRY(gw_onnx_read_external(o, whole, t, elements * bytes));
    } else if (has_raw) {
        t->data = raw.at;
        t->bytes = gw_pb_left(raw);
    } else {
        GW_TRY(read_typed_data(o, whole, t));
    }
    if (t->bytes != elements * bytes)
        return gw_onnx_fail(o, GW_EFORMAT, "tensor '%s' has %zu bytes of data, its shape needs %zu", t->name,
                            t->bytes, elements * bytes);
    return GW_OK;
}

/* ---- Nodes ---- */

/* *kept is false for an attribute of a kind that gw_onnx_attr has no place for (graphs, lists of text). */
int gw_onnx_read_attr(gw_onnx_reader *o, gw_pb m, gw_onnx_attr *a, bool *kept)
{
    const gw_pb whole = m;
    gw_pb text = {NULL, NULL}, tensor = {NULL, NULL};
    gw_pb_field f;
    uint64_t type = 0;
    int more;
    *a = (gw_onnx_attr){.name = ""};
    *kept = true;
    while ((more = gw_pb_next(&m, &f)) == 1) {
        if (f.number == 1 && f.wire == GW_PB_BYTES) {
            GW_TRY(gw_onnx_take_text(o, f.bytes, &a->name));
        } else if (f.number == 2 && f.wire == GW_PB_32) {
            const uint32_t bits = (uint32_t)f.value;
            memcpy(&a->f, &bits, sizeof bits);
        } else if (f.number == 3 && f.wire == GW_PB_VARINT) {
            a->i = (int64_t)f.value;
        } else if (f.number == 4 && f.wire == GW_PB_BYTES) {
            text = f.bytes;
        } else if (f.number == 5 && f.wire == GW_PB_BYTES) {
            tensor = f.bytes;
        } else if (f.number == 20 && f.wire == GW_PB_VARINT) {
            type = f.value;
        } else if (f.number == 21 && f.wire == GW_PB_BYTES) {
            GW_TRY(gw_onnx_take_text(o, f.bytes, &a->from));
        }
    }
    if (more < 0)
        return gw_onnx_broken(o, "an attribute");
    if (a->name[0] == '\0')
        return gw_onnx_fail(o, GW_EFORMAT, "an attribute without a name");
    size_t count = 0;
    const void *numbers = NULL;
    if (a->from) /* its type and value are the call's */
        return GW_OK;
    switch (type) {
    case GW_ATTR_FLOAT:
        a->type = GW_ATTR_FLOAT;
        break;
    case GW_ATTR_INT:
        a->type = GW_ATTR_INT;
        break;
    case GW_ATTR_STRING:
        a->type = GW_ATTR_STRING;
        GW_TRY(gw_onnx_take_text(o, text, &a->s));
        break;
    case GW_ATTR_TENSOR: {
        if (!tensor.at)
            return gw_onnx_fail(o, GW_EFORMAT, "attribute '%s' should hold a tensor and does not", a->name);
        gw_onnx_tensor *t = gw_onnx_take(o, 1, sizeof *t);
        if (!t)
            return o->err;
        GW_TRY(gw_onnx_read_tensor(o, tensor, t));
        a->t = t;
        a->type = GW_ATTR_TENSOR;
        break;
    }
    case GW_ATTR_FLOATS:
        GW_TRY(take_numbers(o, whole, "an attribute's numbers", 7, GW_PB_32, 4, &numbers, &count));
        a->floats = numbers;
        a->type = GW_ATTR_FLOATS;
        break;
    case GW_ATTR_INTS:
        GW_TRY(take_numbers(o, whole, "an attribute's numbers", 8, GW_PB_VARINT, 8, &numbers, &count));
        a->ints = numbers;
        a->type = GW_ATTR_INTS;
        break;
    default:
        *kept = false;
        return GW_OK;
    }
    a->count = (int)count; /* the arena's limit keeps it far below INT_MAX */
    return GW_OK;
}

int gw_onnx_read_node(gw_onnx_reader *o, gw_pb m, gw_onnx_node *n)
{
    gw_pb unused;
    long n_in, n_out, n_attr;
    GW_TRY(gw_onnx_find(o, m, "a node", 1, &unused, &n_in));
    GW_TRY(gw_onnx_find(o, m, "a node", 2, &unused, &n_out));
    GW_TRY(gw_onnx_find(o, m, "a node", 5, &unused, &n_attr));
    const char **in = gw_onnx_take(o, (size_t)n_in, sizeof *in),
               **out = gw_onnx_take(o, (size_t)n_out, sizeof *out);
    gw_onnx_attr *attr = gw_onnx_take(o, (size_t)n_attr, sizeof *attr);
    if (!in || !out || !attr)
        return o->err;
    *n = (gw_onnx_node){.name = "", .op = "", .domain = "", .in = in, .out = out, .attr = attr};
    gw_pb_field f;
    while (gw_pb_next(&m, &f) == 1) { /* well formed: it has been counted */
        if (f.wire != GW_PB_BYTES)
            continue;
        bool kept;
        switch (f.number) {
        case 1:
            GW_TRY(gw_onnx_take_text(o, f.bytes, &in[n->n_in++]));
            break;
        case 2:
            GW_TRY(gw_onnx_take_text(o, f.bytes, &out[n->n_out++]));
            break;
        case 3:
            GW_TRY(gw_onnx_take_text(o, f.bytes, &n->name));
            break;
        case 4:
            GW_TRY(gw_onnx_take_text(o, f.bytes, &n->op));
            break;
        case 5:
            GW_TRY(gw_onnx_read_attr(o, f.bytes, &attr[n->n_attr], &kept));
            n->n_attr += kept;
            break;
        case 7:
            GW_TRY(gw_onnx_take_text(o, f.bytes, &n->domain));
            break;
        default:
            break;
        }
    }
    if (n->op[0] == '\0')
        return gw_onnx_fail(o, GW_EFORMAT, "a node without an operator");
    if (strcmp(n->domain, "ai.onnx") == 0) /* the long name of the default domain */
        n->domain = "";
    if (n->name[0] == '\0' && n->n_out > 0)
        n->name = n->out[0]; /* a nameless node is known by what it makes */
    return GW_OK;
}

/* ---- Inputs and outputs ---- */

static int read_shape(gw_onnx_reader *o, gw_pb m, gw_onnx_value *v)
{
    gw_pb_field f;
    int more;
    v->rank = 0;
    while ((more = gw_pb_next(&m, &f)) == 1) {
        if (f.number != 1 || f.wire != GW_PB_BYTES)
            continue;
        if (v->rank == GW_ONNX_MAX_RANK)
            return gw_onnx_fail(o, GW_EFORMAT, "'%s' has more than %d dimensions", v->name, GW_ONNX_MAX_RANK);
        const char **symbol = &v->symbol[v->rank];
        int64_t *dim = &v->dim[v->rank++];
        *dim = -1;
        *symbol = "";
        gw_pb d = f.bytes;
        gw_pb_field g;
        while ((more = gw_pb_next(&d, &g)) == 1) {
            if (g.number == 1 && g.wire == GW_PB_VARINT)
                *dim = (int64_t)g.value;
            else if (g.number == 2 && g.wire == GW_PB_BYTES)
                GW_TRY(gw_onnx_take_text(o, g.bytes, symbol));
        }
        if (*dim != -1)
            *symbol = NULL;
        if (more < 0)
            return gw_onnx_broken(o, "a shape");
        if (*dim < -1)
            return gw_onnx_fail(o, GW_EFORMAT, "'%s' has a negative dimension", v->name);
    }
    return more < 0 ? gw_onnx_broken(o, "a shape") : GW_OK;
}

int gw_onnx_read_value(gw_onnx_reader *o, gw_pb m, gw_onnx_value *v)
{
    long n_names, n_types, n_tensors, n_shapes;
    gw_pb name, type, tensor, shape;
    *v = (gw_onnx_value){.name = "", .rank = -1};
    GW_TRY(gw_onnx_find(o, m, "an input or output", 1, &name, &n_names));
    GW_TRY(gw_onnx_find(o, m, "an input or output", 2, &type, &n_types));
    if (n_names == 0 || gw_pb_left(name) == 0)
        return gw_onnx_fail(o, GW_EFORMAT, "it has no name");
    GW_TRY(gw_onnx_take_text(o, name, &v->name));
    if (n_types == 0)
        return GW_OK;
    GW_TRY(gw_onnx_find(o, type, "a type", 1, &tensor, &n_tensors));
    if (n_tensors == 0)
        return GW_OK;
    gw_pb_field f;
    gw_pb rest = tensor;
    while (gw_pb_next(&rest, &f) == 1)
        if (f.number == 1 && f.wire == GW_PB_VARINT && f.value <= INT_MAX)
            v->type = (gw_onnx_type)f.value;
    GW_TRY(gw_onnx_find(o, tensor, "a type", 2, &shape, &n_shapes));
    return n_shapes ? read_shape(o, shape, v) : GW_OK;
}
