/* SPDX-License-Identifier: GPL-3.0-or-later
 * A layer as cuDNN's graph of operations, and the plans that cuDNN has for it. A series is an image one row
 * high, channels last: [batch][channels][1][columns] with strides (step, 1, columns * channels, channels).
 *
 * The order conv + residual + bias + activation is the one for which cuDNN has ready engines; with the bias
 * first it must compile one. For the same reason the bias has the arrays' type, values between are float. */
#include "kernels/cuda/cudnn_inside.h"

#include <stdlib.h>
#include <string.h>

typedef cudnnBackendDescriptor_t desc;

enum { MOST_MADE = 64, MOST_COMPILED = 2 /* of a layer's plans: each takes seconds */ };

/* Descriptors in the making. After a failure the rest is skipped. */
typedef struct maker {
    const gw_cudnn_target *t;
    desc made[MOST_MADE];
    int n, err;
} maker;

static desc make(maker *m, cudnnBackendDescriptorType_t type)
{
    desc d = NULL;
    if (m->err != GW_OK)
        return NULL;
    if (m->n == MOST_MADE) {
        m->err = gw_fail(GW_EBUG, "cuDNN: more than %d descriptors", MOST_MADE);
        return NULL;
    }
    const cudnnStatus_t s = m->t->library->cudnnBackendCreateDescriptor(type, &d);
    if (s != CUDNN_STATUS_SUCCESS)
        m->err = gw_cudnn_fail(m->t->library, GW_ENOTSUP, s, "a descriptor");
    else
        m->made[m->n++] = d;
    return d;
}

static void set(maker *m, desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t n, const void *values)
{
    if (m->err != GW_OK)
        return;
    const cudnnStatus_t s = m->t->library->cudnnBackendSetAttribute(d, name, type, n, values);
    if (s != CUDNN_STATUS_SUCCESS)
        m->err = gw_cudnn_fail(m->t->library, GW_ENOTSUP, s, "an attribute");
}

static void set_desc(maker *m, desc d, cudnnBackendAttributeName_t name, desc value)
{
    set(m, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void set_double(maker *m, desc d, cudnnBackendAttributeName_t name, float value)
{
    const double v = (double)value;
    set(m, d, name, CUDNN_TYPE_DOUBLE, 1, &v);
}

static void finish(maker *m, desc d, const char *what)
{
    if (m->err != GW_OK)
        return;
    const cudnnStatus_t s = m->t->library->cudnnBackendFinalize(d);
    if (s != CUDNN_STATUS_SUCCESS)
        m->err = gw_cudnn_fail(m->t->library, GW_ENOTSUP, s, what);
}

static void free_all(maker *m)
{
    while (m->n > 0)
        m->t->library->cudnnBackendDestroyDescriptor(m->made[--m->n]);
}

/* One value of an attribute, which stays as it was if there is none. */
static int64_t get(maker *m, desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                   int64_t most, void *values)
{
    int64_t n = 0;
    if (m->err != GW_OK ||
        m->t->library->cudnnBackendGetAttribute(d, name, type, most, &n, values) != CUDNN_STATUS_SUCCESS)
        return 0;
    return n;
}

/* ---- The graph ---- */

static desc tensor(maker *m, int64_t id, cudnnDataType_t type, const int64_t dim[4], const int64_t stride[4],
                   int64_t align, bool inner)
{
    desc d = make(m, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(m, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    set(m, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(m, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim);
    set(m, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    set(m, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    set(m, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &inner);
    finish(m, d, "tensor");
    return d;
}

static desc series(maker *m, int64_t id, cudnnDataType_t type, uint32_t batch, size_t step, uint64_t columns,
                   uint32_t channels, int64_t align, bool inner)
{
    const int64_t w = (int64_t)columns, c = channels;
    return tensor(m, id, type, (int64_t[]){batch, c, 1, w}, (int64_t[]){(int64_t)step, 1, w * c, c}, align,
                  inner);
}

static desc convolution(maker *m, const gw_conv_desc *d, desc x, desc w, desc y)
{
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t two = 2, pad[2] = {0, 0}, stride[2] = {1, d->stride}, dilation[2] = {1, d->dilation};
    const float one = 1, zero = 0;
    desc c = make(m, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(m, c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    set(m, c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(m, c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    set(m, c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    set(m, c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(m, c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(m, c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    finish(m, c, "convolution");
    desc op = make(m, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    set(m, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    set(m, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    set_desc(m, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    set_desc(m, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    set_desc(m, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    set_desc(m, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, c);
    finish(m, op, "convolution");
    return op;
}

/* y = x + b, or an activation of x with b NULL. */
static desc pointwise(maker *m, gw_act act, desc x, desc b, desc y)
{
    static const cudnnPointwiseMode_t modes[GW_ACT_COUNT] = {
        [GW_ACT_RELU] = CUDNN_POINTWISE_RELU_FWD,       [GW_ACT_TANH] = CUDNN_POINTWISE_TANH_FWD,
        [GW_ACT_SIGMOID] = CUDNN_POINTWISE_SIGMOID_FWD, [GW_ACT_LEAKY_RELU] = CUDNN_POINTWISE_RELU_FWD,
        [GW_ACT_ELU] = CUDNN_POINTWISE_ELU_FWD,         [GW_ACT_SILU] = CUDNN_POINTWISE_SWISH_FWD,
        [GW_ACT_GELU] = CUDNN_POINTWISE_GELU_FWD,       [GW_ACT_SOFTPLUS] = CUDNN_POINTWISE_SOFTPLUS_FWD,
        [GW_ACT_CLIP] = CUDNN_POINTWISE_RELU_FWD,
    };
    const cudnnPointwiseMode_t mode = b ? CUDNN_POINTWISE_ADD : modes[act.kind];
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    desc p = make(m, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(m, p, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(m, p, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
    if (!b && act.kind == GW_ACT_LEAKY_RELU)
        set_double(m, p, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, act.a);
    if (!b && act.kind == GW_ACT_ELU)
        set_double(m, p, CUDNN_ATTR_POINTWISE_ELU_ALPHA, act.a);
    if (!b && act.kind == GW_ACT_CLIP) {
        set_double(m, p, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, act.a);
        set_double(m, p, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, act.b);
    }
    finish(m, p, "pointwise");
    desc op = make(m, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_desc(m, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, p);
    set_desc(m, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b)
        set_desc(m, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    set_desc(m, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finish(m, op, "pointwise");
    return op;
}

static desc graph_of(maker *m, const gw_cudnn_shape *s)
{
    const gw_conv_desc *d = &s->d;
    const cudnnDataType_t type = s->half ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
    const int64_t each = d->in_channels / d->groups, taps = d->kernel, out = d->out_channels;
    const size_t dense = (size_t)s->columns * d->out_channels;
    int left = (s->residual ? 1 : 0) + (s->bias ? 1 : 0) + (d->act.kind != GW_ACT_NONE ? 1 : 0), n = 0;
    desc op[4];

    desc x = series(m, GW_CUDNN_X, type, s->batch, s->x_step, gw_conv_in_columns(d, s->columns),
                    d->in_channels, s->x_align, false);
    desc w = tensor(m, GW_CUDNN_W, type, (int64_t[]){out, each, 1, taps},
                    (int64_t[]){taps * each, 1, taps * each, each}, 16, false);
    desc y = series(m, GW_CUDNN_Y, type, s->batch, s->y_step, s->columns, d->out_channels, s->y_align, false);
#define NEXT()                                                                                               \
    (left-- == 0                                                                                             \
         ? y                                                                                                 \
         : series(m, 100 + left, CUDNN_DATA_FLOAT, s->batch, dense, s->columns, d->out_channels, 16, true))
    desc now = NEXT();
    op[n++] = convolution(m, d, x, w, now);
    if (s->residual) {
        desc r = series(m, GW_CUDNN_RESIDUAL, type, s->batch, s->residual_step, s->columns, d->out_channels,
                        s->y_align, false);
        desc next = NEXT();
        op[n++] = pointwise(m, d->act, now, r, next);
        now = next;
    }
    if (s->bias) {
        desc b = tensor(m, GW_CUDNN_BIAS, type, (int64_t[]){1, out, 1, 1}, (int64_t[]){out, 1, out, out}, 16,
                        false);
        desc next = NEXT();
        op[n++] = pointwise(m, d->act, now, b, next);
        now = next;
    }
    if (d->act.kind != GW_ACT_NONE)
        op[n++] = pointwise(m, d->act, now, NULL, NEXT());
#undef NEXT
    desc g = make(m, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (m->t->handle)
        set(m, g, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &m->t->handle);
    set(m, g, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, op);
    finish(m, g, "graph");
    return g;
}

/* ---- Plans ---- */

static void on_target(maker *m, desc plan)
{
    if (m->t->handle)
        set(m, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &m->t->handle);
    else
        set_desc(m, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, m->t->description);
}

/* Does the engine compute as exactly as was asked, and the same each time? */
static bool is_exact(maker *m, desc engine, gw_cudnn_precision precision)
{
    cudnnBackendNumericalNote_t note[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    const int64_t n = get(m, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                          CUDNN_NUMERICAL_NOTE_TYPE_COUNT, note);
    for (int64_t i = 0; i < n; i++)
        if (note[i] != CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP &&
            (note[i] != CUDNN_NUMERICAL_NOTE_TENSOR_CORE || precision == GW_CUDNN_FP32))
            return false;
    return true;
}

static bool is_compiled(maker *m, desc engine)
{
    cudnnBackendBehaviorNote_t note[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    const int64_t n = get(m, engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                          CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, note);
    for (int64_t i = 0; i < n; i++)
        if (note[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION)
            return true;
    return false;
}

/* One configuration that cuDNN proposes, if it will do. */
static bool try_config(const gw_cudnn_target *t, desc config, const gw_cudnn_shape *s,
                       const gw_cudnn_plan *made, int n_made, gw_cudnn_plan *plan, int *left_out)
{
    maker m = {.t = t};
    desc engine = make(&m, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    get(&m, config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine);
    *plan = (gw_cudnn_plan){.engine = -1};
    get(&m, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &plan->engine);
    plan->compiled = is_compiled(&m, engine);
    int compiled = 0;
    for (int i = 0; i < n_made; i++)
        compiled += made[i].compiled;
    bool good = m.err == GW_OK && is_exact(&m, engine, s->precision) &&
                !(plan->compiled && compiled == MOST_COMPILED);
    if (good) {
        desc p = make(&m, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        set_desc(&m, p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
        on_target(&m, p);
        finish(&m, p, "plan");
        get(&m, p, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &plan->workspace_bytes);
        good = m.err == GW_OK;
        if (good)
            plan->plan = m.made[--m.n]; /* not to be freed */
        else
            *left_out += plan->compiled;
    }
    free_all(&m);
    return good;
}

int gw_cudnn_plans(const gw_cudnn_target *t, const gw_cudnn_shape *s, gw_cudnn_plan *plan, int most,
                   int *left_out)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    maker m = {.t = t};
    desc graph = graph_of(&m, s);
    int n = 0, unused = 0; /* the second list repeats much of the first */
    for (int i = 0; i < 2 && n < most && m.err == GW_OK; i++) {
        maker h = {.t = t};
        desc heuristic = make(&h, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), config[32];
        set_desc(&h, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
        set(&h, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &modes[i]);
        if (!t->handle)
            set_desc(&h, heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, t->description);
        finish(&h, heuristic, "heuristics");
        const int64_t offered =
            get(&h, heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, NULL);
        const int64_t room = offered < 32 ? offered : 32;
        for (int64_t j = 0; j < room; j++)
            config[j] = make(&h, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        const int64_t there = get(&h, heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                  room, room > 0 ? config : NULL);
        if (i == 0 && there < room) /* some that must be compiled are only counted where that cannot be */
            *left_out += (int)(room - there);
        const int before = n;
        for (int64_t j = 0; j < there && n < most && h.err == GW_OK; j++) {
            if (!try_config(t, config[j], s, plan, n, &plan[n], i == 0 ? left_out : &unused))
                continue;
            bool again = false;
            for (int k = 0; k < before; k++)
                again = again || plan[k].engine == plan[n].engine;
            if (again)
                gw_cudnn_plan_free(t, &plan[n]);
            else
                n++;
        }
        free_all(&h);
    }
    free_all(&m);
    return m.err != GW_OK ? m.err : n;
}

void gw_cudnn_plan_free(const gw_cudnn_target *t, gw_cudnn_plan *p)
{
    if (p->plan)
        t->library->cudnnBackendDestroyDescriptor(p->plan);
    p->plan = NULL;
}

int gw_cudnn_plan_text(const gw_cudnn_target *t, const gw_cudnn_plan *p, char **text)
{
    int64_t n = 0;
    *text = NULL;
    cudnnStatus_t s = t->library->cudnnBackendGetAttribute(
        p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &n, NULL);
    char *to = s == CUDNN_STATUS_SUCCESS && n > 0 ? calloc((size_t)n + 1, 1) : NULL;
    if (to)
        s = t->library->cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                                 CUDNN_TYPE_CHAR, n, &n, to);
    if (!to || s != CUDNN_STATUS_SUCCESS) {
        free(to);
        return gw_cudnn_fail(t->library, GW_ENOTSUP, s, "a plan as text");
    }
    *text = to;
    return GW_OK;
}

int gw_cudnn_plan_from(const gw_cudnn_target *t, const char *text, gw_cudnn_plan *p)
{
    maker m = {.t = t};
    desc d = make(&m, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    on_target(&m, d);
    set(&m, d, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text), text);
    finish(&m, d, "a plan from text");
    *p = (gw_cudnn_plan){.engine = -1};
    get(&m, d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &p->workspace_bytes);
    const int err = m.err;
    if (err == GW_OK)
        p->plan = m.made[--m.n];
    free_all(&m);
    return err;
}

int gw_cudnn_plan_run(const gw_cudnn_target *t, const gw_cudnn_plan *p, int n, const int64_t *id,
                      void *const *data, void *workspace)
{
    maker m = {.t = t};
    desc pack = make(&m, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&m, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, id);
    set(&m, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, data);
    set(&m, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finish(&m, pack, "arrays");
    if (m.err == GW_OK) {
        const cudnnStatus_t s = t->library->cudnnBackendExecute(t->handle, p->plan, pack);
        if (s != CUDNN_STATUS_SUCCESS)
            m.err = gw_cudnn_fail(t->library, GW_ESYSTEM, s, "running a plan");
    }
    free_all(&m);
    return m.err;
}

int gw_cudnn_target_describe(gw_cudnn_target *t)
{
    static const char h200[] =
        "{\"cudaDeviceId\":0,\"deviceVer\":900,\"driverVer\":13000,\"deviceName\":\"NVIDIA "
        "H200\",\"isTccDriver\":0,"
        "\"l2CacheSize\":62914560,\"maxBlockSize\":[1024,1024,64],\"maxCtasPerSM\":32,"
        "\"maxGridSize\":[2147483647,65535,65535],\"maxRegistersPerSM\":65536,\"maxSharedMemoryPerBlock\":"
        "49152,"
        "\"maxSharedMemoryPerBlockOptin\":232448,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,"
        "\"memClockRateKHz\":3201000,\"multiProcessorCount\":132,\"pciDeviceId\":1,\"regsPerBlock\":65536,"
        "\"reservedSharedMemoryPerBlock\":1024,\"smClockRateKHz\":1980000,\"supportCoopLaunch\":1,"
        "\"totalGlobalMem\":150754820096,\"warpSize\":32}";
    if (t->library->version < 90800)
        return gw_fail(GW_EMISSING, "cuDNN %s cannot plan for a described device: that came with 9.8",
                       gw_cudnn_status());
    maker m = {.t = t};
    desc d = make(&m, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    set(&m, d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, sizeof h200 - 1, h200);
    finish(&m, d, "description of a device");
    if (m.err == GW_OK)
        t->description = m.made[--m.n];
    free_all(&m);
    return m.err;
}
