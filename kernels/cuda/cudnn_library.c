/* SPDX-License-Identifier: GPL-3.0-or-later
 * Finds cuDNN: one small library that loads the large ones (heuristics, engines) when they are wanted. */
#include "kernels/cuda/cudnn_inside.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OLDEST = 90000, NEXT = 100000 }; /* the numbers of cudnn_graph.h are those of version 9 */

static int load(gw_cudnn_library *l, const char *path)
{
    static const struct {
        const char *name;
        size_t at;
    } call[] = {
#define X(name) {#name, offsetof(gw_cudnn_library, name)},
        GW_CUDNN_CALLS(X)
#undef X
    };
    *l = (gw_cudnn_library){.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    if (!l->handle)
        return gw_fail(GW_EMISSING, "none: %s", dlerror());
    const char *missing = NULL;
    for (size_t i = 0; i < sizeof call / sizeof *call; i++) {
        void *p = dlsym(l->handle, call[i].name);
        memcpy((char *)l + call[i].at, &p, sizeof p);
        if (!p && !missing)
            missing = call[i].name;
    }
    if (l->cudnnGetVersion)
        l->version = (int)l->cudnnGetVersion();
    int err = GW_OK;
    if (!l->cudnnGetVersion)
        err = gw_fail(GW_EMISSING, "%s is not cuDNN: it has no cudnnGetVersion", path);
    else if (l->version < OLDEST)
        err = gw_fail(GW_EMISSING, "%s is cuDNN %d.%d: wanted is version 9", path, l->version / 1000,
                      l->version / 100 % 10);
    else if (l->version >= NEXT)
        err = gw_fail(GW_EMISSING, "%s is cuDNN %d: wanted is version 9", path, l->version / 10000);
    else if (missing)
        err = gw_fail(GW_EMISSING, "%s is no whole cuDNN: it has no %s", path, missing);
    if (err != GW_OK) {
        dlclose(l->handle);
        l->handle = NULL;
    }
    return err;
}

int gw_cudnn_library_check(const char *path)
{
    gw_cudnn_library l;
    GW_TRY(load(&l, path));
    dlclose(l.handle);
    return GW_OK;
}

static gw_cudnn_library library;
static char status[256];

static void find(void)
{
    const char *path = getenv("GWSTREAM_CUDNN");
    if (load(&library, path && *path ? path : "libcudnn.so.9") != GW_OK) {
        snprintf(status, sizeof status, "%s", gw_err_detail());
        gw_err_clear();
    } else {
        snprintf(status, sizeof status, "%d.%d.%d", library.version / 10000, library.version / 100 % 100,
                 library.version % 100);
    }
}

static void find_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find);
}

const gw_cudnn_library *gw_cudnn_library_get(void)
{
    find_once();
    return library.handle ? &library : NULL;
}

const char *gw_cudnn_status(void)
{
    find_once();
    return status;
}

int gw_cudnn_fail(const gw_cudnn_library *l, int err, cudnnStatus_t s, const char *what)
{
    char more[512] = "";
    l->cudnnGetLastErrorString(more, sizeof more);
    more[strcspn(more, "\r\n")] = '\0';
    return gw_fail(err, "cuDNN %s, %s: %s%s%s", gw_cudnn_status(), what, l->cudnnGetErrorString(s),
                   *more ? ": " : "", more);
}

static void (*remark_to)(const char *line);

void gw_cudnn_remarks(void (*to)(const char *line))
{
    remark_to = to;
}

void gw_cudnn_remark(const char *fmt, ...)
{
    if (!remark_to)
        return;
    char line[512];
    va_list list;
    va_start(list, fmt);
    vsnprintf(line, sizeof line, fmt, list);
    va_end(list);
    remark_to(line);
}
