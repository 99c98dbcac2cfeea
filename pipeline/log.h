/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the program says to its operator: one line an occasion on stderr,
 * "2026-11-21T09:50:45.391Z warn stage=whiten.H1 text". Thread safe. Never called per block. */
#ifndef GW_LOG_H
#define GW_LOG_H

#include <stdbool.h>

typedef enum gw_log_level { GW_LOG_ERROR, GW_LOG_WARN, GW_LOG_INFO, GW_LOG_DEBUG } gw_log_level;

/* Lines above this level are not written. Default GW_LOG_INFO. */
void gw_log_set_level(gw_log_level level);

/* `where` names the part that speaks ("whiten.H1"); may be NULL. No newline in `fmt`. */
void gw_log(gw_log_level level, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Called with true before a log line and with false after it, under the log's lock: lets the progress
 * bar clear and redraw its line. NULL to remove. */
void gw_log_set_hook(void (*around)(bool before));

/* For who writes other lines to the terminal: between the two no log line comes, and the progress bar is
 * out of the way. Short, in one thread, and without gw_log in between. */
void gw_log_lock(void);
void gw_log_unlock(void);

#endif
