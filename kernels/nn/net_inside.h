/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a net consists of: shared by net.c (opening) and net_run.c (running). Nobody else includes this. */
#ifndef GW_NET_INSIDE_H
#define GW_NET_INSIDE_H

#include "kernels/nn/net.h"
#include "kernels/nn/place.h"
#include "kernels/nn/plan.h"

#include <stdatomic.h>

/* A convolution made ready. It is only read, so nets share it. */
typedef struct gw_netconv {
    gw_conv *conv;
    atomic_int users;
    gw_conv_desc d;
    gw_conv_ops ops;
    uint64_t sum; /* of its weights */
} gw_netconv;

struct gw_net {
    gw_netplan *plan;
    gw_place_ops ops;
    gw_place *place;
    gw_net_mode mode;
    gw_netconv **conv;           /* [n_steps]; NULL where the step is none */
    float *memory;               /* of the place, as all arrays are */
    float *given;                /* scale and bias of norms and the like, or NULL: they are the plan's */
    const float **scale, **bias; /* [n_steps], where they are wanted */
    size_t memory_floats;
    gw_place_array *array; /* [n_buffers]: the first new column */
    gw_place_array input;  /* ... of the input */
    gw_place_past *past;   /* [n_past]; stream: the columns before the new ones */
    gw_place_output *form; /* [n_outputs] */
    float **out;           /* [n_outputs], for a pass */
    int n_past;
    bool whole;        /* every pass computes a whole batch: tuned layers know no other */
    double *scratch;   /* for norms */
    uint64_t mark;     /* of everything that a stream's state depends on */
    uint64_t function; /* of everything that its outputs depend on */
    gw_net_info info;
    gw_net_output *output;
    gw_net_layer *layer;
};

/* The call of a convolution, step i, in a pass (net_run.c). */
gw_conv_io gw_net_conv_io(const gw_net *n, int i, uint32_t windows);
/* Runs the steps of a whole batch on nothing, for a place that records (net_run.c). */
int gw_net_record(gw_net *n);

#endif
