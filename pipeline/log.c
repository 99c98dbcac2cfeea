/* SPDX-License-Identifier: GPL-3.0-or-later
 * The operator's log. A line is put together first and written with one call under one lock, so that
 * lines of different threads never mix. No files and no rotation: the service manager does that. */
#include "pipeline/log.h"
#include "pipeline/clock.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static atomic_int max_level = GW_LOG_INFO;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void (*hook)(bool before); /* under the lock */

void gw_log_set_level(gw_log_level level)
{
    atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

void gw_log_set_hook(void (*around)(bool before))
{
    pthread_mutex_lock(&lock);
    hook = around;
    pthread_mutex_unlock(&lock);
}

void gw_log_lock(void)
{
    pthread_mutex_lock(&lock);
    if (hook)
        hook(true);
}

void gw_log_unlock(void)
{
    if (hook)
        hook(false);
    pthread_mutex_unlock(&lock);
}

void gw_log(gw_log_level level, const char *where, const char *fmt, ...)
{
    static const char *const word[] = {"error", "warn", "info", "debug"};
    if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed) || level > GW_LOG_DEBUG)
        return;

    char line[1536], utc[32], text[1200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(line, sizeof line - 1, "%s %s %s%.128s%s%s", gw_gps_utc(gw_gps_now_ns(), utc, sizeof utc),
             word[level], where ? "stage=" : "", where ? where : "", where ? " " : "", text);

    /* One occasion is one line, whatever a file name or a message from outside contains. */
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    size_t n = strlen(line);
    line[n++] = '\n';

    gw_log_lock();
    (void)!fwrite(line, 1, n, stderr); /* stderr is unbuffered: one write; nobody to tell if it fails */
    fflush(stderr);
    gw_log_unlock();
}
