/* SPDX-License-Identifier: GPL-3.0-or-later
 * A library that stands where cuDNN would: the part of the graph API that kernels/cuda/cudnn_graph.c uses,
 * for convolutions with what may follow them, computed on the host. Written from cuDNN's documentation, so it
 * shows that we say what we mean, not that cuDNN does it. cudnn_test.cc loads it; its engines are
 *     1  slow                         2  fast, wants working memory
 *     3  faster, by tensor cores      4  fastest, not the same result each time
 *     5  fails when it is run         6  would have to be compiled, and cannot
 * FAKE_CUDNN in the environment: "alone" has nothing that is fused, "nothing" has no engine at all, of
 * "quick" all are fast. Built with FAKE_OLD it says that it is version 8, with FAKE_BROKEN it lacks a call.
 */
#include <cudnn_graph.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef FAKE_BROKEN
#define cudnnBackendExecute by_another_name
#endif
#define CALL __attribute__((visibility("default")))

enum { MOST_ATTRIBUTES = 16 };

/* A graph, flat: what a plan needs to run, and its text. */
typedef struct flat {
    long long engine, batch, in, in_columns, out, columns, groups, kernel, stride, dilation;
    long long x_step, y_step, residual_step, half, bias, residual, act;
    double a;
} flat;

typedef struct object {
    cudnnBackendDescriptorType_t type;
    struct {
        int name;
        int64_t n;
        void *values;
    } attribute[MOST_ATTRIBUTES];
    int n_attributes;
    bool finalised;
    flat f;
} object;

static char last_error[256];

static size_t size_of(int type)
{
    switch (type) {
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    case CUDNN_TYPE_CHAR:
        return 1;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return 8;
    default:
        return 4;
    }
}

static void *find(const object *o, int name)
{
    for (int i = 0; o && i < o->n_attributes; i++)
        if (o->attribute[i].name == name)
            return o->attribute[i].values;
    return NULL;
}

static int64_t count(const object *o, int name)
{
    for (int i = 0; i < o->n_attributes; i++)
        if (o->attribute[i].name == name)
            return o->attribute[i].n;
    return 0;
}

static int64_t number(const object *o, int name, int i)
{
    const int64_t *v = find(o, name);
    return v ? v[i] : 0;
}

static object *part(const object *o, int name, int i)
{
    object **v = find(o, name);
    return v ? v[i] : NULL;
}

static cudnnStatus_t bad(const char *what)
{
    snprintf(last_error, sizeof last_error, "%s", what);
    return CUDNN_STATUS_BAD_PARAM;
}

CALL size_t cudnnGetVersion(void)
{
#ifdef FAKE_OLD
    return 8907;
#else
    return 99900;
#endif
}

CALL const char *cudnnGetErrorString(cudnnStatus_t s)
{
    return s == CUDNN_STATUS_SUCCESS ? "FAKE_SUCCESS" : "FAKE_FAILURE";
}

CALL void cudnnGetLastErrorString(char *to, size_t n)
{
    snprintf(to, n, "%s", last_error);
}

CALL cudnnStatus_t cudnnCreate(cudnnHandle_t *h)
{
    *h = calloc(1, 1);
    return *h ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_INTERNAL_ERROR;
}

CALL cudnnStatus_t cudnnDestroy(cudnnHandle_t h)
{
    free(h);
    return CUDNN_STATUS_SUCCESS;
}

CALL cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t s)
{
    (void)s;
    return h ? CUDNN_STATUS_SUCCESS : bad("no handle");
}

CALL cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                                cudnnBackendDescriptor_t *d)
{
    object *o = calloc(1, sizeof *o);
    if (!o)
        return CUDNN_STATUS_INTERNAL_ERROR;
    o->type = type;
    *d = o;
    return CUDNN_STATUS_SUCCESS;
}

CALL cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    object *o = d;
    for (int i = 0; i < o->n_attributes; i++)
        free(o->attribute[i].values);
    free(o);
    return CUDNN_STATUS_SUCCESS;
}

CALL cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                            cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    object *o = d;
    if (o->finalised || o->n_attributes == MOST_ATTRIBUTES || find(o, (int)name))
        return bad("an attribute too many");
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < n; i++)
            if (!((object *const *)values)[i] || !((object *const *)values)[i]->finalised)
                return bad("a descriptor that is not final");
    const size_t bytes = (size_t)n * size_of((int)type);
    void *copy = malloc(bytes + 1);
    if (!copy)
        return CUDNN_STATUS_INTERNAL_ERROR;
    memcpy(copy, values, bytes);
    ((char *)copy)[bytes] = '\0';
    o->attribute[o->n_attributes].name = (int)name;
    o->attribute[o->n_attributes].n = n;
    o->attribute[o->n_attributes++].values = copy;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- Graphs ---- */

static bool is_inner(const object *tensor)
{
    const bool *v = find(tensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
    return v && *v;
}

static int type_of(const object *tensor)
{
    const int *v = find(tensor, CUDNN_ATTR_TENSOR_DATA_TYPE);
    return v ? *v : -1;
}

static cudnnStatus_t flatten_conv(const object *op, flat *f, const object **now)
{
    const object *x = part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, 0),
                 *w = part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, 0),
                 *c = part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, 0);
    *now = part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, 0);
    if (!x || !w || !c || !*now)
        return bad("half a convolution");
#define DIM(t, i)    number((t), CUDNN_ATTR_TENSOR_DIMENSIONS, (i))
#define STRIDE(t, i) number((t), CUDNN_ATTR_TENSOR_STRIDES, (i))
    f->batch = DIM(x, 0), f->in = DIM(x, 1), f->in_columns = DIM(x, 3), f->x_step = STRIDE(x, 0);
    f->out = DIM(w, 0), f->groups = f->in / DIM(w, 1), f->kernel = DIM(w, 3);
    f->columns = DIM(*now, 3);
    f->stride = number(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 1);
    f->dilation = number(c, CUDNN_ATTR_CONVOLUTION_DILATIONS, 1);
    f->half = type_of(x) == CUDNN_DATA_HALF;
    if (type_of(w) != type_of(x) || DIM(*now, 0) != f->batch || DIM(*now, 1) != f->out || STRIDE(x, 1) != 1 ||
        STRIDE(x, 3) != f->in || STRIDE(w, 1) != 1 || STRIDE(w, 3) != DIM(w, 1) ||
        STRIDE(w, 0) != f->kernel * DIM(w, 1) || STRIDE(*now, 3) != f->out)
        return bad("types or strides of a convolution");
    if (f->x_step < f->in_columns * f->in && f->batch > 1)
        return bad("overlapping strides");
    if ((f->in_columns - (f->kernel - 1) * f->dilation - 1) / f->stride + 1 != f->columns)
        return bad("columns of a convolution");
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t flatten_pointwise(const object *op, flat *f, const object **now)
{
    const object *p = part(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, 0),
                 *x = part(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, 0),
                 *b = part(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, 0),
                 *y = part(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, 0);
    const int *mode = find(p, CUDNN_ATTR_POINTWISE_MODE);
    if (!mode || x != *now || !is_inner(x) || !y)
        return bad("half an operation");
    *now = y;
    if (*mode != CUDNN_POINTWISE_ADD) {
        const double *a =
            find(p, *mode == CUDNN_POINTWISE_ELU_FWD ? CUDNN_ATTR_POINTWISE_ELU_ALPHA
                                                     : CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE);
        f->act = *mode;
        f->a = a ? *a : *mode == CUDNN_POINTWISE_ELU_FWD ? 1 : 0;
        return b ? bad("an activation of two") : CUDNN_STATUS_SUCCESS;
    }
    if (!b || type_of(b) != (f->half ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT))
        return bad("nothing to add");
    if (DIM(b, 3) == 1 && DIM(b, 0) == 1 && DIM(b, 1) == f->out &&
        (f->columns * f->batch > 1 || f->residual)) {
        f->bias = number(b, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0);
    } else {
        f->residual = number(b, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0);
        f->residual_step = STRIDE(b, 0);
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t flatten(object *g)
{
    const object *now = NULL;
    const int n = (int)count(g, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    cudnnStatus_t s = CUDNN_STATUS_SUCCESS;
    for (int i = 0; i < n && s == CUDNN_STATUS_SUCCESS; i++) {
        const object *op = part(g, CUDNN_ATTR_OPERATIONGRAPH_OPS, i);
        s = i == 0 ? flatten_conv(op, &g->f, &now) : flatten_pointwise(op, &g->f, &now);
    }
    if (s == CUDNN_STATUS_SUCCESS && is_inner(now))
        return bad("a graph without an end");
    if (s == CUDNN_STATUS_SUCCESS)
        g->f.y_step = STRIDE(now, 0);
    return s;
}

static long long *numbers(flat *f)
{
    return &f->engine;
}
enum { N_FLAT = 17 };

/* ---- Engines ---- */

static bool wants(const char *what)
{
    const char *v = getenv("FAKE_CUDNN");
    return v && strcmp(v, what) == 0;
}

CALL cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d)
{
    object *o = d;
    cudnnStatus_t s = CUDNN_STATUS_SUCCESS;
    if (o->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
        s = flatten(o);
        if (count(o, CUDNN_ATTR_OPERATIONGRAPH_OPS) > 1 && wants("alone"))
            o->f.engine = -1;
    } else if (o->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) {
        o->f = part(o, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, 0)->f;
        if (o->f.engine == -1 || wants("nothing"))
            return bad("no engine");
    } else if (o->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
        const object *config = part(o, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, 0);
        const char *text = find(o, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
        if (config)
            o->f = config->f;
        for (int i = 0; text && i < N_FLAT; i++) {
            char *end;
            numbers(&o->f)[i] = strtoll(text, &end, 10);
            if (end == text)
                return bad("no plan");
            text = end;
        }
        if (text)
            o->f.a = strtod(text, NULL);
        if (o->f.engine == 6)
            return bad("no compiler");
    }
    o->finalised = s == CUDNN_STATUS_SUCCESS;
    return s;
}

CALL cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const d,
                                            cudnnBackendAttributeName_t name,
                                            cudnnBackendAttributeType_t type, int64_t most, int64_t *n,
                                            void *to)
{
    const object *o = d;
    const int64_t workspace = o->f.engine == 2 ? 1000 : o->f.engine == 3 ? 64 : 0;
    char text[1024];
    int at = 0;
    (void)type;
    *n = 1;
    switch ((int)name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        *n = 6;
        for (int i = 0; i < 6 && i < most; i++) {
            object *config = ((object **)to)[i];
            config->f = o->f;
            config->f.engine = 6 - i;
            config->finalised = true;
        }
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        (*(object **)to)->f = o->f;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
        *(int64_t *)to = o->f.engine;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        *n = o->f.engine == 3 || o->f.engine == 4;
        if (*n > 0)
            *(int *)to =
                o->f.engine == 3 ? CUDNN_NUMERICAL_NOTE_TENSOR_CORE : CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
        *n = o->f.engine == 6;
        if (*n > 0)
            *(int *)to = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        *(int64_t *)to = workspace;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION: {
        flat f = o->f;
        for (int i = 0; i < N_FLAT; i++)
            at += snprintf(text + at, sizeof text - (size_t)at, "%lld ", numbers(&f)[i]);
        at += snprintf(text + at, sizeof text - (size_t)at, "%a", f.a);
        *n = at;
        if (most >= at)
            memcpy(to, text, (size_t)at);
        return CUDNN_STATUS_SUCCESS;
    }
    default:
        return bad("no such attribute");
    }
}

/* ---- Running ---- */

static double load(const void *p, bool half, long long i)
{
    if (!half)
        return (double)((const float *)p)[i];
    const unsigned bits = ((const uint16_t *)p)[i];
    const int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 0x3ff);
    const double size = exponent == 31  ? (double)(fraction ? NAN : INFINITY)
                        : exponent == 0 ? ldexp(fraction, -24)
                                        : ldexp(1024 + fraction, exponent - 25);
    return bits & 0x8000 ? -size : size;
}

/* To the nearest, ties to even. */
static void store(void *p, bool half, long long i, double v)
{
    if (!half) {
        ((float *)p)[i] = (float)v;
        return;
    }
    int e = 0;
    frexp(v, &e);
    e = v == 0 || e < -13 ? -13 : e;                        /* below it the steps are those of 2^-14 */
    const long long steps = llrint(ldexp(fabs(v), 11 - e)); /* 1024 .. 2048 when normal */
    const unsigned sign = signbit(v) ? 0x8000 : 0,
                   bits = e > 16 || !isfinite(v) ? 0x7c00u : (unsigned)((e + 13) * 1024 + steps);
    ((uint16_t *)p)[i] = (uint16_t)(sign | bits);
}

static double activate(const flat *f, double x)
{
    switch (f->act) {
    case CUDNN_POINTWISE_RELU_FWD:
        return x < 0 ? f->a * x : x;
    case CUDNN_POINTWISE_TANH_FWD:
        return tanh(x);
    case CUDNN_POINTWISE_SIGMOID_FWD:
        return 1 / (1 + exp(-x));
    case CUDNN_POINTWISE_ELU_FWD:
        return x < 0 ? f->a * expm1(x) : x;
    case CUDNN_POINTWISE_GELU_FWD:
        return x * (1 + erf(x / sqrt(2))) / 2;
    case CUDNN_POINTWISE_SOFTPLUS_FWD:
        return log1p(exp(x));
    case CUDNN_POINTWISE_SWISH_FWD:
        return x / (1 + exp(-x));
    default:
        return x;
    }
}

/* The emulator's events count a thread's own time. */
static double own_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void work(double seconds)
{
    const double end = own_time() + seconds;
    while (own_time() < end)
        ;
}

static void *array(const object *pack, int64_t id)
{
    for (int i = 0; i < count(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS); i++)
        if (number(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i) == id)
            return ((void **)find(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS))[i];
    return NULL;
}

static void compute(const flat *f, const void *x, const void *w, const void *bias, const void *residual,
                    void *y)
{
    const long long in = f->in / f->groups, out = f->out / f->groups;
    for (long long i = 0; i < f->batch; i++)
        for (long long n = 0; n < f->columns; n++)
            for (long long o = 0; o < f->out; o++) {
                double sum = 0;
                for (long long k = 0; k < f->kernel; k++)
                    for (long long c = 0; c < in; c++)
                        sum += load(w, f->half, (o * f->kernel + k) * in + c) *
                               load(x, f->half,
                                    i * f->x_step + (n * f->stride + k * f->dilation) * f->in + o / out * in +
                                        c);
                if (f->residual)
                    sum += load(residual, f->half, i * f->residual_step + n * f->out + o);
                if (f->bias)
                    sum += load(bias, f->half, o);
                const long long at = i * f->y_step + n * f->out + o;
                store(y, f->half, at, activate(f, sum));
            }
}

CALL cudnnStatus_t cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan,
                                       cudnnBackendDescriptor_t variants)
{
    static const double seconds[] = {0, 2e-3, 7e-4, 2e-4, 0, 0, 0};
    const object *o = plan, *pack = variants;
    const flat *f = &o->f;
    char *workspace = *(char **)find(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    const void *x = array(pack, 1), *w = array(pack, 2), *bias = array(pack, f->bias),
               *residual = array(pack, f->residual);
    void *y = array(pack, 3);
    if (!h || !pack->finalised || f->engine == 5)
        return bad("this one does not run");
    if (!x || !w || !y || (f->bias && !bias) || (f->residual && !residual) || (f->engine > 1 && !workspace))
        return bad("an array is missing");
    for (int i = 0; f->engine == 2 && i < 1000; i++)
        workspace[i] = (char)i;
    compute(f, x, w, bias, residual, y);
    if (!wants("quick"))
        work(seconds[f->engine]);
    return CUDNN_STATUS_SUCCESS;
}
