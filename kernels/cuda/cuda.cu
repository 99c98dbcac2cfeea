/* SPDX-License-Identifier: GPL-3.0-or-later
 * Is there a GPU, and what does it do for the table? */
#include "kernels/cuda/cufft.cuh"

extern "C" {
#include "kernels/cuda/cuda.h"
}

#include <cstdio>
#include <pthread.h>

static char status[512];
static bool usable;
static char name[256];
static gw_device table;

static void look()
{
    int n = 0, device = 0, major = 0, minor = 0, sms = 0;
    cudaDeviceProp what = {};
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaSuccess && n == 0) {
        snprintf(status, sizeof status, "no GPU");
        return;
    }
    if (e == cudaSuccess)
        e = cudaGetDevice(&device);
    if (e == cudaSuccess)
        e = cudaGetDeviceProperties(&what, device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
    if (e != cudaSuccess) {
        cudaGetLastError(); /* a machine without a GPU is no error that a later call should meet */
        snprintf(status, sizeof status, "no GPU%s%s",
                 e == cudaErrorInsufficientDriver ? " with a driver that knows this CUDA" : ": ",
                 e == cudaErrorInsufficientDriver ? "" : cudaGetErrorString(e));
        return;
    }
    usable = major >= 8;
    if (usable) {
        snprintf(name, sizeof name, "%s", what.name);
        gw_device_cuda(&table, name);
        snprintf(status, sizeof status, "%s, %d multiprocessors, %s", what.name, sms,
                 gw_cufft() ? "cuFFT" : "no cuFFT");
    } else {
        snprintf(status, sizeof status, "%s is not used: compute capability %d.%d, wanted 8.0", what.name,
                 major, minor);
    }
}

static void look_once()
{
    static pthread_once_t once = PTHREAD_ONCE_INIT; /* std::call_once would want the C++ library */
    pthread_once(&once, look);
}

const char *gw_cuda_status(void)
{
    look_once();
    return status;
}

const gw_device *gw_cuda_device(void)
{
    look_once();
    return usable ? &table : nullptr;
}

void gw_kernels_cuda(gw_kernels *k)
{
    look_once();
    if (!usable)
        return;
    gw_bulk_cuda(&k->bulk);
    gw_place_cuda(&k->place);
}

void gw_kernels_cuda_all(gw_kernels *k)
{
    gw_kernels_cuda(k);
    if (usable)
        gw_conv_cuda(&k->conv);
}
