/* SPDX-License-Identifier: GPL-3.0-or-later
 * Runs any simplified model (simplify.h) node by node on row-major tensors as ONNX describes them: the
 * truth beside which the planned networks (plan.h, net.h) are held, the engine behind constant folding, and
 * what runs a model that no plan covers. Every operator is a function over tensors in kernels/ref (plain C,
 * double sums); kernels/cpu replaces the heavy ones (Conv, ConvTranspose, MatMul, Gemm, pools) by oneDNN.
 * Memory is planned at open; running allocates nothing. One gw_exec is for one thread at a time. */
#ifndef GW_EXEC_H
#define GW_EXEC_H

#include "kernels/kernels.h"
#include "kernels/nn/onnx.h"

typedef struct gw_exec gw_exec;

/* m: simplified, must outlive the exec. */
int gw_exec_open(gw_exec **e, const gw_onnx *m, const gw_kernels *k);
void gw_exec_close(gw_exec **e);
/* in: [n_inputs], dims and types as the model's inputs (GW_EMISMATCH, naming the input). out[n_outputs] is
 * filled with tensors that belong to the exec and stay until the next run. */
int gw_exec_run(gw_exec *e, const gw_tensor *in, gw_tensor *out);

/* Is there an operator of this domain, name and opset? For the list of the unknown. */
bool gw_exec_knows(const char *domain, const char *op, int64_t opset);

#endif
