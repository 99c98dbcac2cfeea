/* SPDX-License-Identifier: GPL-3.0-or-later
 * Key files (written, read, refused) and the guard: over a real CURVE socket a listed client gets through, an
 * unknown one, one without keys and one with the wrong server key do not. pyzmq's part is check_clients.py's.
 */
#include "pipeline/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

static char folder[] = "/tmp/gwstream-keys-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[4][128];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[0], "%s/%s", folder, name);
    return path[turn];
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    fclose(f);
    assert_int_equal(chmod(in_folder(name), mode), 0);
}

static void test_files(void **state)
{
    (void)state;
    gw_keys k = {0};
    char text[GW_KEY_TEXT];
    struct stat st;
    assert_int_equal(gw_keys_generate(in_folder("a")), GW_OK);
    assert_int_equal(stat(in_folder("a.key_secret"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(gw_keys_load(&k, in_folder("a")), GW_OK);
    assert_int_equal(gw_keys_load_public(text, in_folder("a")), GW_OK);
    assert_string_equal(text, k.own_public);
    assert_int_equal(gw_keys_load_public(text, in_folder("a.key")), GW_OK);
    assert_string_equal(text, k.own_public);
    assert_string_not_equal(k.own_public, k.own_secret);

    /* Nothing is overwritten, and half a pair is not left behind. */
    assert_int_equal(gw_keys_generate(in_folder("a")), GW_EBUSY);
    assert_int_equal(unlink(in_folder("a.key")), 0);
    assert_int_equal(gw_keys_generate(in_folder("a")), GW_EBUSY);
    assert_int_equal(access(in_folder("a.key"), F_OK), -1);
    assert_int_equal(gw_keys_generate(in_folder("none/a")), GW_EMISSING);

    assert_int_equal(chmod(in_folder("a.key_secret"), 0640), 0);
    assert_int_equal(gw_keys_load(&k, in_folder("a")), GW_EACCESS);
    assert_non_null(strstr(gw_err_detail(), "chmod 600"));
    assert_int_equal(gw_keys_load(&k, in_folder("b")), GW_EMISSING);
}

/* The two forms in which others write them, and what is none. */
static void test_formats(void **state)
{
    (void)state;
    char text[GW_KEY_TEXT], body[512];
    gw_keys a = {0}, k;
    assert_int_equal(gw_keys_generate(in_folder("f")), GW_OK);
    assert_int_equal(gw_keys_load(&a, in_folder("f")), GW_OK);

    snprintf(body, sizeof body, "# x\nmetadata\n    name = \"n\"\ncurve\n    public-key = \"%s\"\n",
             a.own_public);
    write_file("czmq.key", body, 0644);
    assert_int_equal(gw_keys_load_public(text, in_folder("czmq")), GW_OK);
    assert_string_equal(text, a.own_public);
    snprintf(body, sizeof body, "\tpublic-key='%s'\r\n\tsecret-key\t=\t'%s'\r\n", a.own_public, a.own_secret);
    write_file("tabs.key_secret", body, 0600);
    assert_int_equal(gw_keys_load(&k, in_folder("tabs")), GW_OK);
    assert_string_equal(k.own_secret, a.own_secret);

    write_file("empty.key", "", 0644);
    assert_int_equal(gw_keys_load_public(text, in_folder("empty")), GW_EFORMAT);
    snprintf(body, sizeof body, "public-key = \"%.39s\"\n", a.own_public);
    write_file("short.key", body, 0644);
    assert_int_equal(gw_keys_load_public(text, in_folder("short")), GW_EFORMAT);
    snprintf(body, sizeof body, "public-key = \"%.39s~\"\n", a.own_public); /* '~' is not of Z85 */
    write_file("alphabet.key", body, 0644);
    assert_int_equal(gw_keys_load_public(text, in_folder("alphabet")), GW_EFORMAT);
    snprintf(body, sizeof body, "public-key = \"%s\"\nsecret-key = \"%s\"\n", a.own_secret, a.own_public);
    write_file("swapped.key_secret", body, 0600);
    assert_int_equal(gw_keys_load(&k, in_folder("swapped")), GW_EFORMAT);
    snprintf(body, sizeof body, "public-key = \"%s\"\n", a.own_public);
    write_file("half.key_secret", body, 0600);
    assert_int_equal(gw_keys_load(&k, in_folder("half")), GW_EFORMAT);
    assert_non_null(strstr(gw_err_detail(), "secret-key"));
}

/* -- over a socket ----------------------------------------------------------------------------------- */

/* Whether a client with these keys (NULL: none) gets one message through within `ms`. */
static int gets_through(void *server, const char *address, const gw_keys *k, int ms)
{
    const int none = 0;
    void *zmq = zmq_ctx_new();
    void *client = zmq_socket(zmq, ZMQ_DEALER);
    assert_int_equal(zmq_setsockopt(client, ZMQ_LINGER, &none, sizeof none), 0);
    if (k)
        assert_int_equal(gw_keys_apply(k, client, 0), GW_OK);
    assert_int_equal(zmq_connect(client, address), 0);
    zmq_send(client, "hello", 5, ZMQ_DONTWAIT);
    zmq_pollitem_t item = {.socket = server, .events = ZMQ_POLLIN};
    int through = zmq_poll(&item, 1, ms);
    while (zmq_poll(&item, 1, 0) > 0) {
        char rest[64];
        zmq_recv(server, rest, sizeof rest, 0);
    }
    zmq_close(client);
    zmq_ctx_term(zmq);
    return through;
}

static void test_guard(void **state)
{
    (void)state;
    gw_keys front = {0}, good = {0}, unknown = {0}, other = {0};
    const char *const name[] = {"front", "good", "unknown", "other"};
    gw_keys *const key[] = {&front, &good, &unknown, &other};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(gw_keys_generate(in_folder(name[i])), GW_OK);
        assert_int_equal(gw_keys_load(key[i], in_folder(name[i])), GW_OK);
    }
    void *zmq = zmq_ctx_new();
    gw_guard *g, *second;
    assert_int_equal(gw_guard_new(&g, zmq), GW_OK);
    assert_int_equal(gw_guard_new(&second, zmq), GW_EBUSY);
    assert_null(second);
    void *server = zmq_socket(zmq, ZMQ_ROUTER);
    const int none = 0;
    zmq_setsockopt(server, ZMQ_LINGER, &none, sizeof none);
    assert_int_equal(gw_keys_apply(&front, server, 1), GW_OK);
    assert_int_equal(zmq_bind(server, "tcp://127.0.0.1:*"), 0);
    char address[64];
    size_t n = sizeof address;
    assert_int_equal(zmq_getsockopt(server, ZMQ_LAST_ENDPOINT, address, &n), 0);

    assert_int_equal(gw_keys_apply(&good, server, 0), GW_ECONFIG); /* without the server's key */
    for (int i = 1; i < 3; i++)
        snprintf(key[i]->server, GW_KEY_TEXT, "%s", front.own_public);
    assert_int_equal(gets_through(server, address, &good, 300), 0); /* not allowed yet */
    assert_int_equal(gw_guard_allow(g, good.own_public), GW_OK);
    assert_int_equal(gets_through(server, address, &good, 5000), 1);
    assert_int_equal(gets_through(server, address, &unknown, 300), 0);
    assert_int_equal(gets_through(server, address, NULL, 300), 0);
    gw_keys astray = good;
    snprintf(astray.server, GW_KEY_TEXT, "%s", other.own_public);
    assert_int_equal(gets_through(server, address, &astray, 300), 0);
    assert_int_equal(gets_through(server, address, &good, 5000), 1); /* and it still works */
    const char brief[GW_KEY_TEXT] = "short";
    assert_int_equal(gw_guard_allow(g, brief), GW_EFORMAT);

    /* A plain socket of the same context is not guarded. */
    void *plain = zmq_socket(zmq, ZMQ_ROUTER);
    zmq_setsockopt(plain, ZMQ_LINGER, &none, sizeof none);
    assert_int_equal(zmq_bind(plain, "tcp://127.0.0.1:*"), 0);
    n = sizeof address;
    assert_int_equal(zmq_getsockopt(plain, ZMQ_LAST_ENDPOINT, address, &n), 0);
    assert_int_equal(gets_through(plain, address, NULL, 5000), 1);
    zmq_close(plain);
    zmq_close(server);
    gw_guard_destroy(&g);
    assert_null(g);
    gw_guard_destroy(&g);
    zmq_ctx_term(zmq);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_guard),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
