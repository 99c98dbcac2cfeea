/* SPDX-License-Identifier: GPL-3.0-or-later
 * LSTM with ONNX's default activations, one or both directions, all sequences of one length, without
 * clip and input_forget. Gates come in ONNX's order: input, output, forget, cell. */
#include "kernels/ref/tensor.h"

#include <math.h>
#include <string.h>

typedef struct lstm {
    int64_t steps, batch, in, hidden, directions;
    bool reverse, batch_first;
} lstm;

static bool is(const gw_tensor *t, int rank, const int64_t *dim)
{
    return !t || (t->rank == rank && memcmp(t->dim, dim, (size_t)rank * sizeof *dim) == 0);
}

static int lstm_of(const gw_tensor_call *c, lstm *l)
{
    const gw_tensor *x = c->in[0], *w = c->in[1];
    const char *direction = gw_op_text(c, "direction", "forward");
    const bool both = strcmp(direction, "bidirectional") == 0;
    l->reverse = strcmp(direction, "reverse") == 0;
    l->batch_first = gw_op_int(c, "layout", 0) != 0;
    if (!both && !l->reverse && strcmp(direction, "forward") != 0)
        return gw_op_fail(c, GW_EFORMAT, "direction '%s'", direction);
    if (gw_onnx_attr_find(c->node, "clip") || gw_onnx_attr_find(c->node, "activations") ||
        gw_op_int(c, "input_forget", 0))
        return gw_op_fail(c, GW_ENOTSUP, "clip, other activations or input_forget");
    if (x->rank != 3 || w->rank != 3 || w->dim[1] % 4 || w->dim[1] < 4)
        return gw_op_fail(c, GW_EMISMATCH, "an input and weights of three dimensions are needed");
    l->steps = x->dim[l->batch_first];
    l->batch = x->dim[!l->batch_first];
    l->in = x->dim[2];
    l->hidden = w->dim[1] / 4;
    l->directions = both ? 2 : 1;
    const int64_t d = l->directions, h = l->hidden, b = l->batch;
    const int64_t state[3] = {l->batch_first ? b : d, l->batch_first ? d : b, h};
    if (!is(w, 3, (int64_t[]){d, 4 * h, l->in}) || !is(c->in[2], 3, (int64_t[]){d, 4 * h, h}) ||
        !is(gw_op_in(c, 3), 2, (int64_t[]){d, 8 * h}) || !is(gw_op_in(c, 5), 3, state) ||
        !is(gw_op_in(c, 6), 3, state) || !is(gw_op_in(c, 7), 2, (int64_t[]){d, 3 * h}))
        return gw_op_fail(c, GW_EMISMATCH, "its weights, bias or states do not fit each other");
    const gw_tensor *lengths = gw_op_in(c, 4);
    bool full = !lengths || (lengths->data && gw_tensor_elements(lengths) == (size_t)b);
    for (int64_t i = 0; lengths && full && i < b; i++)
        full = gw_op_get_int(lengths, (size_t)i) == l->steps;
    if (!full)
        return gw_op_fail(c, GW_ENOTSUP, "sequences of several lengths");
    for (int i = 1; i < 8; i++)
        if (i != 4 && gw_op_in(c, i) && c->in[i]->type != x->type)
            return gw_op_fail(c, GW_EMISMATCH, "inputs 0 and %d differ in type", i);
    return GW_OK;
}

static int lstm_shape(gw_tensor_call *c)
{
    lstm l;
    GW_TRY(lstm_of(c, &l));
    const gw_onnx_type type = c->in[0]->type;
    if (l.batch_first) {
        GW_TRY(gw_op_set(c, 0, type, 4, (int64_t[]){l.batch, l.steps, l.directions, l.hidden}));
        for (int i = 1; i < 3; i++)
            GW_TRY(gw_op_set(c, i, type, 3, (int64_t[]){l.batch, l.directions, l.hidden}));
    } else {
        GW_TRY(gw_op_set(c, 0, type, 4, (int64_t[]){l.steps, l.directions, l.batch, l.hidden}));
        for (int i = 1; i < 3; i++)
            GW_TRY(gw_op_set(c, i, type, 3, (int64_t[]){l.directions, l.batch, l.hidden}));
    }
    c->work =
        4.0 * (double)(l.steps * l.batch) * (double)(l.directions * l.hidden) * (double)(l.in + l.hidden);
    c->scratch_bytes = (size_t)(6 * l.hidden) * sizeof(double); /* four gates, h, cell */
    return GW_OK;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* One sequence of one direction. s: [gates of 4][hidden], h, cell. */
static void sequence(const gw_tensor_call *c, const lstm *l, int64_t d, int64_t b, double *s)
{
    const gw_tensor *x = c->in[0], *w = c->in[1], *r = c->in[2], *bias = gw_op_in(c, 3),
                    *peep = gw_op_in(c, 7);
    const int64_t n = l->hidden;
    const size_t state = (size_t)((l->batch_first ? b * l->directions + d : d * l->batch + b) * n);
    double *h = s + 4 * n, *cell = s + 5 * n;
    for (int64_t i = 0; i < n; i++) {
        h[i] = gw_op_in(c, 5) ? gw_op_get(c->in[5], state + (size_t)i) : 0;
        cell[i] = gw_op_in(c, 6) ? gw_op_get(c->in[6], state + (size_t)i) : 0;
    }
    for (int64_t k = 0; k < l->steps; k++) {
        const int64_t t = l->reverse || d == 1 ? l->steps - 1 - k : k;
        const size_t row = (size_t)((l->batch_first ? b * l->steps + t : t * l->batch + b) * l->in);
        for (int64_t g = 0; g < 4 * n; g++) {
            double sum = bias ? gw_op_get(bias, (size_t)(d * 8 * n + g)) +
                                    gw_op_get(bias, (size_t)((d * 8 + 4) * n + g))
                              : 0;
            for (int64_t i = 0; i < l->in; i++)
                sum += gw_op_get(w, (size_t)((d * 4 * n + g) * l->in + i)) * gw_op_get(x, row + (size_t)i);
            for (int64_t i = 0; i < n; i++)
                sum += gw_op_get(r, (size_t)((d * 4 * n + g) * n + i)) * h[i];
            s[g] = sum;
        }
        for (int64_t i = 0; i < n; i++) {
            const double p[3] = {peep ? gw_op_get(peep, (size_t)(d * 3 * n + i)) : 0,
                                 peep ? gw_op_get(peep, (size_t)((d * 3 + 1) * n + i)) : 0,
                                 peep ? gw_op_get(peep, (size_t)((d * 3 + 2) * n + i)) : 0};
            const double in = sigmoid(s[i] + p[0] * cell[i]), forget = sigmoid(s[2 * n + i] + p[2] * cell[i]);
            cell[i] = forget * cell[i] + in * tanh(s[3 * n + i]);
            h[i] = sigmoid(s[n + i] + p[1] * cell[i]) * tanh(cell[i]);
            const int64_t place = l->batch_first ? (b * l->steps + t) * l->directions + d
                                                 : (t * l->directions + d) * l->batch + b;
            gw_op_put(c->out[0], (size_t)(place * n + i), h[i]);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        if (gw_op_out(c, 1))
            gw_op_put(c->out[1], state + (size_t)i, h[i]);
        if (gw_op_out(c, 2))
            gw_op_put(c->out[2], state + (size_t)i, cell[i]);
    }
}

static int lstm_run(gw_tensor_call *c)
{
    lstm l = {0};
    GW_TRY(lstm_of(c, &l));
    for (int64_t d = 0; d < l.directions; d++)
        for (int64_t b = 0; b < l.batch; b++)
            sequence(c, &l, d, b, c->scratch);
    return GW_OK;
}

const gw_tensor_op gw_ops_lstm[] = {
    {"LSTM",
     "activation_alpha:F activation_beta:F activations:s clip:f direction:s hidden_size:i input_forget:i "
     "layout:i",
     3, 8, 1, GW_T_FLOATS, 3, lstm_shape, lstm_run, NULL},
    {0},
};
