/* SPDX-License-Identifier: GPL-3.0-or-later
 * A layer through cuDNN: which plan, and how it is run. Plans of two kinds compete: with bias, residual and
 * activation inside, and the convolution alone followed by gw_cudnn_finish. Windows that overlap, which cuDNN
 * refuses, and floats that are to become half precision are first copied into memory of ours. */
#include "kernels/cuda/cudnn_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PLANS = 6, MOST_WORK = 1 << 30 /* bytes */, KEY_BYTES = 768 };

struct gw_cudnn {
    gw_cudnn_target target;
    void *stream; /* for timing; NULL without a GPU */
    char device[128];
    gw_cudnn_weights *weights; /* a list */
    /* Working memory of one layer at a time. What was too small stays, for graphs that know its address. */
    struct {
        void *p;
        size_t bytes;
    } work[48];
    int n_work;
};

struct gw_cudnn_conv {
    gw_cudnn *owner;
    gw_cudnn_layer l;
    gw_cudnn_weights *w;
    gw_cudnn_plan plan;
    gw_cudnn_info info;
    bool gather, apart;        /* x is copied first; y goes to memory of ours first */
    size_t x_values, y_values; /* of a window */
    size_t x_at, y_at;         /* in the working memory, behind cuDNN's */
    void *work;
};

/* ---- The context ---- */

int gw_cudnn_open(gw_cudnn **out, bool device)
{
    *out = NULL;
    const gw_cudnn_library *library = gw_cudnn_library_get();
    if (!library)
        return gw_fail(GW_EMISSING, "cuDNN: %s", gw_cudnn_status());
    gw_cudnn *c = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "cuDNN: no memory");
    c->target.library = library;
    int err = GW_OK;
    if (device) {
        const cudnnStatus_t s = library->cudnnCreate(&c->target.handle);
        if (s != CUDNN_STATUS_SUCCESS)
            err = gw_cudnn_fail(library, GW_EMISSING, s, "on this GPU");
        if (err == GW_OK)
            err = gw_cudnn_device_name(c->device, sizeof c->device);
        if (err == GW_OK)
            err = gw_cudnn_stream_new(&c->stream);
    } else {
        err = gw_cudnn_target_describe(&c->target);
    }
    if (err != GW_OK) {
        gw_cudnn_close(&c);
        return err;
    }
    *out = c;
    return GW_OK;
}

void gw_cudnn_close(gw_cudnn **p)
{
    gw_cudnn *c = *p;
    if (!c)
        return;
    while (c->n_work > 0)
        gw_cudnn_memory_free(&c->work[--c->n_work].p);
    gw_cudnn_stream_free(&c->stream);
    if (c->target.handle)
        c->target.library->cudnnDestroy(c->target.handle);
    if (c->target.description)
        c->target.library->cudnnBackendDestroyDescriptor(c->target.description);
    free(c);
    *p = NULL;
}

/* Working memory of at least so many bytes: the newest piece, at least twice the one before. */
static int work_get(gw_cudnn *c, size_t bytes, void **p)
{
    const size_t has = c->n_work > 0 ? c->work[c->n_work - 1].bytes : 0;
    if (bytes > has || c->n_work == 0) {
        if (c->n_work == (int)(sizeof c->work / sizeof *c->work))
            return gw_fail(GW_ENOMEM, "cuDNN: working memory grew too often");
        const size_t next = bytes > 2 * has ? bytes : 2 * has;
        GW_TRY(gw_cudnn_memory_new(&c->work[c->n_work].p, next));
        c->work[c->n_work++].bytes = next;
    }
    *p = c->work[c->n_work - 1].p;
    return GW_OK;
}

/* ---- Running ---- */

static int run(const gw_cudnn_conv *p, const gw_cudnn_plan *plan, bool fused, const gw_conv_io *io,
               void *stream)
{
    const gw_cudnn_layer *l = &p->l;
    const bool half = l->precision == GW_CUDNN_FP16;
    char *const work = p->work;
    gw_cudnn_array x = {(void *)(uintptr_t)io->src, io->src_step, l->half},
                   y = {io->dst, io->dst_step, l->half},
                   residual = {(void *)(uintptr_t)io->residual, io->residual_step, l->half}, to = y;
    if (p->gather) {
        const gw_cudnn_array copy = {work + p->x_at, p->x_values, half};
        GW_TRY(gw_cudnn_copy(stream, l->batch, p->x_values, x, copy));
        x = copy;
    }
    if (!fused && p->apart)
        to = (gw_cudnn_array){work + p->y_at, p->y_values, half};
    const int64_t id[] = {GW_CUDNN_X, GW_CUDNN_W, GW_CUDNN_Y, GW_CUDNN_BIAS, GW_CUDNN_RESIDUAL};
    void *data[] = {x.p, p->w->weight, to.p, p->w->bias, residual.p};
    int64_t used[5];
    int n = 0;
    for (int i = 0; i < (fused ? 5 : 3); i++)
        if (data[i]) {
            used[n] = id[i];
            data[n++] = data[i];
        }
    const cudnnStatus_t s = p->owner->target.library->cudnnSetStream(p->owner->target.handle, stream);
    if (s != CUDNN_STATUS_SUCCESS)
        return gw_cudnn_fail(p->owner->target.library, GW_ESYSTEM, s, "a stream");
    GW_TRY(gw_cudnn_plan_run(&p->owner->target, plan, n, used, data, work));
    const bool rest = p->w->bias || residual.p || l->d.act.kind != GW_ACT_NONE || to.p != y.p;
    return fused || !rest ? GW_OK
                          : gw_cudnn_finish(stream, l->batch, p->y_values, l->d.out_channels, l->d.act,
                                            p->w->bias32, to, residual, y);
}

static bool aligned(const void *p, uint32_t to)
{
    return (uintptr_t)p % to == 0;
}

int gw_cudnn_conv_run(const gw_cudnn_conv *p, const gw_conv_io *io, void *stream)
{
    const gw_cudnn_layer *l = &p->l;
    if (!p->owner->target.handle)
        return gw_fail(GW_EBUG, "cuDNN: a plan for a described device cannot run");
    if (io->batch != l->batch || io->columns != l->columns || io->src_step != l->src_step ||
        io->dst_step != l->dst_step || (io->residual != NULL) != l->residual ||
        (l->residual && io->residual_step != l->residual_step) ||
        (l->residual && (io->residual == io->dst) != l->in_place) || !aligned(io->src, l->src_align) ||
        !aligned(io->dst, l->dst_align) || !aligned(io->residual, l->dst_align))
        return gw_fail(GW_EBUG, "cuDNN: a layer of %u x %u columns is run with other arrays than planned",
                       l->batch, l->columns);
    return run(p, &p->plan, p->info.fused, io, stream);
}

/* ---- Choosing ---- */

typedef struct candidate {
    gw_cudnn_plan plan;
    bool fused;
    double us;
} candidate;

typedef struct trial {
    const gw_cudnn_conv *p;
    const candidate *c; /* NULL: the rival */
    gw_conv_io io;
    void *stream;
} trial;

static int try_once(void *arg)
{
    const trial *t = arg;
    return t->c ? run(t->p, &t->c->plan, t->c->fused, &t->io, t->stream)
                : t->p->l.rival(t->p->l.rival_arg, &t->io, t->stream);
}

static void key_of(const gw_cudnn_conv *p, char *key)
{
    const gw_cudnn_layer *l = &p->l;
    const gw_conv_desc *d = &l->d;
    snprintf(
        key, KEY_BYTES,
        "gwstream %s; cuDNN %s; %s; %s%s%s; %u x %u; %u > %u / %u, kernel %u / %u x %u; steps %zu %zu %zu; "
        "aligned %u %u; %s%s act %d %a %a%s",
        GW_VERSION, gw_cudnn_status(), p->owner->device,
        l->precision == GW_CUDNN_FP32   ? "fp32"
        : l->precision == GW_CUDNN_TF32 ? "tf32"
                                        : "fp16",
        l->half ? " half" : "", l->in_place ? " in place" : "", l->batch, l->columns, d->in_channels,
        d->out_channels, d->groups, d->kernel, d->stride, d->dilation, l->src_step,
        l->residual ? l->residual_step : 0, l->dst_step, l->src_align, l->dst_align,
        p->w->bias32 ? "bias" : "", l->residual ? " residual" : "", (int)d->act.kind, (double)d->act.a,
        (double)d->act.b, l->rival ? "; rival" : "");
}

/* What cuDNN is to do, of either kind. */
static gw_cudnn_shape shape_of(const gw_cudnn_conv *p, bool fused, bool bias)
{
    const gw_cudnn_layer *l = &p->l;
    gw_cudnn_shape s = {.d = l->d,
                        .batch = l->batch,
                        .columns = l->columns,
                        .x_step = p->gather ? p->x_values : l->src_step,
                        .x_align = p->gather ? 16 : l->src_align,
                        .residual_step = l->residual_step,
                        .y_step = !fused && p->apart ? p->y_values : l->dst_step,
                        .y_align = !fused && p->apart ? 16 : l->dst_align,
                        .half = l->precision == GW_CUDNN_FP16,
                        .bias = fused && bias,
                        .residual = fused && l->residual,
                        .precision = l->precision};
    if (!fused)
        s.d.act = (gw_act){GW_ACT_NONE, 0, 0};
    return s;
}

/* Can all be inside? Not where types or places of arrays differ; a clip is left to us. */
static bool may_fuse(const gw_cudnn_conv *p, bool bias)
{
    const gw_cudnn_layer *l = &p->l;
    return (bias || l->residual || l->d.act.kind != GW_ACT_NONE) && !l->in_place &&
           l->d.act.kind != GW_ACT_CLIP && (l->precision != GW_CUDNN_FP16 || l->half);
}

static int candidates(gw_cudnn_conv *p, bool bias, candidate *c, int most)
{
    gw_cudnn_plan plan[MOST_PLANS];
    int n = 0;
    for (int fused = may_fuse(p, bias); fused >= 0; fused--) {
        const gw_cudnn_shape s = shape_of(p, fused, bias);
        const int more = gw_cudnn_plans(&p->owner->target, &s, plan,
                                        most - n < MOST_PLANS ? most - n : MOST_PLANS, &p->info.left_out);
        for (int i = 0; i < more; i++)
            if (plan[i].workspace_bytes <= MOST_WORK)
                c[n++] = (candidate){.plan = plan[i], .fused = fused};
            else
                gw_cudnn_plan_free(&p->owner->target, &plan[i]);
    }
    return n;
}

/* The working memory: a plan's own, then ours. */
static void lay_out(gw_cudnn_conv *p, size_t plan_bytes)
{
    const size_t size = p->l.precision == GW_CUDNN_FP16 ? 2 : 4;
    const size_t x_bytes = p->gather ? (p->l.batch * p->x_values * size + 255) / 256 * 256 : 0,
                 y_bytes = p->apart ? p->l.batch * p->y_values * size : 0;
    p->x_at = (plan_bytes + 255) / 256 * 256;
    p->y_at = p->x_at + x_bytes;
    p->info.workspace_bytes = p->y_at + y_bytes;
}

/* With arrays, and working memory for the one that needs most, that are freed again. */
static int time_all(gw_cudnn_conv *p, candidate *c, int n, double *rival_us)
{
    const gw_cudnn_layer *l = &p->l;
    gw_cudnn *o = p->owner;
    const size_t size = l->half ? 2 : 4, gaps = l->batch - 1;
    const size_t n_src = gaps * l->src_step + p->x_values, n_dst = gaps * l->dst_step + p->y_values,
                 n_residual = l->residual && !l->in_place ? gaps * l->residual_step + p->y_values : 0;
    void *src = NULL, *dst = NULL, *residual = NULL;
    int err = gw_cudnn_memory_new(&p->work, p->info.workspace_bytes);
    if (err == GW_OK)
        err = gw_cudnn_memory_new(&src, n_src * size);
    if (err == GW_OK)
        err = gw_cudnn_memory_new(&dst, n_dst * size);
    if (err == GW_OK)
        err = gw_cudnn_memory_new(&residual, n_residual * size);
    if (err == GW_OK)
        err = gw_cudnn_noise(o->stream, src, n_src, l->half);
    if (err == GW_OK)
        err = gw_cudnn_noise(o->stream, dst, n_dst, l->half);
    if (err == GW_OK)
        err = gw_cudnn_noise(o->stream, residual, n_residual, l->half);
    trial t = {.p = p,
               .stream = o->stream,
               .io = {.batch = l->batch,
                      .columns = l->columns,
                      .src = src,
                      .residual = !l->residual  ? NULL
                                  : l->in_place ? dst
                                                : residual,
                      .dst = dst,
                      .src_step = l->src_step,
                      .residual_step = l->residual_step,
                      .dst_step = l->dst_step}};
    for (int i = 0; i < n && err == GW_OK; i++) {
        t.c = &c[i];
        c[i].us = -1;
        if (gw_cudnn_time(o->stream, try_once, &t, &c[i].us) != GW_OK)
            gw_cudnn_remark("%s: left out", gw_err_detail()); /* others will do */
    }
    t.c = NULL;
    if (l->rival && err == GW_OK)
        err = gw_cudnn_time(o->stream, try_once, &t, rival_us);
    gw_cudnn_memory_free(&residual);
    gw_cudnn_memory_free(&dst);
    gw_cudnn_memory_free(&src);
    gw_cudnn_memory_free(&p->work);
    return err;
}

static const char own_text[] = "own";

static int own_is_faster(const gw_cudnn_conv *p)
{
    return gw_fail(GW_ENOTSUP,
                   "convolution %u > %u, kernel %u, %u x %u columns: the own one is faster than cuDNN's",
                   p->l.d.in_channels, p->l.d.out_channels, p->l.d.kernel, p->l.batch, p->l.columns);
}

/* "fused ENGINE COMPILED US PLAN" or "own". GW_EMISSING: nothing of use on disk. */
static int choose_from_disk(gw_cudnn_conv *p, const char *key)
{
    char *text = NULL;
    GW_TRY(gw_cudnn_cache_load(key, &text));
    int fused = 0, compiled = 0, engine = 0, at = 0, err = GW_OK;
    double us = 0;
    if (strcmp(text, own_text) == 0)
        err = own_is_faster(p);
    else if (sscanf(text, "%d %d %d %lf %n", &fused, &engine, &compiled, &us, &at) != 4 || at == 0)
        err = gw_fail(GW_EMISSING, "not a choice");
    else if (gw_cudnn_plan_from(&p->owner->target, text + at, &p->plan) != GW_OK)
        err = gw_fail_at(GW_EMISSING, "a kept choice");
    free(text);
    if (err == GW_EMISSING)
        gw_cudnn_remark("%s: chosen anew", gw_err_detail());
    if (err != GW_OK)
        return err;
    p->info.engine = engine;
    p->info.fused = fused != 0;
    p->info.compiled = compiled != 0;
    p->info.cached = true;
    p->info.plans = 1;
    p->info.us = us;
    return GW_OK;
}

static void keep_on_disk(const gw_cudnn_conv *p, const char *key)
{
    char *plan = NULL, *text = NULL;
    if (gw_cudnn_plan_text(&p->owner->target, &p->plan, &plan) != GW_OK)
        return; /* not every engine can be written down */
    const size_t n = strlen(plan) + 128;
    text = malloc(n);
    if (text) {
        snprintf(text, n, "%d %d %d %.3f %s", p->info.fused, p->info.engine, p->info.compiled, p->info.us,
                 plan);
        if (gw_cudnn_cache_store(key, text) != GW_OK)
            gw_cudnn_remark("%s: the choice of a plan is not kept", gw_err_detail());
    }
    free(text);
    free(plan);
}

static int choose(gw_cudnn_conv *p, bool bias, const char *key)
{
    gw_cudnn *o = p->owner;
    candidate c[2 * MOST_PLANS];
    const int n = candidates(p, bias, c, 2 * MOST_PLANS);
    size_t most = 0;
    for (int i = 0; i < n; i++)
        most = (size_t)c[i].plan.workspace_bytes > most ? (size_t)c[i].plan.workspace_bytes : most;
    int err = GW_OK, best = n > 0 ? 0 : -1;
    for (int i = n - 1; i >= 0; i--) /* untimed: cuDNN's favourite, but engine 0 takes anything, slowly */
        best = c[i].plan.engine != 0 ? i : best;
    if (n == 0)
        err = gw_fail(GW_ENOTSUP,
                      "convolution %u > %u, kernel %u, %u x %u columns: cuDNN %s has nothing for it",
                      p->l.d.in_channels, p->l.d.out_channels, p->l.d.kernel, p->l.batch, p->l.columns,
                      gw_cudnn_status());
    if (n == 0)
        gw_cudnn_remark("%s", gw_err_detail());
    double rival_us = -1;
    if (err == GW_OK && o->target.handle) {
        lay_out(p, most);
        err = time_all(p, c, n, &rival_us);
        best = -1;
        for (int i = 0; i < n && err == GW_OK; i++)
            if (c[i].us >= 0 && (best < 0 || c[i].us < c[best].us))
                best = i;
        if (err == GW_OK && best < 0)
            err = gw_fail_at(GW_ENOTSUP, "no plan runs");
        if (err == GW_OK && rival_us >= 0 && rival_us <= c[best].us) {
            if (gw_cudnn_cache_store(key, own_text) != GW_OK)
                gw_cudnn_remark("%s: the choice of a plan is not kept", gw_err_detail());
            err = own_is_faster(p);
        }
    }
    for (int i = 0; i < n; i++)
        if (i != best || err != GW_OK)
            gw_cudnn_plan_free(&o->target, &c[i].plan);
    if (err != GW_OK)
        return err;
    p->plan = c[best].plan;
    p->info.engine = (int)c[best].plan.engine;
    p->info.fused = c[best].fused;
    p->info.compiled = c[best].plan.compiled;
    p->info.plans = n;
    p->info.us = o->target.handle ? c[best].us : 0;
    if (o->target.handle)
        keep_on_disk(p, key);
    return GW_OK;
}

static int check(const gw_cudnn_layer *l)
{
    GW_TRY(gw_conv_desc_check(&l->d));
    const uint32_t least = l->half ? 2 : 4;
    if (l->batch == 0 || l->columns == 0 || l->dst_step < (size_t)l->columns * l->d.out_channels ||
        gw_conv_in_columns(&l->d, l->columns) > INT32_MAX || l->src_align < least || l->dst_align < least ||
        (l->half && l->precision != GW_CUDNN_FP16) || (l->in_place && !l->residual))
        return gw_fail(GW_ERANGE, "convolution for cuDNN: %u x %u columns, steps %zu and %zu make no layer",
                       l->batch, l->columns, l->src_step, l->dst_step);
    return GW_OK;
}

int gw_cudnn_conv_open(gw_cudnn_conv **out, gw_cudnn *c, const gw_cudnn_layer *l, const float *weight,
                       const float *bias)
{
    *out = NULL;
    gw_cudnn_conv *p = calloc(1, sizeof *p);
    if (!p)
        return gw_fail(GW_ENOMEM, "cuDNN: no memory");
    p->owner = c;
    p->l = *l;
    if (p->l.src_align == 0)
        p->l.src_align = 16;
    if (p->l.dst_align == 0)
        p->l.dst_align = 16;
    p->x_values = (size_t)gw_conv_in_columns(&l->d, l->columns) * l->d.in_channels;
    p->y_values = (size_t)l->columns * l->d.out_channels;
    const bool round = l->precision == GW_CUDNN_FP16 && !l->half;
    p->gather = round || (l->batch > 1 && l->src_step < p->x_values);
    p->apart = round || l->in_place;
    char key[KEY_BYTES] = "";
    int err = check(&p->l);
    if (err == GW_OK && c->target.handle)
        err = gw_cudnn_weights_get(&c->weights, c->stream, &l->d, l->precision == GW_CUDNN_FP16, weight, bias,
                                   &p->w);
    if (err == GW_OK && c->target.handle) {
        key_of(p, key);
        err = choose_from_disk(p, key);
    } else if (err == GW_OK) {
        err = GW_EMISSING;
    }
    if (err == GW_EMISSING)
        err = choose(p, bias != NULL, key);
    if (err == GW_OK)
        lay_out(p, (size_t)p->plan.workspace_bytes);
    if (err == GW_OK && c->target.handle)
        err = work_get(c, p->info.workspace_bytes, &p->work);
    if (err != GW_OK) {
        gw_cudnn_conv_close(&p);
        return err;
    }
    *out = p;
    return GW_OK;
}

const gw_cudnn_info *gw_cudnn_conv_info(const gw_cudnn_conv *p)
{
    return &p->info;
}

void gw_cudnn_conv_close(gw_cudnn_conv **out)
{
    gw_cudnn_conv *p = *out;
    if (!p)
        return;
    gw_cudnn_plan_free(&p->owner->target, &p->plan);
    gw_cudnn_weights_drop(&p->owner->weights, p->w);
    free(p);
    *out = NULL;
}
