/* SPDX-License-Identifier: GPL-3.0-or-later
 * Placement (placement.h). Nothing here fails a run: a detector site that forgot a limit still gets its
 * search, and a line that says what to permit. */
#include "pipeline/placement.h"
#include "pipeline/log.h"
#include "pipeline/parallel.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zmq.h>

enum { MAX_NUMA = 1024, LONG_BITS = 8 * (int)sizeof(unsigned long) };

/* -- lists of cores ---------------------------------------------------------------------------------- */

bool gw_cores_parse(const char *text, cpu_set_t *cores)
{
    CPU_ZERO(cores);
    const char *s = text;
    while (*s && *s != '\n') {
        char *end;
        if (*s < '0' || *s > '9')
            return false;
        const long first = strtol(s, &end, 10);
        long last = first;
        if (*end == '-') {
            s = end + 1;
            if (*s < '0' || *s > '9')
                return false;
            last = strtol(s, &end, 10);
        }
        for (long c = first; c <= last && c < CPU_SETSIZE; c++)
            CPU_SET((size_t)c, cores);
        if (*end == ',')
            end++;
        else if (*end && *end != '\n')
            return false;
        s = end;
    }
    return true;
}

const char *gw_cores_text(const cpu_set_t *cores, char *text, size_t n)
{
    size_t used = 0;
    snprintf(text, n, "none");
    for (int c = 0; c < CPU_SETSIZE && used + 16 < n; c++) {
        if (!CPU_ISSET((size_t)c, cores))
            continue;
        int last = c;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET((size_t)last + 1, cores))
            last++;
        int k = last > c ? snprintf(text + used, n - used, "%s%d-%d", used ? "," : "", c, last)
                         : snprintf(text + used, n - used, "%s%d", used ? "," : "", c);
        used += k > 0 ? (size_t)k : 0;
        c = last;
    }
    return text;
}

static bool read_list(const char *path, cpu_set_t *cores)
{
    char text[4096];
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    const bool well = fgets(text, sizeof text, f) && gw_cores_parse(text, cores);
    fclose(f);
    return well;
}

static bool numa_cores(int node, cpu_set_t *cores)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", node);
    return read_list(path, cores);
}

/* -- from YAML --------------------------------------------------------------------------------------- */

static int read_core(gw_conf *item, const char *key, cpu_set_t *cores)
{
    const char *text;
    int64_t core;
    GW_TRY(gw_conf_text(item, &text));
    if (gw_parse_int(text, &core) != GW_OK || core < 0 || core >= CPU_SETSIZE)
        return gw_conf_fail(item, "%s: '%s' is no core: whole numbers from 0 to %d, as [2, 3]", key, text,
                            CPU_SETSIZE - 1);
    CPU_SET((size_t)core, cores);
    return GW_OK;
}

/* One core or a list of them. */
static int read_cores(gw_conf *map, const char *key, cpu_set_t *cores)
{
    CPU_ZERO(cores);
    gw_conf *value = gw_conf_find(map, key);
    if (!value)
        return GW_OK;
    if (gw_conf_kind(value) == GW_CONF_LIST)
        for (int i = 0; i < gw_conf_count(value); i++)
            GW_TRY(read_core(gw_conf_item(value, i), key, cores));
    else
        GW_TRY(read_core(value, key, cores));
    return CPU_COUNT(cores) ? GW_OK : gw_conf_fail(value, "%s: the list is empty", key);
}

int gw_placement_read(gw_conf *part, gw_placement *p)
{
    *p = (gw_placement){.numa = 0};
    int64_t numa = 0, priority = 0;
    GW_TRY(read_cores(part, "cores", &p->cores));
    p->has_numa = gw_conf_find(part, "numa") != NULL;
    GW_TRY(gw_conf_get_int(part, "numa", 0, MAX_NUMA - 1, &numa));
    GW_TRY(gw_conf_get_int(part, "priority", 1, 99, &priority));
    p->numa = (int)numa;
    p->priority = (int)priority;
    return GW_OK;
}

int gw_run_conf_read(gw_conf *root, gw_run_conf *r)
{
    *r = (gw_run_conf){.device = true};
    gw_conf *run = gw_conf_find(root, "run");
    if (!run)
        return GW_OK;
    if (gw_conf_kind(run) != GW_CONF_MAP)
        return gw_conf_fail(run, "'run' wants a map: {threads: 4, lock_memory: true, io_cores: [1]}");
    int64_t threads = 0;
    GW_TRY(gw_conf_get_int(run, "threads", 1, 256, &threads));
    r->threads = (int)threads;
    GW_TRY(gw_conf_get_bool(run, "lock_memory", &r->lock_memory));
    GW_TRY(gw_conf_get_bool(run, "device", &r->device));
    GW_TRY(read_cores(run, "io_cores", &r->io_cores));
    GW_TRY(read_cores(run, "bulk_cores", &r->bulk_cores));
    return gw_conf_done(run, "run");
}

/* -- what this machine has --------------------------------------------------------------------------- */

static void fit_cores(const char *key, const char *name, cpu_set_t *cores)
{
    cpu_set_t online, here;
    if (!CPU_COUNT(cores) || !read_list("/sys/devices/system/cpu/online", &online))
        return;
    CPU_AND(&here, cores, &online);
    if (CPU_EQUAL(&here, cores))
        return;
    char wanted[256], has[256];
    gw_log(GW_LOG_WARN, name, "%s %s: this machine has %s; goes on with %s", key,
           gw_cores_text(cores, wanted, sizeof wanted), gw_cores_text(&online, has, sizeof has),
           CPU_COUNT(&here) ? "those it has" : "any core");
    *cores = here;
}

void gw_placement_fit(gw_placement *p, const char *name)
{
    cpu_set_t cores;
    fit_cores("cores", name, &p->cores);
    if (!p->has_numa || numa_cores(p->numa, &cores))
        return;
    gw_log(GW_LOG_WARN, name, "numa %d: this machine has no such node; goes on without it", p->numa);
    p->has_numa = false;
}

void gw_run_conf_fit(gw_run_conf *r)
{
    fit_cores("io_cores", "run", &r->io_cores);
    fit_cores("bulk_cores", "run", &r->bulk_cores);
}

/* -- a thread ---------------------------------------------------------------------------------------- */

static void pin(const cpu_set_t *cores, const char *name)
{
    char wanted[256], has[256];
    cpu_set_t before;
    CPU_ZERO(&before);
    (void)pthread_getaffinity_np(pthread_self(), sizeof before, &before);
    const int err = pthread_setaffinity_np(pthread_self(), sizeof *cores, cores);
    if (err)
        gw_log(GW_LOG_WARN, name, "cores %s: %s (this process may use %s); goes on with those",
               gw_cores_text(cores, wanted, sizeof wanted),
               err == EINVAL ? "not among its own" : strerror(err), gw_cores_text(&before, has, sizeof has));
}

static void node_mask(int node, unsigned long mask[MAX_NUMA / LONG_BITS])
{
    memset(mask, 0, MAX_NUMA / 8);
    mask[node / LONG_BITS] |= 1ul << node % LONG_BITS;
}

void gw_placement_apply(const gw_placement *p, const char *name)
{
    cpu_set_t cores = p->cores;
    if (p->has_numa && !CPU_COUNT(&cores))
        (void)numa_cores(p->numa, &cores);
    if (CPU_COUNT(&cores))
        pin(&cores, name);
    if (p->has_numa) {
        unsigned long mask[MAX_NUMA / LONG_BITS];
        node_mask(p->numa, mask);
        /* Preferred, not bound: a node that is full must not kill the search. */
        if (syscall(SYS_set_mempolicy, MPOL_PREFERRED, mask, (unsigned long)MAX_NUMA) != 0)
            gw_log(GW_LOG_WARN, name, "numa %d: memory policy: %s; goes on with memory from anywhere",
                   p->numa, strerror(errno));
    }
    if (p->priority) {
        const struct sched_param how = {.sched_priority = p->priority};
        const int err = pthread_setschedparam(pthread_self(), SCHED_FIFO, &how);
        if (err == EPERM)
            gw_log(
                GW_LOG_WARN, name,
                "SCHED_FIFO %d not permitted (needs CAP_SYS_NICE or RLIMIT_RTPRIO); goes on with the normal "
                "scheduler",
                p->priority);
        else if (err)
            gw_log(GW_LOG_WARN, name, "SCHED_FIFO %d: %s; goes on with the normal scheduler", p->priority,
                   strerror(err));
    }
}

/* The graph allocates and touches pools before the threads exist. All slabs of a pool are one allocation: the
 * span from the lowest to the highest, without the pages that it shares with others. */
void gw_placement_move_pool(const gw_placement *p, const char *name, gw_pool *pool)
{
    const int slabs = p->has_numa ? gw_pool_free_slabs(pool) : 0;
    if (slabs < 1)
        return;
    gw_block **held = calloc((size_t)slabs, sizeof *held);
    if (!held)
        return;
    uintptr_t low = UINTPTR_MAX, high = 0;
    int n = 0;
    while (n < slabs && gw_pool_take(pool, &held[n]) == GW_OK) {
        const uintptr_t at = (uintptr_t)held[n]->data, end = at + held[n]->capacity;
        low = at < low ? at : low;
        high = end > high ? end : high;
        n++;
    }
    while (n > 0)
        gw_block_unref(&held[--n]);
    free(held);
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    low = (low + page - 1) / page * page;
    high = high / page * page;
    unsigned long mask[MAX_NUMA / LONG_BITS];
    node_mask(p->numa, mask);
    if (high > low && syscall(SYS_mbind, low, (unsigned long)(high - low), MPOL_PREFERRED, mask,
                              (unsigned long)MAX_NUMA, MPOL_MF_MOVE) != 0)
        gw_log(GW_LOG_WARN, name,
               "numa %d: slabs cannot be moved there: %s; goes on with them where they are", p->numa,
               strerror(errno));
}

/* -- the process ------------------------------------------------------------------------------------- */

static bool may_lock_all(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY)
        return true;
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {{0}};
    return syscall(SYS_capget, &head, caps) == 0 && caps[0].effective >> CAP_IPC_LOCK & 1;
}

void gw_run_lock_memory(const gw_run_conf *r)
{
    if (!r->lock_memory)
        return;
    /* Under a limit mlockall may succeed now and let an allocation fail later: rather not at all. */
    if (!may_lock_all())
        gw_log(
            GW_LOG_WARN, NULL,
            "lock_memory not permitted (needs CAP_IPC_LOCK or an unlimited RLIMIT_MEMLOCK); goes on without");
    else if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0)
        gw_log(GW_LOG_WARN, NULL, "lock_memory: %s; goes on without", strerror(errno));
}

void gw_run_place_bulk(const gw_run_conf *r)
{
    char wanted[256];
    if (CPU_COUNT(&r->bulk_cores) && gw_parallel_place(GW_BULK, &r->bulk_cores) < 0)
        gw_log(GW_LOG_WARN, NULL, "bulk_cores %s: %s; goes on with any",
               gw_cores_text(&r->bulk_cores, wanted, sizeof wanted), gw_err_detail());
}

void gw_run_start_io(const gw_run_conf *r, void *zmq)
{
#ifdef ZMQ_THREAD_AFFINITY_CPU_ADD
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET((size_t)c, &r->io_cores) && zmq_ctx_set(zmq, ZMQ_THREAD_AFFINITY_CPU_ADD, c) != 0)
            gw_log(GW_LOG_WARN, NULL, "io_cores: core %d: %s; goes on without it", c,
                   zmq_strerror(zmq_errno()));
#else
    if (CPU_COUNT(&r->io_cores))
        gw_log(GW_LOG_WARN, NULL, "io_cores: this ZeroMQ cannot place its threads; goes on without");
#endif
    /* The first socket of a context starts its threads, as children of the thread that asks for it. */
    void *first = zmq_socket(zmq, ZMQ_PAIR);
    if (first)
        zmq_close(first);
}
