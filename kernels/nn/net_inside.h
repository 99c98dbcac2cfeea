/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a net consists of: shared by net.c (opening) and net_run.c (running). Nobody else includes this. */
#ifndef GW_NET_INSIDE_H
#define GW_NET_INSIDE_H

#include "kernels/nn/net.h"
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
    gw_conv_ops ops;
    gw_net_mode mode;
    gw_netconv **conv; /* [n_steps]; NULL where the step is none */
    float *memory;
    size_t memory_floats;
    float **column0; /* [n_buffers]: the first new column of window 0 */
    size_t *step;    /* [n_buffers]: floats from window to window */
    double *scratch; /* for norms */
    uint64_t mark;   /* of everything that a stream's state depends on */
    gw_net_info info;
    gw_net_output *output;
    gw_net_layer *layer;
};

#endif
