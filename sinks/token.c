/* SPDX-License-Identifier: GPL-3.0-or-later
 * Runs the token command and reads what it prints. Its stdout and stderr come through pipes; a command that
 * does not end in time is killed, with all that it has started. */
#include "sinks/token.h"

#include "pipeline/clock.h"
#include "pipeline/config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIMIT_S = 10, KILLED_S = 1, LOOK_MS = 5, USUAL_S = 300 };

extern char **environ;

static int spawn(const char *command, const int out[2], const int errors[2], pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, usual;
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, out[1], 1);
    posix_spawn_file_actions_adddup2(&files, errors[1], 2);
    posix_spawnattr_setsigmask(&attr, &none); /* our threads block the signals of main() */
    posix_spawnattr_setsigdefault(&attr, &usual);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    char shell[] = "/bin/sh", option[] = "-c", *text = strdup(command);
    char *argv[] = {shell, option, text, NULL};
    int why = text ? posix_spawn(pid, shell, &files, &attr, argv, environ) : ENOMEM;
    free(text);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return why;
}

/* Both pipes to their ends, or to `until_ns`: false. Too much of either is cut off. */
static bool listen_to(int out, int errors, int64_t until_ns, char *text, size_t size, char *error,
                      size_t error_size)
{
    struct pollfd fd[2] = {{.fd = out, .events = POLLIN}, {.fd = errors, .events = POLLIN}};
    struct {
        char *to;
        size_t room, used;
    } sink[2] = {{text, size - 1, 0}, {error, error_size - 1, 0}};
    while (fd[0].fd >= 0 || fd[1].fd >= 0) {
        const int64_t left_ms = (until_ns - gw_monotonic_ns()) / 1000000;
        const int ready = left_ms > 0 ? poll(fd, 2, (int)left_ms) : 0;
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            break;
        for (int i = 0; i < 2; i++) {
            char spill[512];
            const bool room = sink[i].used < sink[i].room;
            if (fd[i].fd < 0 || !(fd[i].revents & (POLLIN | POLLHUP | POLLERR)))
                continue;
            const ssize_t n = read(fd[i].fd, room ? sink[i].to + sink[i].used : spill,
                                   room ? sink[i].room - sink[i].used : sizeof spill);
            if (n <= 0)
                fd[i].fd = -1;
            else if (room)
                sink[i].used += (size_t)n;
        }
    }
    text[sink[0].used] = error[sink[1].used] = '\0';
    return fd[0].fd < 0 && fd[1].fd < 0;
}

/* The command may live on when it has closed its pipes. False: it still does at `until_ns`. */
static bool has_ended(pid_t pid, int64_t until_ns, int *status)
{
    for (;;) {
        const pid_t is = waitpid(pid, status, WNOHANG);
        if (is == pid || (is < 0 && errno != EINTR)) /* SIGCHLD may be ignored, and its status gone */
            return true;
        if (gw_monotonic_ns() >= until_ns)
            return false;
        poll(NULL, 0, LOOK_MS);
    }
}

static void trim(char *text)
{
    size_t n = strlen(text);
    while (n && strchr(" \t\r\n", text[n - 1]))
        text[--n] = '\0';
}

static int run_command(const char *command, char *text, size_t size)
{
    int out[2] = {-1, -1}, errors[2] = {-1, -1}, status = 0;
    char error[1024] = "";
    pid_t pid = -1;
    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0) {
        close(out[0]);
        close(out[1]);
        return gw_fail(GW_ESYSTEM, "token_command: no pipe (%s)", strerror(errno));
    }
    const int64_t until_ns = gw_monotonic_ns() + LIMIT_S * GW_SECOND_NS;
    const int why = spawn(command, out, errors, &pid);
    close(out[1]);
    close(errors[1]);
    const bool ended = why == 0 && listen_to(out[0], errors[0], until_ns, text, size, error, sizeof error) &&
                       has_ended(pid, until_ns, &status);
    close(out[0]);
    close(errors[0]);
    if (why)
        return gw_fail(GW_ESYSTEM, "token_command: cannot be run (%s)", strerror(why));
    if (!ended) {
        kill(-pid, SIGKILL);
        has_ended(pid, gw_monotonic_ns() + KILLED_S * GW_SECOND_NS, &status); /* sudo is not ours to kill */
        return gw_fail(GW_EACCESS, "token_command: did not end within %d s", LIMIT_S);
    }
    trim(error);
    const char *line = strrchr(error, '\n');
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return gw_fail(GW_EACCESS, "token_command: failed with status %d%s%.200s",
                       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), *error ? ": " : "",
                       line ? line + 1 : error);
    return 0;
}

/* JSON is YAML, so the one reader does. */
static int read_answer(const char *text, char *token, size_t size, int64_t *seconds)
{
    gw_conf_file *file = NULL;
    const char *is = NULL;
    GW_TRY(gw_conf_parse(&file, "token_command's answer", text, strlen(text)));
    int err = gw_conf_get_text(gw_conf_root(file), "access_token", &is);
    if (err == 0)
        err = gw_conf_get_int(gw_conf_root(file), "expires_in", 1, 10000000, seconds);
    if (err < 0 || !is || !*is || strlen(is) >= size)
        err = gw_fail(GW_EFORMAT, "token_command: its answer has no usable access_token");
    else
        snprintf(token, size, "%s", is);
    gw_conf_free(&file);
    return err;
}

int gw_token_fetch(const char *command, char *token, size_t size, int64_t *seconds)
{
    char text[GW_TOKEN_BYTES];
    *seconds = USUAL_S;
    int err = run_command(command, text, sizeof text);
    if (err == 0) {
        trim(text);
        if (text[0] == '{')
            err = read_answer(text, token, size, seconds);
        else if (!text[0] || strpbrk(text, " \t\r\n") || strlen(text) >= size)
            err = gw_fail(GW_EFORMAT, "token_command: prints neither JSON with access_token nor a token");
        else
            snprintf(token, size, "%s", text);
    }
    explicit_bzero(text, sizeof text);
    return err;
}
