/* SPDX-License-Identifier: GPL-3.0-or-later
 * slides.h. A ring slot is a hop of features of each detector. Slides are cut into groups, one network of
 * many streams each; a group is a piece of work. */
#include "pipeline/stages/slides.h"
#include "pipeline/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = GW_MODEL_DETECTORS, GROUP = GW_SLIDES_TOGETHER };

typedef struct slide {
    int32_t offset;   /* hops that the second detector is late */
    int64_t good;     /* frames since both were last whole */
    bool clean;       /* nothing in the network's memory */
    float *statistic; /* [hop_frames] */
    float *tail;      /* [smoothing_frames - 1]: the newest logits of the hop before */
} slide;

typedef struct group {
    gw_net *net;
    uint32_t first, n;
    const float **features; /* [n][N] */
    float *logit;           /* [n][hop_frames] */
    float **out;            /* [the network's outputs] */
} group;

struct gw_slides {
    uint32_t hop_frames, window_frames, smoothing;
    size_t hop_floats; /* of features, a detector */
    uint32_t n_slides, n_groups, slots;
    uint32_t running; /* the first so many */
    gw_net *trunk;
    float *trunk_features; /* [N][hop_floats] */
    float **trunk_out;
    int64_t *held; /* [slots]: which hop lies there; INT64_MIN: none */
    float *ring;   /* [slots][N][hop_floats] */
    float *zeros;  /* [hop_floats] */
    int64_t now;   /* hop at hand */
    slide *slide;
    group *group;
    float *floats; /* of the slides and groups, in one piece */
    const float **pointers;
};

static float *slot(const gw_slides *s, int64_t hop, int detector)
{
    const size_t k = (size_t)(hop % s->slots);
    return s->ring + (k * N + (size_t)detector) * s->hop_floats;
}

static bool has(const gw_slides *s, int64_t hop)
{
    return hop >= 0 && s->held[hop % s->slots] == hop;
}

/* -- life -------------------------------------------------------------------------------------------- */

static int find_output(const gw_net *net, const char *name, const char *path, int *at)
{
    *at = gw_net_find_output(net, name);
    return *at >= 0 ? GW_OK : gw_fail(GW_EMISMATCH, "%s: the network has no output '%s'", path, name);
}

static int open_trunk(gw_slides *s, const gw_slides_conf *c)
{
    int at;
    GW_TRY(gw_net_open(&s->trunk, c->onnx, c->kernels,
                       &(gw_net_options){.mode = GW_NET_STREAM,
                                         .part = GW_NET_TRUNK,
                                         .detector = GW_NET_ALL_DETECTORS,
                                         .hop_samples = c->hop_frames * c->model->hop_samples}));
    const gw_net_info *i = gw_net_get_info(s->trunk);
    GW_TRY(find_output(s->trunk, "features", c->onnx->path, &at));
    const gw_net_output *f = &i->output[at];
    if (i->n_detectors != N || f->delay_samples || f->columns % c->hop_frames)
        return gw_fail(GW_ENOTSUP, "%s: its detectors' features look ahead, or are not of %d detectors",
                       c->onnx->path, N);
    s->hop_floats = (size_t)f->columns * f->channels;
    s->trunk_out = calloc((size_t)i->n_outputs, sizeof *s->trunk_out);
    s->trunk_features = calloc(N * s->hop_floats, sizeof *s->trunk_features);
    s->zeros = calloc(s->hop_floats, sizeof *s->zeros);
    if (!s->trunk_out || !s->trunk_features || !s->zeros)
        return gw_fail(GW_ENOMEM, "features of %zu floats a hop", s->hop_floats);
    s->trunk_out[at] = s->trunk_features;
    return GW_OK;
}

static int open_group(gw_slides *s, group *g, const gw_slides_conf *c, uint32_t columns)
{
    int at;
    GW_TRY(gw_net_open(&g->net, c->onnx, c->kernels,
                       &(gw_net_options){.mode = GW_NET_STREAM,
                                         .part = GW_NET_MERGED,
                                         .hop_samples = columns,
                                         .batch = g->n,
                                         .share = g == s->group ? NULL : s->group[0].net}));
    const gw_net_info *i = gw_net_get_info(g->net);
    GW_TRY(find_output(g->net, "logit", c->onnx->path, &at));
    if (i->output[at].channels != 1 || i->output[at].columns != c->hop_frames)
        return gw_fail(GW_EMISMATCH, "%s: output 'logit' is not one number a frame", c->onnx->path);
    g->out = calloc((size_t)i->n_outputs, sizeof *g->out);
    if (!g->out)
        return gw_fail(GW_ENOMEM, "a group of slides");
    g->out[at] = g->logit;
    return GW_OK;
}

static int lay_out(gw_slides *s, const gw_slides_conf *c)
{
    const size_t n = s->n_slides, frames = s->hop_frames, tail = s->smoothing - 1;
    s->n_groups = (s->n_slides + GROUP - 1) / GROUP;
    s->slots = 1;
    for (uint32_t k = 0; k < s->n_slides; k++) {
        const uint32_t late = (uint32_t)abs(c->offset_hops[k]);
        s->slots = late >= s->slots ? late + 1 : s->slots;
    }
    s->slide = calloc(n, sizeof *s->slide);
    s->group = calloc(s->n_groups, sizeof *s->group);
    s->floats = calloc(n * (2 * frames + tail), sizeof *s->floats);
    s->pointers = calloc(n * N, sizeof *s->pointers);
    s->held = malloc(s->slots * sizeof *s->held);
    if (!s->slide || !s->group || !s->floats || !s->pointers || !s->held)
        return gw_fail(GW_ENOMEM, "%u time slides", s->n_slides);
    for (uint32_t k = 0; k < s->slots; k++)
        s->held[k] = INT64_MIN;
    float *logit = s->floats, *statistic = logit + n * frames, *tails = statistic + n * frames;
    for (uint32_t k = 0; k < s->n_slides; k++) {
        s->slide[k] = (slide){.offset = c->offset_hops[k],
                              .clean = true,
                              .statistic = statistic + k * frames,
                              .tail = tails + k * tail};
    }
    for (uint32_t g = 0; g < s->n_groups; g++) {
        const uint32_t first = g * GROUP, left = s->n_slides - first;
        s->group[g] = (group){.first = first,
                              .n = left < GROUP ? left : GROUP,
                              .features = s->pointers + (size_t)first * N,
                              .logit = logit + first * frames};
    }
    return GW_OK;
}

static int build(gw_slides *s, const gw_slides_conf *c)
{
    const gw_model *m = c->model;
    s->hop_frames = c->hop_frames;
    s->window_frames = m->window_samples / m->hop_samples;
    s->smoothing = m->smoothing_frames;
    s->n_slides = s->running = c->n_slides;
    s->now = INT64_MIN;
    GW_TRY(open_trunk(s, c));
    GW_TRY(lay_out(s, c));
    s->ring = calloc((size_t)s->slots * N * s->hop_floats, sizeof *s->ring);
    if (!s->ring)
        return gw_fail(GW_ENOMEM, "a ring of %zu MiB of features", gw_slides_ring_bytes(s) >> 20);
    const gw_net_info *trunk = gw_net_get_info(s->trunk);
    const int at = gw_net_find_output(s->trunk, "features");
    for (uint32_t g = 0; g < s->n_groups; g++)
        GW_TRY(open_group(s, &s->group[g], c, trunk->output[at].columns));
    return GW_OK;
}

int gw_slides_new(gw_slides **out, const gw_slides_conf *conf)
{
    gw_slides *s = *out = calloc(1, sizeof *s);
    if (!s)
        return gw_fail(GW_ENOMEM, "time slides");
    const int err = build(s, conf);
    if (err < 0)
        gw_slides_destroy(out);
    return err;
}

void gw_slides_destroy(gw_slides **out)
{
    gw_slides *s = *out;
    *out = NULL;
    if (!s)
        return;
    for (uint32_t g = 0; s->group && g < s->n_groups; g++) {
        gw_net_close(&s->group[g].net);
        free(s->group[g].out);
    }
    gw_net_close(&s->trunk);
    free(s->trunk_out);
    free(s->trunk_features);
    free(s->zeros);
    free(s->held);
    free(s->ring);
    free(s->slide);
    free(s->group);
    free(s->floats);
    free(s->pointers);
    free(s);
}

size_t gw_slides_ring_bytes(const gw_slides *s)
{
    return (size_t)s->slots * N * s->hop_floats * sizeof *s->ring;
}

const float *gw_slides_statistic(const gw_slides *s, uint32_t k)
{
    return s->slide[k].statistic;
}

/* -- a hop ------------------------------------------------------------------------------------------- */

/* The slide's pair of features for this hop; false where one of them is missing. */
static bool pair(const gw_slides *s, const slide *k, const float *features[N])
{
    const int64_t hop[N] = {k->offset < 0 ? s->now + k->offset : s->now,
                            k->offset > 0 ? s->now - k->offset : s->now};
    for (int d = 0; d < N; d++) {
        if (!has(s, hop[d]))
            return false;
        features[d] = slot(s, hop[d], d);
    }
    return true;
}

static void silence(const gw_slides *s, slide *k)
{
    k->good = 0;
    for (uint32_t f = 0; f < s->hop_frames; f++)
        k->statistic[f] = NAN;
}

/* The mean of the last `smoothing` logits of each frame (candidate.h), oldest first as there. */
static void smooth(const gw_slides *s, slide *k, const float *logit)
{
    const int64_t need = s->window_frames + s->smoothing - 1, tail = s->smoothing - 1;
    for (int64_t f = 0; f < s->hop_frames; f++) {
        double sum = 0;
        for (int64_t i = f - tail; i <= f; i++)
            sum += (double)(i < 0 ? k->tail[tail + i] : logit[i]);
        k->statistic[f] = k->good + f + 1 >= need ? (float)(sum / s->smoothing) : NAN;
    }
    for (int64_t i = 0; i < tail; i++) {
        const int64_t from = s->hop_frames - tail + i;
        k->tail[i] = from < 0 ? k->tail[tail + from] : logit[from];
    }
    k->good += s->hop_frames;
}

static int run_group(void *arg, size_t number)
{
    gw_slides *s = arg;
    group *g = &s->group[number];
    bool whole[GROUP], any = false;
    for (uint32_t i = 0; i < g->n; i++) {
        slide *k = &s->slide[g->first + i];
        const float **features = &g->features[(size_t)i * N];
        whole[i] = g->first + i < s->running && pair(s, k, features);
        any |= whole[i];
        if (whole[i])
            continue;
        for (int d = 0; d < N; d++)
            features[d] = s->zeros;
        silence(s, k);
    }
    if (!any)
        return GW_OK; /* what they remember of before is forgotten below, when they go on */
    for (uint32_t i = 0; i < g->n; i++) {
        slide *k = &s->slide[g->first + i];
        if (k->good == 0 && !k->clean)
            gw_net_reset_stream(g->net, i);
        k->clean = false;
    }
    GW_TRY(gw_net_run(g->net, &(gw_net_in){.features = g->features}, g->out));
    for (uint32_t i = 0; i < g->n; i++)
        if (whole[i])
            smooth(s, &s->slide[g->first + i], g->logit + (size_t)i * s->hop_frames);
    return GW_OK;
}

void gw_slides_run(gw_slides *s, uint32_t n)
{
    s->running = n < s->n_slides ? n : s->n_slides;
}

int gw_slides_hop(gw_slides *s, int64_t hop, const float *const x[GW_MODEL_DETECTORS])
{
    if (hop <= s->now)
        return gw_fail(GW_EBUG, "hop %lld of time slides after hop %lld", (long long)hop, (long long)s->now);
    const bool hole = hop != s->now + 1;
    s->now = hop;
    if (hole) {
        gw_net_reset(s->trunk);
        for (uint32_t k = 0; k < s->n_slides; k++)
            s->slide[k].good = 0;
    }
    GW_TRY(gw_net_run(s->trunk, &(gw_net_in){.channel = x}, s->trunk_out));
    for (int d = 0; d < N; d++)
        memcpy(slot(s, hop, d), s->trunk_features + (size_t)d * s->hop_floats, s->hop_floats * sizeof(float));
    s->held[hop % s->slots] = hop;
    return gw_parallel(GW_BULK, s->n_groups, run_group, s);
}
