/* SPDX-License-Identifier: GPL-3.0-or-later
 * Metadata of a detection network against the streams it is given, see model.h. A network run on data
 * that were prepared in another way still gives numbers, so nothing may be let through half right. */
#include "pipeline/stages/model.h"
#include "pipeline/config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const double light_m_s = 299792458;
static const double earth_diameter_m = 2 * 6378137.0;

/* Vertices of the interferometers in metres, Earth-fixed (WGS 84). H1, L1: LIGO-T980044, table 1; V1:
 * Anderson et al. 2001, PRD 63 042003, appendix B. */
static const struct site {
    const char *detector;
    double x, y, z;
} sites[] = {
    {"H1", -2.16141492636e6, -3.83469517889e6, 4.60035022664e6},
    {"L1", -7.42760447238e4, -5.49628371971e6, 3.22425701744e6},
    {"V1", 4.54637409900e6, 8.42989697626e5, 4.37857696241e6},
};

static const struct site *site_of(const char *detector)
{
    for (size_t i = 0; i < sizeof sites / sizeof sites[0]; i++)
        if (strcmp(sites[i].detector, detector) == 0)
            return &sites[i];
    return NULL;
}

static double travel_s(const char *one, const char *other)
{
    const struct site *a = site_of(one), *b = site_of(other);
    if (!a || !b)
        return earth_diameter_m / light_m_s;
    return sqrt((a->x - b->x) * (a->x - b->x) + (a->y - b->y) * (a->y - b->y) +
                (a->z - b->z) * (a->z - b->z)) /
           light_m_s;
}

/* ---- reading ---- */

static int need_text(const gw_onnx *o, const char *key, const char **text)
{
    *text = gw_onnx_meta(o, key);
    if (!*text || !**text)
        return gw_fail(GW_EFORMAT, "%s: no metadata '%s'; detect needs a model written by training/", o->path,
                       key);
    return GW_OK;
}

static int copy_text(const gw_onnx *o, const char *key, char *to, size_t n)
{
    const char *text;
    GW_TRY(need_text(o, key, &text));
    if (strlen(text) >= n)
        return gw_fail(GW_EFORMAT, "%s: metadata %s has %zu characters, at most %zu are possible", o->path,
                       key, strlen(text), n - 1);
    memcpy(to, text, strlen(text) + 1);
    return GW_OK;
}

static int need_count(const gw_onnx *o, const char *key, int64_t max, uint32_t *value)
{
    const char *text;
    int64_t v;
    GW_TRY(need_text(o, key, &text));
    if (gw_parse_int(text, &v) != GW_OK || v < 1 || v > max)
        return gw_fail(GW_EFORMAT, "%s: metadata %s is '%.40s', want a whole number from 1 to %" PRId64,
                       o->path, key, text, max);
    *value = (uint32_t)v;
    return GW_OK;
}

static int maybe_seconds(const gw_onnx *o, const char *key, double *value)
{
    const char *text = gw_onnx_meta(o, key);
    double v;
    if (!text)
        return GW_OK;
    if (gw_parse_double(text, &v) != GW_OK || !(fabs(v) <= 60))
        return gw_fail(GW_EFORMAT, "%s: metadata %s is '%.40s', want seconds, at most 60", o->path, key,
                       text);
    *value = v;
    return GW_OK;
}

static int read_detectors(gw_model *m, const gw_onnx *o)
{
    const char *text;
    GW_TRY(need_text(o, "gwstream.detectors", &text));
    int n = 0;
    for (const char *s = text;; s++) {
        size_t len = strcspn(s, ",");
        if (len == 0 || len >= sizeof m->detector[0])
            return gw_fail(GW_EFORMAT, "%s: metadata gwstream.detectors is '%.40s', want names like H1,L1",
                           o->path, text);
        if (n < GW_MODEL_DETECTORS) {
            memcpy(m->detector[n], s, len);
            m->detector[n][len] = '\0';
        }
        n++;
        s += len;
        if (!*s)
            break;
    }
    if (n != GW_MODEL_DETECTORS)
        return gw_fail(GW_ENOTSUP, "%s: a network for %d detectors (%.40s), this stage runs networks for two",
                       o->path, n, text);
    const char *a = m->detector[0], *b = m->detector[1];
    if (strcmp(a, b) == 0)
        return gw_fail(GW_EFORMAT, "%s: metadata gwstream.detectors names %s twice", o->path, a);
    snprintf(m->detectors, sizeof m->detectors, "%s,%s", strcmp(a, b) < 0 ? a : b, strcmp(a, b) < 0 ? b : a);
    m->travel_s = travel_s(a, b);
    return GW_OK;
}

static int check_input(const gw_model *m, const gw_onnx *o)
{
    const gw_onnx_value *x = o->n_inputs == 1 ? &o->input[0] : NULL;
    if (!x || x->rank != 3 || x->dim[1] != GW_MODEL_DETECTORS || x->dim[2] != m->window_samples)
        return gw_fail(GW_EFORMAT, "%s: the graph's input is not [1, %d, %" PRIu32 "] as its metadata say",
                       o->path, GW_MODEL_DETECTORS, m->window_samples);
    return GW_OK;
}

int gw_model_read(gw_model *m, const gw_onnx *o)
{
    *m = (gw_model){.rate_hz = 0};
    const char *format;
    GW_TRY(need_text(o, "gwstream.format", &format));
    if (strcmp(format, "1") != 0)
        return gw_fail(GW_ENOTSUP, "%s: metadata of format '%.40s', this program reads format 1", o->path,
                       format);
    GW_TRY(copy_text(o, "gwstream.name", m->name, sizeof m->name));
    GW_TRY(read_detectors(m, o));
    GW_TRY(need_count(o, "gwstream.sample_rate", 1 << 20, &m->rate_hz));
    GW_TRY(need_count(o, "gwstream.window_samples", 1 << 26, &m->window_samples));
    GW_TRY(need_count(o, "gwstream.hop_samples", 1 << 20, &m->hop_samples));
    GW_TRY(need_count(o, "gwstream.smoothing_frames", 4096, &m->smoothing_frames));
    GW_TRY(copy_text(o, "gwstream.whitening", m->whitening, sizeof m->whitening));
    if (m->window_samples % m->hop_samples)
        return gw_fail(GW_EFORMAT,
                       "%s: the window of %" PRIu32 " samples is no multiple of the hop of %" PRIu32, o->path,
                       m->window_samples, m->hop_samples);
    /* The network may say yes as long as the merger is in its pooled frames, and the box is late too. */
    m->arrival_reach_s = 0.75 + (double)m->smoothing_frames * m->hop_samples / m->rate_hz;
    GW_TRY(maybe_seconds(o, "gwstream.arrival_offset_s", &m->arrival_offset_s));
    GW_TRY(maybe_seconds(o, "gwstream.arrival_reach_s", &m->arrival_reach_s));
    GW_TRY(maybe_seconds(o, "gwstream.peak_offset_s", &m->peak_offset_s));
    if (!(m->arrival_reach_s > 0))
        return gw_fail(GW_EFORMAT, "%s: metadata gwstream.arrival_reach_s must be more than 0", o->path);
    return check_input(m, o);
}

/* ---- matching ---- */

/* "H1 (white.H1), L1 (white.L1)" */
static void list_streams(const gw_spec *in, int n_in, char *text, size_t n)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < n_in && used < n; i++) {
        int more = snprintf(text + used, n - used, "%s%s (%s)", i ? ", " : "",
                            in[i].detector[0] ? in[i].detector : "no detector", in[i].name);
        used += more > 0 ? (size_t)more : 0;
    }
}

static int match_one(const gw_model *m, const char *path, const gw_spec *s)
{
    if (s->rate.num != m->rate_hz || s->rate.den != 1)
        return gw_fail(GW_EMISMATCH, "stream %s has %g Hz, model %s wants %" PRIu32 " Hz: resample it",
                       s->name, gw_rate_hz(s->rate), path, m->rate_hz);
    if (strcmp(s->whitening, m->whitening) != 0)
        return gw_fail(GW_EMISMATCH, "stream %s is whitened '%s', model %s was trained on '%s'", s->name,
                       s->whitening[0] ? s->whitening : "not at all", path, m->whitening);
    if (s->n_channels != 1 || s->dtype != GW_F32)
        return gw_fail(GW_EMISMATCH,
                       "stream %s has %" PRIu32
                       " channels of %zu bytes a sample, model %s wants one channel of "
                       "float32 from each detector",
                       s->name, s->n_channels, gw_dtype_bytes(s->dtype), path);
    return GW_OK;
}

int gw_model_match(const gw_model *m, const char *path, const gw_spec *in, int n_in,
                   int order[GW_MODEL_DETECTORS])
{
    char have[256];
    list_streams(in, n_in, have, sizeof have);
    for (int c = 0; c < GW_MODEL_DETECTORS; c++) {
        order[c] = -1;
        for (int i = 0; i < n_in; i++) {
            if (strcmp(in[i].detector, m->detector[c]) != 0)
                continue;
            if (order[c] >= 0)
                return gw_fail(GW_EMISMATCH, "two streams of detector %s: %s", m->detector[c], have);
            order[c] = i;
        }
    }
    for (int c = 0; c < GW_MODEL_DETECTORS; c++)
        if (order[c] < 0)
            return gw_fail(GW_EMISMATCH, "detector %s is missing: model %s wants %s, the streams are %s",
                           m->detector[c], path, m->detectors, have);
    if (n_in != GW_MODEL_DETECTORS)
        return gw_fail(GW_EMISMATCH, "too many detectors: model %s wants %s, the streams are %s", path,
                       m->detectors, have);
    for (int c = 0; c < GW_MODEL_DETECTORS; c++)
        GW_TRY(match_one(m, path, &in[order[c]]));
    const gw_spec *a = &in[order[0]], *b = &in[order[1]];
    if (a->phase_ns != b->phase_ns)
        return gw_fail(GW_EMISMATCH, "streams %s and %s count their samples from different instants", a->name,
                       b->name);
    return GW_OK;
}
