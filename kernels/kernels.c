/* SPDX-License-Identifier: GPL-3.0-or-later
 * Fills the table: ref first, then whatever is better and allowed. */
#include "kernels/kernels.h"

#ifdef GW_HAVE_CUDA
#include "kernels/cuda/cuda.h"
#endif

int gw_kernels_init(gw_kernels *k, gw_kernels_level best)
{
    *k = (gw_kernels){0};
    gw_fir_ref(&k->fir);
    gw_spectrum_ref(&k->spectrum);
    gw_minphase_ref(&k->minphase);
    gw_conv_ref(&k->conv);
    gw_tensor_ref(&k->tensor);
    gw_bulk_ref(&k->bulk);
    if (best >= GW_KERNELS_CPU) {
        gw_fir_cpu(&k->fir);
        gw_spectrum_cpu(&k->spectrum);
        gw_minphase_cpu(&k->minphase);
        gw_conv_cpu(&k->conv);
        gw_tensor_cpu(&k->tensor);
        gw_bulk_cpu(&k->bulk);
    }
#ifdef GW_HAVE_CUDA
    if (best >= GW_KERNELS_CUDA)
        gw_kernels_cuda(k);
#endif
    return GW_OK;
}

const gw_device *gw_kernels_device(void)
{
#ifdef GW_HAVE_CUDA
    return gw_cuda_device();
#else
    return NULL;
#endif
}
