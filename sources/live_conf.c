/* SPDX-License-Identifier: GPL-3.0-or-later
 * Reads a live source's YAML (live_conf.h). Every complaint has its line. */
#include "sources/live_conf.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_CHARS = 31, ADDRESS_MAX_CHARS = 200 };

/* HOST:PORT; a name that only begins like 127.0.0.1 is somebody else's. */
static bool is_loopback(const char *host)
{
    return (strncmp(host, "127.", 4) == 0 && host[strspn(host, "0123456789.")] == ':') ||
           strncmp(host, "localhost:", 10) == 0 || strncmp(host, "[::1]:", 6) == 0;
}

static int read_address(gw_live_conf *l, gw_conf *conf, const char **listen, int64_t *first)
{
    gw_conf *node;
    bool insecure = false;
    GW_TRY(gw_conf_need(conf, "listen", &node));
    GW_TRY(gw_conf_text(node, listen));
    GW_TRY(gw_conf_get_bool(conf, "insecure", &insecure));
    if (strlen(*listen) > ADDRESS_MAX_CHARS)
        return gw_conf_fail(node, "listen: more than %d characters", ADDRESS_MAX_CHARS);
    if (strncmp(*listen, "ipc://", 6) == 0 && (*listen)[6]) {
        l->transport = GW_IPC;
        return l->encrypted
                   ? gw_conf_fail(node, "listen: keys are for tcp; %s is reached by this host alone", *listen)
                   : GW_OK;
    }
    l->transport = GW_TCP;
    const char *colon = strrchr(*listen, ':');
    if (strncmp(*listen, "tcp://", 6) != 0 || colon < *listen + 7 ||
        gw_parse_int(colon + 1, first) != GW_OK || *first < 1 || *first > 65535)
        return gw_conf_fail(node,
                            "listen: expected tcp://HOST:PORT with a port from 1 to 65535, or ipc://NAME");
    if (!l->encrypted && !insecure && !is_loopback(*listen + 6))
        return gw_conf_fail(node,
                            "listen: anybody who reaches %s could feed samples in clear text; give 'key' and "
                            "'allow' (gwstream keygen), listen on 127.0.0.1, or say 'insecure: true'",
                            *listen);
    return GW_OK;
}

static int read_keys(gw_live_conf *l, gw_conf *conf)
{
    const char *name = NULL;
    GW_TRY(gw_conf_get_text(conf, "key", &name));
    gw_conf *allow = gw_conf_find(conf, "allow");
    if (!name)
        return allow ? gw_conf_fail(allow, "allow: without 'key' nobody can be told from anybody else")
                     : GW_OK;
    if (!allow || gw_conf_kind(allow) != GW_CONF_LIST || gw_conf_count(allow) == 0)
        return gw_conf_fail(allow ? allow : conf,
                            "allow: with 'key', expected a list of the clients' .key files");
    if (gw_keys_load(&l->keys, name) != GW_OK)
        return gw_conf_fail(gw_conf_find(conf, "key"), "key: %s", gw_err_detail());
    l->encrypted = true;
    l->allowed = calloc((size_t)gw_conf_count(allow), sizeof *l->allowed);
    if (!l->allowed)
        return gw_fail(GW_ENOMEM, "allow: %d keys", gw_conf_count(allow));
    for (; l->n_allowed < gw_conf_count(allow); l->n_allowed++) {
        gw_conf *item = gw_conf_item(allow, l->n_allowed);
        const char *file;
        GW_TRY(gw_conf_text(item, &file));
        if (gw_keys_load_public(l->allowed[l->n_allowed], file) != GW_OK)
            return gw_conf_fail(item, "allow: %s", gw_err_detail());
    }
    return GW_OK;
}

static int set_name(gw_conf *where, gw_spec *s, uint32_t i, const char *name)
{
    if (!*name || strlen(name) >= GW_NAME_BYTES)
        return gw_conf_fail(where, "channels: name %" PRIu32 " has %zu characters, at most %d", i + 1,
                            strlen(name), GW_NAME_BYTES - 1);
    snprintf(s->channel[i], GW_NAME_BYTES, "%s", name);
    return GW_OK;
}

/* A file with one channel name a line; empty lines and those that begin with '#' do not count. */
static int read_channel_file(gw_conf *node, const char *path, gw_spec *s)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return gw_conf_fail(node, "channels: %s: %s", path, strerror(errno));
    char line[256];
    uint32_t n = 0;
    int err = GW_OK;
    for (int pass = 0; pass < 2 && err == GW_OK; pass++) {
        if (pass && n)
            err = gw_spec_set_channels(s, n, NULL);
        rewind(f);
        for (n = 0; err == GW_OK && fgets(line, sizeof line, f);) {
            char *name = line + strspn(line, " \t");
            name[strcspn(name, " \t\r\n")] = '\0';
            if (!*name || *name == '#')
                continue;
            if (pass)
                err = set_name(node, s, n, name);
            n++;
        }
    }
    fclose(f);
    return err == GW_OK && n == 0 ? gw_conf_fail(node, "channels: %s: names no channel", path) : err;
}

static int read_channels(gw_conf *conf, gw_spec *s)
{
    gw_conf *node;
    const char *text;
    int64_t n;
    GW_TRY(gw_conf_need(conf, "channels", &node));
    if (gw_conf_kind(node) == GW_CONF_LIST && gw_conf_count(node) > 0) {
        GW_TRY(gw_spec_set_channels(s, (uint32_t)gw_conf_count(node), NULL));
        for (uint32_t i = 0; i < s->n_channels; i++) {
            GW_TRY(gw_conf_text(gw_conf_item(node, (int)i), &text));
            GW_TRY(set_name(node, s, i, text));
        }
        return GW_OK;
    }
    if (gw_conf_kind(node) != GW_CONF_SCALAR)
        return gw_conf_fail(node, "channels: expected a number, a list of names, or a file of them");
    GW_TRY(gw_conf_text(node, &text));
    if (gw_parse_int(text, &n) != GW_OK)
        return read_channel_file(node, text, s);
    if (n < 1 || n > 1 << 24)
        return gw_conf_fail(node, "channels: expected 1 to %d", 1 << 24);
    s->n_channels = (uint32_t)n;
    return GW_OK;
}

/* Names for channels that have none: "H1:STRAIN", or "env:0", "env:1", ... */
static int name_channels(gw_spec *s)
{
    if (s->channel)
        return GW_OK;
    GW_TRY(gw_spec_set_channels(s, s->n_channels, NULL));
    if (s->n_channels == 1) {
        snprintf(s->channel[0], GW_NAME_BYTES, "%s:%s", s->name, s->unit[0] ? s->unit : "DATA");
        for (char *c = s->channel[0] + strlen(s->name); *c; c++)
            *c = (char)toupper((unsigned char)*c);
        return GW_OK;
    }
    for (uint32_t i = 0; i < s->n_channels; i++)
        snprintf(s->channel[i], GW_NAME_BYTES, "%s:%" PRIu32, s->name, i);
    return GW_OK;
}

static int read_text(gw_conf *conf, const char *key, char *to, size_t n)
{
    const char *text = to;
    GW_TRY(gw_conf_get_text(conf, key, &text));
    if (strlen(text) >= n)
        return gw_conf_fail(gw_conf_find(conf, key), "%s: more than %zu characters", key, n - 1);
    if (text != to)
        snprintf(to, n, "%s", text);
    return GW_OK;
}

static int read_block(gw_conf *conf, gw_spec *s)
{
    gw_rate span = {1, 16};
    GW_TRY(gw_conf_get_span(conf, "block", &span));
    gw_conf *where = gw_conf_find(conf, "block");
    if (gw_rate_hz(span) < 1.0 / 64 || gw_rate_hz(span) > 4)
        return gw_conf_fail(where ? where : conf, "block: expected 1/64s to 4s");
    const uint64_t num = (uint64_t)s->rate.num * span.num, den = (uint64_t)s->rate.den * span.den;
    if (num % den || num / den > UINT32_MAX)
        return gw_conf_fail(where ? where : conf, "block: %.10g s at %.10g Hz are no whole number of samples",
                            gw_rate_hz(span), gw_rate_hz(s->rate));
    s->block_samples = (uint32_t)(num / den);
    return GW_OK;
}

static bool name_is_good(const char *name)
{
    const size_t n = strlen(name);
    return n > 0 && n <= NAME_MAX_CHARS &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == n;
}

static int read_stream(gw_conf *conf, const char *name, gw_live_stream *p)
{
    static const char *const types[] = {"float32", "float64", "int16", "int32", NULL};
    static const char *const graph_types[] = {"float32", "float64", NULL};
    gw_spec *w = &p->wire;
    gw_conf *node;
    if (!name_is_good(name))
        return gw_conf_fail(conf, "'%s' is no name for a stream: letters, digits, '_' and '-', at most %d",
                            name, NAME_MAX_CHARS);
    if (gw_conf_kind(conf) != GW_CONF_MAP)
        return gw_conf_fail(conf, "'%s' wants a map: {channels: 1, rate: 16384Hz, samples: float64}", name);
    int type = 0;
    char unit[sizeof w->unit] = "";
    p->scale = 1;
    snprintf(w->name, sizeof w->name, "%s", name);
    if (strlen(name) == 2 && isupper((unsigned char)name[0]) && isdigit((unsigned char)name[1]))
        snprintf(w->detector, sizeof w->detector, "%s", name);
    GW_TRY(read_text(conf, "detector", w->detector, sizeof w->detector));
    GW_TRY(read_text(conf, "unit", unit, sizeof unit));
    GW_TRY(gw_conf_need(conf, "rate", &node));
    GW_TRY(gw_conf_get_rate(conf, "rate", &w->rate));
    GW_TRY(gw_conf_need(conf, "samples", &node));
    GW_TRY(gw_conf_get_choice(conf, "samples", types, &type));
    w->dtype = (gw_dtype)(GW_F32 + type);
    GW_TRY(gw_conf_get_double(conf, "scale", -1e300, 1e300, &p->scale));
    GW_TRY(gw_conf_get_double(conf, "offset", -1e300, 1e300, &p->offset));
    if (p->scale == 0)
        return gw_conf_fail(gw_conf_find(conf, "scale"), "scale: is 0");
    GW_TRY(read_block(conf, w));
    GW_TRY(read_channels(conf, w));
    GW_TRY(gw_spec_copy(&p->out, w));
    memcpy(p->out.unit, unit, sizeof unit);
    int as = strcmp(unit, "strain") == 0;
    GW_TRY(gw_conf_get_choice(conf, "as", graph_types, &as));
    p->out.dtype = as ? GW_F64 : GW_F32;
    if (p->scale == 1 && p->offset == 0) /* else the unit on the wire is another one */
        memcpy(w->unit, unit, sizeof unit);
    GW_TRY(name_channels(&p->out));
    char what[NAME_MAX_CHARS + 16];
    snprintf(what, sizeof what, "stream %s", name);
    return gw_conf_done(conf, what);
}

static int read_streams(gw_live_conf *l, gw_conf *conf, int max_streams)
{
    gw_conf *map;
    GW_TRY(gw_conf_need(conf, "streams", &map));
    const int n = gw_conf_count(map);
    if (gw_conf_kind(map) != GW_CONF_MAP || n < 1 || n > max_streams)
        return gw_conf_fail(map, "streams: expected a map of 1 to %d streams, {H1: {...}}", max_streams);
    l->stream = calloc((size_t)n, sizeof *l->stream);
    if (!l->stream)
        return gw_fail(GW_ENOMEM, "streams: %d", n);
    while (l->n_streams < n) {
        const int i = l->n_streams++; /* counted first: what a bad one has allocated is freed, too */
        GW_TRY(read_stream(gw_conf_item(map, i), gw_conf_key(map, i), &l->stream[i]));
    }
    return GW_OK;
}

/* Stream k listens at port + k * lanes, or at NAME-k. */
static int make_addresses(gw_live_conf *l, gw_conf *conf, const char *listen, int64_t first)
{
    if (first + (int64_t)l->n_streams * l->lanes > 65536)
        return gw_conf_fail(gw_conf_find(conf, "listen"),
                            "listen: %d streams of %d lanes need ports beyond 65535", l->n_streams, l->lanes);
    for (int i = 0; i < l->n_streams; i++) {
        gw_live_stream *p = &l->stream[i];
        if (l->transport == GW_TCP)
            snprintf(p->address, sizeof p->address, "%.*s:%" PRId64, (int)(strrchr(listen, ':') - listen),
                     listen, first + (int64_t)i * l->lanes);
        else
            snprintf(p->address, sizeof p->address, "%s-%d", listen, i);
    }
    return GW_OK;
}

int gw_live_conf_read(gw_live_conf *l, gw_conf *conf, int max_streams)
{
    int64_t lanes = 1, first = 0;
    double pace = 1;
    const char *listen;
    l->patience_ns = 500 * 1000 * 1000;
    l->reorder_ns = 250 * 1000 * 1000;
    GW_TRY(gw_conf_get_double(conf, "pace", 0, 1e6, &pace));
    if (pace != 0 && pace != 1)
        return gw_conf_fail(
            gw_conf_find(conf, "pace"),
            "pace: 1 for a feed that keeps real time, 0 for one that comes as fast as it goes");
    l->paced = pace > 0;
    GW_TRY(gw_conf_get_span_ns(conf, "patience", &l->patience_ns));
    if (!l->paced && gw_conf_find(conf, "patience"))
        return gw_conf_fail(gw_conf_find(conf, "patience"), "patience: has no meaning with 'pace: 0'");
    GW_TRY(gw_conf_get_span_ns(conf, "reorder", &l->reorder_ns));
    GW_TRY(gw_conf_get_int(conf, "lanes", 1, GW_MAX_LANES, &lanes));
    GW_TRY(gw_conf_get_int(conf, "credit", GW_LIVE_MIN_CREDIT, GW_LIVE_MAX_CREDIT, &l->credit));
    l->lanes = (int)lanes;
    GW_TRY(read_keys(l, conf));
    GW_TRY(read_address(l, conf, &listen, &first));
    GW_TRY(read_streams(l, conf, max_streams));
    return make_addresses(l, conf, listen, first);
}

void gw_live_conf_free(gw_live_conf *l)
{
    for (int i = 0; i < l->n_streams; i++) {
        gw_spec_free(&l->stream[i].wire);
        gw_spec_free(&l->stream[i].out);
    }
    free(l->stream);
    free(l->allowed);
    explicit_bzero(l, sizeof *l);
}
