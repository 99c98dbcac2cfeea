/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream model show`: what a network is, in a page. The layers are those that run: of the plan, or of the
 * simplified file where no plan covers it. */
#include "pipeline/cmd_model.h"

#include "kernels/nn/simplify.h"
#include "pipeline/stages/card.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { TEXT = 200 };

/* Samples that a column sees: "193 from -96" (beside its own place), "a window". */
static const char *sees(const gw_model_facts *f, gw_model_reach r, char *text, size_t n)
{
    if (r.none)
        snprintf(text, n, "-");
    else if (r.window)
        snprintf(text, n, "window");
    else if (r.step > 0)
        snprintf(text, n, "%.0f", r.last - r.first + 1);
    else /* pooled: clipped, the padding is no sample */
        snprintf(text, n, "%.0f", fmin(r.last, (double)f->samples - 1) - fmax(r.first, 0) + 1);
    return text;
}

static void show_file(const gw_model_options *o, const gw_onnx *file)
{
    struct stat s;
    char hash[GW_SHA256_TEXT] = "?";
    printf("%s\n", o->path);
    if (stat(o->path, &s) == 0 && gw_sha256_file(o->path, hash) == GW_OK)
        printf("  %lld bytes, sha256 %s\n", (long long)s.st_size, hash);
    printf("  IR %" PRId64 ", opset %" PRId64 ", %d nodes", file->ir_version, file->opset, file->n_nodes);
    printf(file->producer && file->producer[0] ? ", written by %s\n" : "\n", file->producer);
}

static void show_value(const gw_onnx_value *v)
{
    printf("  %-24s %s [", v->name, gw_array_type_text(v->type));
    for (int i = 0; i < v->rank; i++) {
        if (v->dim[i] >= 0)
            printf("%s%lld", i ? ", " : "", (long long)v->dim[i]);
        else
            printf("%s%s", i ? ", " : "", v->symbol[i] && v->symbol[i][0] ? v->symbol[i] : "?");
    }
    printf("]\n");
}

/* What an output depends on, in words. */
static void show_output(const gw_model_facts *f, int i, const gw_onnx_value *v)
{
    const gw_model_reach r = f->output[i];
    char text[TEXT];
    show_value(v);
    if (r.none || r.window)
        printf("    depends on %s\n", r.none ? "nothing" : "the whole window");
    else if (r.step > 0)
        printf("    a column each %g samples, sees %s: from %.0f before the first of its own to %.0f after "
               "the last\n",
               r.step, sees(f, r, text, sizeof text), fmax(0, -r.first), fmax(0, r.last - (r.step - 1)));
    else
        printf("    one value, sees %s samples of %" PRId64 "\n", sees(f, r, text, sizeof text), f->samples);
}

static void show_row(const char *node, const char *what, const char *shape, uint64_t parameters, double flop,
                     const char *reach, const char *note)
{
    printf("  %-28.28s %-40.40s %-18s %9" PRIu64 " %9.3f %7s%s%s\n", node, what, shape, parameters,
           flop * 1e-6, reach, note ? "  ! " : "", note ? note : "");
}

static const gw_model_layer *layer_named(const gw_model_facts *f, const gw_onnx *m, const char *node)
{
    for (int i = 0; i < m->n_nodes; i++)
        if (strcmp(m->node[i].name, node) == 0)
            return &f->layer[i];
    return NULL;
}

static void show_plan(const gw_net *net, const gw_model_facts *f, const gw_onnx *m)
{
    int count;
    const gw_net_layer *layer = gw_net_layers(net, &count);
    for (int i = 0; i < count; i++) {
        const gw_model_layer *known = layer_named(f, m, layer[i].node);
        char shape[TEXT], reach[TEXT] = "";
        snprintf(shape, sizeof shape, "%u x %u", layer[i].channels, layer[i].columns);
        show_row(layer[i].node, layer[i].what, shape, layer[i].parameters, layer[i].flop,
                 known ? sees(f, known->reach, reach, sizeof reach) : "", layer[i].not_streamable);
    }
}

static void show_nodes(const gw_model_facts *f, const gw_onnx *m)
{
    for (int i = 0; i < m->n_nodes; i++) {
        const gw_model_layer *l = &f->layer[i];
        char shape[TEXT] = "", reach[TEXT];
        if (l->out)
            gw_array_shape_text(l->out->rank, l->out->dim, shape, sizeof shape);
        show_row(l->node->name, l->node->op, shape, l->parameters, l->flop,
                 sees(f, l->reach, reach, sizeof reach), NULL);
    }
}

/* A reason without the name of the file in front of it. */
static const char *plain(const char *reason, const gw_onnx *m)
{
    const size_t n = strlen(m->path);
    return strncmp(reason, m->path, n) == 0 && reason[n] == ':' ? reason + n + 1 + (reason[n + 1] == ' ')
                                                                : reason;
}

/* Whether it can follow a stream, and what that takes. */
static void show_stream(const gw_model_engine *e)
{
    gw_net *net = NULL;
    const gw_net_options want = {.mode = GW_NET_STREAM};
    if (!e->net || gw_net_open(&net, e->m, &e->k, &want) < 0) {
        printf("stream      no: %s\n", e->net ? plain(gw_err_detail(), e->m) : "no plan covers it");
        return;
    }
    const gw_net_info *s = gw_net_get_info(net);
    printf("stream      yes: frames of %u samples, look-ahead %u samples, %.3f MFLOP a frame, %" PRIu64
           " bytes of state\n",
           s->frame_samples, s->lookahead_samples, s->flop * 1e-6, (uint64_t)gw_net_state_bytes(net));
    for (int i = 0; i < s->n_outputs; i++)
        printf("  %-24s %u x %u a frame, %u samples late, as a window's after %u columns\n",
               s->output[i].name, s->output[i].channels, s->output[i].columns, s->output[i].delay_samples,
               s->output[i].warmup_columns);
    gw_net_close(&net);
}

/* The same slide as a stream: a logit each hop. */
static void show_streamed_slide(const gw_model_engine *e, double whole)
{
    gw_net *net = NULL;
    const gw_net_options want = {.mode = GW_NET_STREAM, .part = GW_NET_MERGED};
    if (gw_net_open(&net, e->m, &e->k, &want) < 0)
        return;
    const gw_net_info *i = gw_net_get_info(net);
    printf("  its least hop            %.3f MFLOP for %u columns, %.0f times less\n", i->flop * 1e-6,
           i->hop_samples, whole / i->flop);
    gw_net_close(&net);
}

static void show_meeting(const gw_net *merged)
{
    int count, told = 0;
    const gw_net_layer *layer = gw_net_layers(merged, &count);
    for (int i = 0; i < count; i++)
        if (layer[i].meets)
            printf("%s'%s'", told++ ? ", " : "; split where they meet: ", layer[i].node);
    printf("\n");
}

/* Where the detectors meet, and what a pairing of them costs that is computed already up to there. */
static void show_parts(const gw_model_engine *e)
{
    gw_net *trunk = NULL, *merged = NULL;
    if (!e->net || gw_net_get_info(e->net)->n_channels < 2)
        return;
    if (gw_net_open(&trunk, e->m, &e->k, &(gw_net_options){.part = GW_NET_TRUNK}) < 0 ||
        gw_net_open(&merged, e->m, &e->k, &(gw_net_options){.part = GW_NET_MERGED}) < 0) {
        printf("detectors   not apart: %s\n", plain(gw_err_detail(), e->m));
        gw_net_close(&trunk);
        return;
    }
    const gw_net_info *one = gw_net_get_info(trunk), *slide = gw_net_get_info(merged),
                      *all = gw_net_get_info(e->net);
    printf("detectors   %u apart up to features of %u x %u", slide->n_detectors, slide->n_channels,
           slide->window_samples);
    show_meeting(merged);
    printf("  each of them             %.3f MFLOP a window\n", one->flop * 1e-6);
    printf("  a slide                  %.3f MFLOP a window of features, %.2f times less than a whole one\n",
           slide->flop * 1e-6, all->flop / slide->flop);
    show_streamed_slide(e, all->flop);
    gw_net_close(&trunk);
    gw_net_close(&merged);
}

static void show_metadata(const gw_onnx *file)
{
    const char *key, *value;
    for (int i = 0; gw_onnx_meta_at(file, i, &key, &value); i++) {
        if (i == 0)
            printf("metadata\n");
        printf("  %-28s %s\n", key, value);
    }
}

static void show_cost(const gw_model_engine *e, const gw_model_facts *f)
{
    const double run = e->net ? gw_net_get_info(e->net)->flop : f->flop;
    printf("cost        %.3f MFLOP a window", run * 1e-6);
    if (run < 0.99 * f->flop)
        printf(" (%.3f with the columns that no output depends on)", f->flop * 1e-6);
    printf("\n");
}

static void show_all(const gw_model_options *o, const gw_model_engine *e, const gw_model_facts *f,
                     const gw_onnx *file)
{
    const gw_onnx *m = e->m;
    show_file(o, file);
    printf("inputs\n");
    for (int i = 0; i < file->n_inputs; i++)
        show_value(&file->input[i]);
    printf("outputs\n");
    for (int i = 0; i < m->n_outputs; i++)
        show_output(f, i, &m->output[i]);
    printf("layers\n  %-28s %-40s %-18s %9s %9s %7s\n", "node", "", "output", "weights", "MFLOP", "sees");
    if (e->net)
        show_plan(e->net, f, m);
    else
        show_nodes(f, m);
    printf("weights     %" PRIu64 "\n", f->parameters);
    show_cost(e, f);
    if (e->net)
        printf("engine      planned\n");
    else
        printf("engine      node by node: %s\n", e->why[0] ? plain(e->why, m) : "asked for");
    show_stream(e);
    show_parts(e);
    show_metadata(file);
}

int gw_model_show(const gw_model_options *o)
{
    gw_onnx *file = NULL;
    gw_model_engine e;
    gw_model_facts f;
    GW_TRY(gw_onnx_load(&file, o->path));
    int err = gw_model_engine_open(&e, o, o->batch[0]);
    if (err == GW_OK) {
        err = gw_model_facts_read(&f, e.m);
        if (err == GW_OK) {
            show_all(o, &e, &f, file);
            gw_model_facts_free(&f);
        }
        gw_model_engine_close(&e);
    }
    gw_onnx_free(&file);
    return err;
}
