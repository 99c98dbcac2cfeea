/* SPDX-License-Identifier: GPL-3.0-or-later
 * Metadata of a detection network against the streams it is given, see model.h. A network run on data
 * that were prepared in another way still gives numbers, so nothing may be let through half right. */
#include "pipeline/stages/model.h"
#include "pipeline/config.h"
#include "pipeline/stages/meta.h"

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

/* From 0 to max. */
static int maybe_number(const gw_onnx *o, const char *key, double max, double *value)
{
    const char *text = gw_onnx_meta(o, key);
    double v;
    if (!text)
        return GW_OK;
    if (gw_parse_double(text, &v) != GW_OK || !(v >= 0 && v <= max))
        return gw_fail(GW_EFORMAT, "%s: metadata %s is '%.40s', want a number from 0 to %g", o->path, key,
                       text, max);
    *value = v;
    return GW_OK;
}

static void choose_pair(gw_model *m, int k)
{
    const char *a = m->pair[k][0], *b = m->pair[k][1];
    memcpy(m->detector, m->pair[k], sizeof m->detector);
    snprintf(m->detectors, sizeof m->detectors, "%s,%s", strcmp(a, b) < 0 ? a : b, strcmp(a, b) < 0 ? b : a);
    m->travel_s = travel_s(a, b);
}

/* One pair, names parted by commas, from *text on; leaves it at the ';' or the end. */
static int read_pair(gw_model *m, const gw_onnx *o, const char *all, const char **text)
{
    if (m->n_pairs == GW_MODEL_PAIRS)
        return gw_fail(GW_ENOTSUP, "%s: metadata gwstream.detectors names more than %d pairs", o->path,
                       GW_MODEL_PAIRS);
    char(*name)[8] = m->pair[m->n_pairs];
    int n = 0;
    for (const char *s = *text;; s++) {
        size_t len = strcspn(s, ",;");
        if (len == 0 || len >= sizeof name[0])
            return gw_fail(GW_EFORMAT,
                           "%s: metadata gwstream.detectors is '%.40s', want names like H1,L1 or H1,V1;L1,V1",
                           o->path, all);
        if (n < GW_MODEL_DETECTORS) {
            memcpy(name[n], s, len);
            name[n][len] = '\0';
        }
        n++;
        s += len;
        if (*s != ',') {
            *text = s;
            break;
        }
    }
    if (n != GW_MODEL_DETECTORS)
        return gw_fail(GW_ENOTSUP, "%s: a network for %d detectors (%.40s), this stage runs networks for two",
                       o->path, n, all);
    if (strcmp(name[0], name[1]) == 0)
        return gw_fail(GW_EFORMAT, "%s: metadata gwstream.detectors names %s twice", o->path, name[0]);
    m->n_pairs++;
    return GW_OK;
}

static int read_detectors(gw_model *m, const gw_onnx *o)
{
    const char *text;
    GW_TRY(gw_meta_text(o, "gwstream.detectors", &text));
    const char *s = text;
    GW_TRY(read_pair(m, o, text, &s));
    while (*s) {
        s++;
        GW_TRY(read_pair(m, o, text, &s));
    }
    choose_pair(m, 0);
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
    GW_TRY(gw_meta_text(o, "gwstream.format", &format));
    if (strcmp(format, "1") != 0)
        return gw_fail(GW_ENOTSUP, "%s: metadata of format '%.40s', this program reads format 1", o->path,
                       format);
    GW_TRY(gw_meta_copy(o, "gwstream.name", m->name, sizeof m->name));
    GW_TRY(read_detectors(m, o));
    GW_TRY(gw_meta_count(o, "gwstream.sample_rate", 1, 1 << 20, &m->rate_hz));
    GW_TRY(gw_meta_count(o, "gwstream.window_samples", 1, 1 << 26, &m->window_samples));
    GW_TRY(gw_meta_count(o, "gwstream.hop_samples", 1, 1 << 20, &m->hop_samples));
    GW_TRY(gw_meta_count(o, "gwstream.smoothing_frames", 1, 4096, &m->smoothing_frames));
    GW_TRY(gw_meta_copy(o, "gwstream.whitening", m->whitening, sizeof m->whitening));
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
    GW_TRY(maybe_number(o, "gwstream.arrival_skew", 10, &m->arrival_skew));
    m->arrival_sigma_scale = 1;
    GW_TRY(maybe_number(o, "gwstream.arrival_sigma_scale", 100, &m->arrival_sigma_scale));
    GW_TRY(maybe_number(o, "gwstream.arrival_sigma_floor_s", 1, &m->arrival_sigma_floor_s));
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

static int find_stream(const gw_spec *in, int n_in, const char *detector)
{
    int i = 0;
    while (i < n_in && strcmp(in[i].detector, detector) != 0)
        i++;
    return i < n_in ? i : -1;
}

/* The first of the model's pairs that the streams have, or -1. */
static int find_pair(const gw_model *m, const gw_spec *in, int n_in)
{
    for (int k = 0; k < m->n_pairs; k++)
        if (find_stream(in, n_in, m->pair[k][0]) >= 0 && find_stream(in, n_in, m->pair[k][1]) >= 0)
            return k;
    return -1;
}

/* "H1,V1 or L1,V1" */
static void list_pairs(const gw_model *m, char *text, size_t n)
{
    size_t used = 0;
    text[0] = '\0';
    for (int k = 0; k < m->n_pairs && used < n; k++) {
        int more = snprintf(text + used, n - used, "%s%s,%s", k ? " or " : "", m->pair[k][0], m->pair[k][1]);
        used += more > 0 ? (size_t)more : 0;
    }
}

static int refuse_detectors(const gw_model *m, const char *path, const gw_spec *in, int n_in)
{
    char have[256], want[256], missing[32] = "";
    list_streams(in, n_in, have, sizeof have);
    list_pairs(m, want, sizeof want);
    if (find_pair(m, in, n_in) >= 0)
        return gw_fail(
            GW_EMISMATCH,
            "too many detectors: model %s wants %s, the streams are %s: take two of them, one stage "
            "for each pair",
            path, want, have);
    for (int c = GW_MODEL_DETECTORS - 1; m->n_pairs == 1 && c >= 0; c--)
        if (find_stream(in, n_in, m->detector[c]) < 0)
            snprintf(missing, sizeof missing, "detector %s is missing: ", m->detector[c]);
    return gw_fail(GW_EMISMATCH, "%smodel %s wants %s, the streams are %s", missing, path, want, have);
}

int gw_model_match(gw_model *m, const char *path, const gw_spec *in, int n_in, int order[GW_MODEL_DETECTORS])
{
    char have[256];
    for (int i = 0; i < n_in; i++)
        if (in[i].detector[0] && find_stream(in, n_in, in[i].detector) != i) {
            list_streams(in, n_in, have, sizeof have);
            return gw_fail(GW_EMISMATCH, "two streams of detector %s: %s", in[i].detector, have);
        }
    const int k = find_pair(m, in, n_in);
    if (k < 0 || n_in != GW_MODEL_DETECTORS)
        return refuse_detectors(m, path, in, n_in);
    choose_pair(m, k);
    for (int c = 0; c < GW_MODEL_DETECTORS; c++) {
        order[c] = find_stream(in, n_in, m->detector[c]);
        GW_TRY(match_one(m, path, &in[order[c]]));
    }
    const gw_spec *a = &in[order[0]], *b = &in[order[1]];
    if (a->phase_ns != b->phase_ns)
        return gw_fail(GW_EMISMATCH, "streams %s and %s count their samples from different instants", a->name,
                       b->name);
    return GW_OK;
}
