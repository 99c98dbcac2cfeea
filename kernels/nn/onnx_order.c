/* SPDX-License-Identifier: GPL-3.0-or-later
 * Who makes which name in an ONNX graph, and the order of its nodes. */
#include "kernels/nn/onnx_reader.h"

#include <stdlib.h>
#include <string.h>

typedef struct maker { /* who makes a name: a node, or nobody (-1: an input, -2: an initialiser) */
    const char *name;
    int node;
} maker;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const maker *)a)->name, ((const maker *)b)->name);
}

static const maker *find_maker(const maker *table, size_t n, const char *name)
{
    const maker key = {name, 0};
    return bsearch(&key, table, n, sizeof *table, by_name);
}

/* Sorted, so that no choice of names makes it slow. */
static int name_table(gw_onnx_reader *o, const maker **out, size_t *count)
{
    const gw_onnx *m = &o->m;
    size_t n = (size_t)m->n_inputs + (size_t)m->n_initialisers;
    for (int i = 0; i < m->n_nodes; i++)
        n += (size_t)m->node[i].n_out;
    maker *table = gw_onnx_take(o, n, sizeof *table);
    if (!table)
        return o->err;
    n = 0;
    for (int i = 0; i < m->n_inputs; i++)
        table[n++] = (maker){m->input[i].name, -1};
    for (int i = 0; i < m->n_initialisers; i++)
        table[n++] = (maker){m->initialiser[i].name, -2};
    for (int i = 0; i < m->n_nodes; i++)
        for (int k = 0; k < m->node[i].n_out; k++)
            if (m->node[i].out[k][0] != '\0')
                table[n++] = (maker){m->node[i].out[k], i};
    qsort(table, n, sizeof *table, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(table[i - 1].name, table[i].name) == 0)
            return gw_onnx_fail(o, GW_EFORMAT, "'%s' is made twice", table[i].name);
    *out = table;
    *count = n;
    return GW_OK;
}

/* Kahn's algorithm over the nodes; the file's own order stays wherever it is legal. */
static int sort_nodes(gw_onnx_reader *o, const maker *table, size_t n_names)
{
    gw_onnx *m = &o->m;
    const size_t n = (size_t)m->n_nodes;
    size_t n_edges = 0;
    bool in_order = true;
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < m->node[i].n_in; k++) {
            const char *name = m->node[i].in[k];
            if (name[0] == '\0')
                continue;
            const maker *from = find_maker(table, n_names, name);
            if (!from)
                return gw_onnx_fail(o, GW_EFORMAT, "node '%s' uses '%s', which nothing makes",
                                    m->node[i].name, name);
            n_edges += from->node >= 0;
            in_order &= from->node < (int)i;
        }
    }
    if (in_order)
        return GW_OK;
    int *waits = gw_onnx_take(o, n, sizeof *waits), *queue = gw_onnx_take(o, n, sizeof *queue);
    int *first = gw_onnx_take(o, n, sizeof *first); /* edges as linked lists: of each node, and onwards */
    int *next = gw_onnx_take(o, n_edges, sizeof *next), *to = gw_onnx_take(o, n_edges, sizeof *to);
    gw_onnx_node *sorted = gw_onnx_take(o, n, sizeof *sorted);
    if (!waits || !queue || !first || !next || !to || !sorted)
        return o->err;
    for (size_t i = 0; i < n; i++) {
        waits[i] = 0;
        first[i] = -1;
    }
    int edge = 0;
    size_t head = 0, tail = 0;
    for (size_t i = n; i-- > 0;) {
        for (int k = 0; k < m->node[i].n_in; k++) {
            const char *name = m->node[i].in[k];
            const maker *from = name[0] ? find_maker(table, n_names, name) : NULL;
            if (!from || from->node < 0)
                continue;
            to[edge] = (int)i;
            next[edge] = first[from->node];
            first[from->node] = edge++;
            waits[i]++;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (waits[i] == 0)
            queue[tail++] = (int)i;
    while (head < tail) {
        const int i = queue[head];
        sorted[head++] = m->node[i];
        for (int e = first[i]; e >= 0; e = next[e])
            if (--waits[to[e]] == 0)
                queue[tail++] = to[e];
    }
    if (head < n)
        return gw_onnx_fail(o, GW_EFORMAT, "%zu nodes form a loop", n - head);
    m->node = sorted;
    return GW_OK;
}

/* Old files list their initialisers among the inputs too, as defaults. */
static int drop_default_inputs(gw_onnx_reader *o)
{
    gw_onnx *m = &o->m;
    const size_t n = (size_t)m->n_initialisers;
    maker *weights = gw_onnx_take(o, n, sizeof *weights);
    gw_onnx_value *kept = gw_onnx_take(o, (size_t)m->n_inputs, sizeof *kept);
    if (!weights || !kept)
        return o->err;
    for (size_t i = 0; i < n; i++)
        weights[i] = (maker){m->initialiser[i].name, -2};
    qsort(weights, n, sizeof *weights, by_name);
    int n_kept = 0;
    for (int i = 0; i < m->n_inputs; i++)
        if (!find_maker(weights, n, m->input[i].name))
            kept[n_kept++] = m->input[i];
    m->input = kept;
    m->n_inputs = n_kept;
    return GW_OK;
}

int gw_onnx_order(gw_onnx_reader *o)
{
    const gw_onnx *m = &o->m;
    const maker *table = NULL;
    size_t n_names = 0;
    GW_TRY(drop_default_inputs(o));
    GW_TRY(name_table(o, &table, &n_names));
    GW_TRY(sort_nodes(o, table, n_names));
    for (int i = 0; i < m->n_outputs; i++)
        if (!find_maker(table, n_names, m->output[i].name))
            return gw_onnx_fail(o, GW_EFORMAT, "nothing makes the output '%s'", m->output[i].name);
    return GW_OK;
}
