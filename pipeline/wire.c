/* SPDX-License-Identifier: GPL-3.0-or-later
 * Codec of what links say (wire.h). JSON is read by the YAML reader: every JSON text we may meet is YAML, and
 * its places and limits come for free. */
#include "pipeline/wire.h"
#include "pipeline/config.h"
#include "pipeline/quote.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t control_crc(const gw_control *c)
{
    return gw_crc32c(0, c, offsetof(gw_control, crc));
}

void gw_control_seal(gw_control *c)
{
    c->magic = GW_CONTROL_MAGIC;
    c->version = GW_WIRE_VERSION;
    c->crc = control_crc(c);
}

bool gw_is_control(const void *data, size_t bytes)
{
    uint32_t magic;
    if (bytes < sizeof magic)
        return false;
    memcpy(&magic, data, sizeof magic);
    return magic == GW_CONTROL_MAGIC;
}

int gw_control_read(const void *data, size_t bytes, gw_control *out)
{
    if (bytes != GW_CONTROL_BYTES)
        return gw_fail(GW_EFORMAT, "control message: %zu bytes, want %u", bytes, GW_CONTROL_BYTES);
    gw_control c;
    memcpy(&c, data, sizeof c);
    if (c.magic != GW_CONTROL_MAGIC)
        return gw_fail(GW_EFORMAT, "control message: magic 0x%08" PRIx32, c.magic);
    if (c.version != GW_WIRE_VERSION)
        return gw_fail(GW_EFORMAT, "control message: wire version %u, this program speaks %u",
                       (unsigned)c.version, GW_WIRE_VERSION);
    if (c.crc != control_crc(&c))
        return gw_fail(GW_EFORMAT, "control message: CRC 0x%08" PRIx32 " does not match", c.crc);
    if (c.type < GW_HELLO || c.type > GW_GONE)
        return gw_fail(GW_EFORMAT, "control message: unknown type %u", (unsigned)c.type);
    if (c.text_bytes > GW_WIRE_TEXT_MAX)
        return gw_fail(GW_EFORMAT, "control message: a text of %" PRIu32 " bytes", c.text_bytes);
    *out = c;
    return GW_OK;
}

int gw_descriptor_read(const void *data, size_t bytes, const gw_header *h, size_t segment_bytes,
                       gw_descriptor *out)
{
    gw_descriptor d;
    if (bytes != sizeof d)
        return gw_fail(GW_EFORMAT, "descriptor: %zu bytes, want %zu", bytes, sizeof d);
    memcpy(&d, data, sizeof d);
    if (d.offset > segment_bytes || d.capacity > segment_bytes - d.offset)
        return gw_fail(GW_EFORMAT,
                       "descriptor: %" PRIu64 " bytes at %" PRIu64 " lie outside the segment of %zu",
                       d.capacity, d.offset, segment_bytes);
    if (d.offset % 64)
        return gw_fail(GW_EFORMAT, "descriptor: offset %" PRIu64 " is not a slab's", d.offset);
    const uint64_t tail = h->presence_bytes;
    if (h->payload_bytes > d.capacity || tail > d.capacity - h->payload_bytes)
        return gw_fail(GW_EFORMAT, "descriptor: %" PRIu64 " + %" PRIu64 " bytes in a slab of %" PRIu64,
                       h->payload_bytes, tail, d.capacity);
    *out = d;
    return GW_OK;
}

/* -- the spec's text --------------------------------------------------------------------------------- */

static void write_string(FILE *f, const char *key, const char *s)
{
    fprintf(f, ",\"%s\":", key);
    gw_quote(f, s);
}

int gw_spec_write(const gw_spec *s, char **text)
{
    size_t bytes;
    *text = NULL;
    FILE *f = open_memstream(text, &bytes);
    if (!f)
        return gw_fail(GW_ENOMEM, "stream %s: its spec as text", s->name);
    fprintf(f,
            "{\"rate\":[%" PRIu32 ",%" PRIu32 "],\"phase_ns\":%" PRId64 ",\"block_samples\":%" PRIu32
            ",\"dtype\":\"%s\",\"channels\":",
            s->rate.num, s->rate.den, s->phase_ns, s->block_samples, gw_dtype_text(s->dtype));
    if (s->channel && s->n_channels && s->channel[0][0]) {
        for (uint32_t i = 0; i < s->n_channels; i++) {
            char name[2 * GW_NAME_BYTES];
            size_t n = 0;
            for (const char *c = s->channel[i]; *c; c++) {
                if (*c == '"' || *c == '\\')
                    name[n++] = '\\';
                name[n++] = *c;
            }
            fprintf(f, "%c\"%.*s\"", i ? ',' : '[', (int)n, name);
        }
        fputc(']', f);
    } else {
        fprintf(f, "%" PRIu32, s->n_channels);
    }
    write_string(f, "name", s->name);
    write_string(f, "detector", s->detector);
    write_string(f, "unit", s->unit);
    write_string(f, "whitening", s->whitening);
    if (s->cleaning[0])
        write_string(f, "cleaning", s->cleaning);
    fputc('}', f);
    const bool well = !ferror(f);
    if (fclose(f) != 0 || !well) {
        free(*text);
        *text = NULL;
        return gw_fail(GW_ENOMEM, "stream %s: its spec as text", s->name);
    }
    return GW_OK;
}

static int read_string(gw_conf *root, const char *key, char *to, size_t n)
{
    const char *text = "";
    GW_TRY(gw_conf_get_text(root, key, &text));
    if (strlen(text) >= n)
        return gw_conf_fail(root, "'%s' has more than %zu characters", key, n - 1);
    memset(to, 0, n);
    memcpy(to, text, strlen(text));
    return GW_OK;
}

static int read_channels(gw_conf *root, gw_spec *s)
{
    gw_conf *c = gw_conf_find(root, "channels");
    if (!c)
        return GW_OK;
    if (gw_conf_kind(c) == GW_CONF_SCALAR) {
        int64_t n = 0;
        GW_TRY(gw_conf_get_int(root, "channels", 1, 1 << 24, &n));
        s->n_channels = (uint32_t)n;
        return GW_OK;
    }
    if (gw_conf_kind(c) != GW_CONF_LIST || gw_conf_count(c) == 0)
        return gw_conf_fail(c, "'channels' is a number or a list of names");
    GW_TRY(gw_spec_set_channels(s, (uint32_t)gw_conf_count(c), NULL));
    for (uint32_t i = 0; i < s->n_channels; i++) {
        const char *name;
        GW_TRY(gw_conf_text(gw_conf_item(c, (int)i), &name));
        if (!*name || strlen(name) >= GW_NAME_BYTES)
            return gw_conf_fail(c, "channel %" PRIu32 " has a name of %zu characters, at most %d", i,
                                strlen(name), GW_NAME_BYTES - 1);
        memcpy(s->channel[i], name, strlen(name));
    }
    return GW_OK;
}

static int read_rate(gw_conf *root, gw_spec *s)
{
    gw_conf *c = gw_conf_find(root, "rate");
    if (!c)
        return GW_OK;
    uint32_t part[2];
    if (gw_conf_kind(c) != GW_CONF_LIST || gw_conf_count(c) != 2)
        return gw_conf_fail(c, "'rate' is [numerator, denominator]");
    for (int i = 0; i < 2; i++) {
        const char *text;
        int64_t v;
        GW_TRY(gw_conf_text(gw_conf_item(c, i), &text));
        GW_TRY(gw_parse_int(text, &v));
        if (v < 1 || v > UINT32_MAX)
            return gw_conf_fail(c, "'rate' is two whole numbers above 0");
        part[i] = (uint32_t)v;
    }
    s->rate = (gw_rate){part[0], part[1]};
    return GW_OK;
}

static int read_fields(gw_conf *root, gw_spec *s)
{
    static const char *const words[] = {"float32", "float64", "int16", "int32", "uint8", NULL};
    int64_t phase = 0, block = 0;
    int dtype = -1;
    if (gw_conf_kind(root) != GW_CONF_MAP)
        return gw_conf_fail(root, "a stream's spec is one JSON object");
    GW_TRY(read_string(root, "name", s->name, sizeof s->name));
    GW_TRY(read_string(root, "detector", s->detector, sizeof s->detector));
    GW_TRY(read_string(root, "unit", s->unit, sizeof s->unit));
    GW_TRY(read_string(root, "whitening", s->whitening, sizeof s->whitening));
    GW_TRY(read_string(root, "cleaning", s->cleaning, sizeof s->cleaning));
    GW_TRY(gw_conf_get_int(root, "phase_ns", INT64_MIN, INT64_MAX, &phase));
    GW_TRY(gw_conf_get_int(root, "block_samples", 0, UINT32_MAX, &block));
    if (gw_conf_find(root, "dtype"))
        GW_TRY(gw_conf_get_choice(root, "dtype", words, &dtype));
    s->phase_ns = phase;
    s->block_samples = (uint32_t)block;
    s->dtype = (gw_dtype)(dtype + 1);
    GW_TRY(read_rate(root, s));
    return read_channels(root, s);
}

int gw_spec_read(const char *text, size_t bytes, gw_spec *s)
{
    memset(s, 0, sizeof *s);
    gw_conf_file *file;
    int err = gw_conf_parse(&file, "spec", text, bytes);
    if (err == GW_OK) {
        err = read_fields(gw_conf_root(file), s);
        gw_conf_free(&file);
    }
    if (err == GW_OK)
        return GW_OK;
    gw_spec_free(s);
    return err == GW_ENOMEM ? err : gw_fail(GW_EFORMAT, "%s", gw_err_detail());
}

static bool text_agrees(const char *expected, const char *offered)
{
    return !*expected || strcmp(expected, offered) == 0;
}

bool gw_spec_agrees(const gw_spec *expected, const gw_spec *offered)
{
    const gw_spec *e = expected, *o = offered;
    if (e->rate.num && !gw_rate_equal(e->rate, o->rate))
        return false;
    if (e->phase_ns != o->phase_ns || (e->dtype && e->dtype != o->dtype) ||
        (e->n_channels && e->n_channels != o->n_channels) ||
        (e->block_samples && e->block_samples != o->block_samples))
        return false;
    if (!text_agrees(e->detector, o->detector) || !text_agrees(e->unit, o->unit) ||
        !text_agrees(e->whitening, o->whitening))
        return false;
    for (uint32_t i = 0; e->channel && o->channel && i < e->n_channels; i++)
        if (!text_agrees(e->channel[i], o->channel[i]))
            return false;
    return true;
}
