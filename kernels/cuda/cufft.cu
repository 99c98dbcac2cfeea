/* SPDX-License-Identifier: GPL-3.0-or-later
 * Finds cuFFT (cufft.cuh). */
#include "kernels/cuda/cufft.cuh"

#include <cufft.h>
#include <dlfcn.h>
#include <pthread.h>

static_assert(int(CUFFT_R2C) == int(GW_CUFFT_R2C) && int(CUFFT_C2R) == int(GW_CUFFT_C2R),
              "cuFFT's own numbers");
static_assert(sizeof(cufftHandle) == sizeof(int) && sizeof(cufftComplex) == sizeof(float2),
              "cuFFT's own types");

static gw_cufft_calls calls;
static const gw_cufft_calls *found;

template <typename F> static bool look_up(void *library, const char *name, F *call)
{
    *call = reinterpret_cast<F>(dlsym(library, name));
    return *call != nullptr;
}

static void find()
{
    for (const char *name : {"libcufft.so.12", "libcufft.so.11", "libcufft.so"}) {
        void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (!library)
            continue;
        if (look_up(library, "cufftPlanMany", &calls.plan_many) &&
            look_up(library, "cufftSetStream", &calls.set_stream) &&
            look_up(library, "cufftExecR2C", &calls.forward) &&
            look_up(library, "cufftExecC2R", &calls.inverse) &&
            look_up(library, "cufftDestroy", &calls.destroy)) {
            found = &calls; /* stays open as long as the program runs */
            return;
        }
        dlclose(library);
    }
}

const gw_cufft_calls *gw_cufft()
{
    static pthread_once_t once = PTHREAD_ONCE_INIT; /* std::call_once would want the C++ library */
    pthread_once(&once, find);
    return found;
}
