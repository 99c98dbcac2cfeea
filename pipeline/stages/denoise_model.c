/* SPDX-License-Identifier: GPL-3.0-or-later
 * Metadata of a cleaning network, see denoise_model.h. A network run on other channels than it was trained on
 * still gives numbers, so nothing may be let through half right. */
#include "pipeline/stages/denoise_model.h"
#include "pipeline/config.h"
#include "pipeline/stages/meta.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The i-th of words set apart by commas; false where there are no more. */
static bool word_at(const char *text, uint32_t i, const char **word, size_t *n)
{
    for (; i; i--) {
        const char *comma = strchr(text, ',');
        if (!comma)
            return false;
        text = comma + 1;
    }
    *word = text;
    *n = strcspn(text, ",");
    return true;
}

static int read_witnesses(gw_denoise_model *m, const gw_onnx *o)
{
    const char *text, *word;
    size_t n;
    GW_TRY(gw_meta_text(o, "gwstream.witnesses", &text));
    m->n_witnesses = 1;
    for (const char *s = text; *s; s++)
        m->n_witnesses += *s == ',';
    if (m->n_witnesses > GW_DENOISE_MAX_WITNESSES)
        return gw_fail(GW_ENOTSUP, "%s: %" PRIu32 " witnesses, at most %d are possible", o->path,
                       m->n_witnesses, GW_DENOISE_MAX_WITNESSES);
    m->witness = calloc(m->n_witnesses, sizeof *m->witness);
    m->mean = calloc(m->n_witnesses, sizeof *m->mean);
    m->scale = calloc(m->n_witnesses, sizeof *m->scale);
    if (!m->witness || !m->mean || !m->scale)
        return gw_fail(GW_ENOMEM, "%s: %" PRIu32 " witnesses", o->path, m->n_witnesses);
    for (uint32_t i = 0; word_at(text, i, &word, &n); i++) {
        if (n == 0 || n >= GW_NAME_BYTES)
            return gw_fail(GW_EFORMAT,
                           "%s: metadata gwstream.witnesses: name %" PRIu32
                           " has %zu characters, want 1 to %d",
                           o->path, i + 1, n, GW_NAME_BYTES - 1);
        memcpy(m->witness[i], word, n);
        for (uint32_t k = 0; k < i; k++)
            if (!strcmp(m->witness[k], m->witness[i]))
                return gw_fail(GW_EFORMAT, "%s: metadata gwstream.witnesses names %s twice", o->path,
                               m->witness[i]);
    }
    return GW_OK;
}

static int read_numbers(const gw_denoise_model *m, const gw_onnx *o, const char *key, bool positive,
                        double *to)
{
    const char *text, *word;
    uint32_t count = 0;
    size_t n;
    GW_TRY(gw_meta_text(o, key, &text));
    for (; word_at(text, count, &word, &n); count++) {
        char number[64] = {0};
        double v = NAN;
        if (n < sizeof number)
            memcpy(number, word, n);
        if (gw_parse_double(number, &v) != GW_OK || !isfinite(v) || (positive && !(v > 0)))
            return gw_fail(GW_EFORMAT, "%s: metadata %s: entry %" PRIu32 " is '%.*s', want a %snumber",
                           o->path, key, count + 1, n < 40 ? (int)n : 40, word, positive ? "positive " : "");
        if (count < m->n_witnesses)
            to[count] = v;
    }
    if (count != m->n_witnesses)
        return gw_fail(GW_EFORMAT, "%s: metadata %s has %" PRIu32 " entries for %" PRIu32 " witnesses",
                       o->path, key, count, m->n_witnesses);
    return GW_OK;
}

static int check_graph(const gw_denoise_model *m, const gw_onnx *o)
{
    const gw_onnx_value *x = o->n_inputs == 1 ? &o->input[0] : NULL;
    if (!x || x->rank != 3 || o->n_outputs != 1)
        return gw_fail(GW_EFORMAT,
                       "%s: %d inputs and %d outputs; a cleaning network has one input [1, witnesses, "
                       "samples] and one output",
                       o->path, o->n_inputs, o->n_outputs);
    if (x->dim[1] != m->n_witnesses)
        return gw_fail(GW_EFORMAT,
                       "%s: the network takes %" PRId64 " channels, its metadata name %" PRIu32 " witnesses",
                       o->path, x->dim[1], m->n_witnesses);
    return GW_OK;
}

int gw_denoise_model_read(gw_denoise_model *m, const gw_onnx *o)
{
    *m = (gw_denoise_model){.rate_hz = 0};
    const char *text;
    GW_TRY(gw_meta_text(o, "gwstream.format", &text));
    if (strcmp(text, "1") != 0)
        return gw_fail(GW_ENOTSUP, "%s: metadata of format '%.40s', this program reads format 1", o->path,
                       text);
    GW_TRY(gw_meta_text(o, "gwstream.kind", &text));
    if (strcmp(text, "denoise") != 0)
        return gw_fail(GW_ENOTSUP, "%s: a network of kind '%.40s', want a cleaning network (denoise)",
                       o->path, text);
    GW_TRY(gw_meta_copy(o, "gwstream.name", m->name, sizeof m->name));
    if (strpbrk(m->name, ":;,"))
        return gw_fail(GW_EFORMAT, "%s: metadata gwstream.name is '%s': no ':', ';' or ',' in it", o->path,
                       m->name);
    GW_TRY(gw_meta_count(o, "gwstream.sample_rate", 1, 65536, &m->rate_hz));
    GW_TRY(gw_meta_count(o, "gwstream.shift_samples", 0, 1 << 20, &m->shift_samples));
    GW_TRY(gw_meta_copy(o, "gwstream.strain", m->strain, sizeof m->strain));
    GW_TRY(gw_meta_copy(o, "gwstream.bands", m->bands_text, sizeof m->bands_text));
    GW_TRY(gw_bands_parse(&m->bands, o->path, m->bands_text));
    GW_TRY(read_witnesses(m, o));
    GW_TRY(read_numbers(m, o, "gwstream.means", false, m->mean));
    GW_TRY(read_numbers(m, o, "gwstream.scales", true, m->scale));
    GW_TRY(gw_meta_text(o, "gwstream.output_scale", &text));
    if (gw_parse_double(text, &m->output_scale) != GW_OK || !isfinite(m->output_scale) ||
        m->output_scale == 0)
        return gw_fail(GW_EFORMAT, "%s: metadata gwstream.output_scale is '%.40s', want a number", o->path,
                       text);
    return check_graph(m, o);
}

void gw_denoise_model_free(gw_denoise_model *m)
{
    free(m->witness);
    free(m->mean);
    free(m->scale);
    *m = (gw_denoise_model){.rate_hz = 0};
}
