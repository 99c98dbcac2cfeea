#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS, SCRAM, PLAIN and OAUTHBEARER of the Kafka producer, against a scripted peer: a TLS server that speaks
Kafka's SASL requests itself, checks the proof or the token as a broker would, and only then passes the connection
on to the mock broker. What it cannot show: a real broker's authorizer, certificate chains of a real authority.

usage: check_kafka_secure.py MOCK_BROKER JOURNAL_DRIVER [--clock]

--clock: besides, the host's clock is stepped back by an hour between two tokens (libfaketime). librdkafka waits by the
wall clock, so a wait that the step meets lasts an hour longer: not a test for a busy machine.
"""

import base64
import glob
import hashlib
import hmac
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

from flow import check, finish, folder, skip
from kafka_rig import Broker, once, read_topic

try:
    import confluent_kafka  # noqa: F401
except ImportError:
    skip("python3-confluent-kafka is not installed")
if not shutil.which("openssl"):
    skip("openssl, which makes the certificates, is not installed")

MOCK, DRIVER = sys.argv[1], sys.argv[2]
USER, PASSWORD = "observer", "pencil with 3 blades"
DEBUG = ", options: {debug: 'broker,conf,security,protocol'}"
API_VERSIONS, HANDSHAKE, AUTHENTICATE = 18, 17, 36
DIGEST = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}


def read_exactly(s, n):
    data = b""
    while len(data) < n:
        piece = s.recv(n - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def read_frame(s):
    return read_exactly(s, struct.unpack(">i", read_exactly(s, 4))[0])


def write_frame(s, frame):
    s.sendall(struct.pack(">i", len(frame)) + frame)


class Scram:
    """The server's side of RFC 5802, from the RFC."""

    def __init__(self, mechanism):
        self.name, self.salt, self.step = DIGEST[mechanism], os.urandom(16), 0

    def mac(self, key, text):
        return hmac.new(key, text.encode(), self.name).digest()

    def answer(self, text):
        """(whether to go on, answer)"""
        self.step += 1
        if self.step == 1:
            self.first = text.removeprefix("n,,")
            fields = dict(f.split("=", 1) for f in self.first.split(","))
            self.user, self.nonce = fields["n"], fields["r"] + "server"
            self.told = f"r={self.nonce},s={base64.b64encode(self.salt).decode()},i=4096"
            return True, self.told
        bare, proof = text.rsplit(",p=", 1)
        salted = hashlib.pbkdf2_hmac(self.name, PASSWORD.encode(), self.salt, 4096)
        key = self.mac(salted, "Client Key")
        auth = f"{self.first},{self.told},{bare}"
        want = bytes(a ^ b for a, b in zip(key, self.mac(hashlib.new(self.name, key).digest(), auth)))
        # librdkafka 2.0.2 says its own nonce twice here; Kafka's brokers, too, look at the server's part alone.
        good = base64.b64decode(proof) == want and self.user == USER and bare.endswith("server")
        return good, "v=" + base64.b64encode(self.mac(self.mac(salted, "Server Key"), auth)).decode()


class Gate:
    """The peer: TLS, then SASL, then the mock broker behind it."""

    def __init__(self, behind, context, mechanism, token=None):
        self.host, self.port_behind = behind.split(":")[0], int(behind.split(":")[1])
        self.context, self.mechanism, self.token = context, mechanism, token
        self.logins, self.refused = 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            s, _ = self.listener.accept()
            threading.Thread(target=self.one, args=(s,), daemon=True).start()

    def one(self, s):
        try:
            s = self.context.wrap_socket(s, server_side=True) if self.context else s
            behind = socket.create_connection((self.host, self.port_behind))
            if not self.mechanism or self.log_in(s, behind):
                threading.Thread(target=self.pump, args=(s, behind), daemon=True).start()
                while True:
                    write_frame(s, self.renamed(read_frame(behind)))
        except (EOFError, OSError):
            pass
        s.close()

    def pump(self, s, behind):
        try:
            while True:
                write_frame(behind, read_frame(s))
        except (EOFError, OSError):
            behind.close()

    def renamed(self, frame):
        """Where the broker tells its own address, ours."""
        return frame.replace(b"127.0.0.1" + struct.pack(">i", self.port_behind), b"127.0.0.1" + struct.pack(">i", self.port))

    def log_in(self, s, behind):
        scram = None
        while True:
            frame = read_frame(s)
            api, version, number, n = struct.unpack(">hhih", frame[:10])
            body, head = frame[10 + max(n, 0):], struct.pack(">i", number)
            if api == API_VERSIONS:
                write_frame(behind, frame)
                write_frame(s, self.with_sasl(read_frame(behind), version))
            elif api == HANDSHAKE:
                asked = body[2:].decode()
                write_frame(s, head + struct.pack(">hih", 0 if asked == self.mechanism else 33, 1, len(self.mechanism))
                            + self.mechanism.encode())
                scram = Scram(asked) if asked in DIGEST else None
            elif api == AUTHENTICATE:
                text = body[4:].decode()
                if scram:
                    good, answer = scram.answer(text)
                    done = scram.step == 2
                elif self.mechanism == "PLAIN":
                    good, answer, done = text == f"\0{USER}\0{PASSWORD}", "", True
                else:
                    good, answer, done = f"auth=Bearer {self.token()}\x01" in text, "", True
                why = b"" if good else b"no such user or password"
                write_frame(s, head + struct.pack(">hh", 0 if good else 58, len(why) or -1) + why
                            + struct.pack(">i", len(answer)) + answer.encode() + (struct.pack(">q", 0) if version else b""))
                self.logins += good and done
                self.refused += not good
                if done or not good:
                    return good
            else:
                return False

    @staticmethod
    def with_sasl(frame, version):
        more = b"".join(struct.pack(">hhh", *x) + (b"\0" if version >= 3 else b"") for x in ((HANDSHAKE, 0, 1), (AUTHENTICATE, 0, 1)))
        if version >= 3:  # count + 1 as a varint of one byte, entries of 7
            end = 7 + (frame[6] - 1) * 7
            return frame[:6] + bytes([frame[6] + 2]) + frame[7:end] + more + frame[end:]
        count = struct.unpack(">i", frame[6:10])[0]
        return frame[:6] + struct.pack(">i", count + 2) + frame[10:10 + 6 * count] + more + frame[10 + 6 * count:]


def certificates(work):
    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=work)
    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2",
                "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=broker")
    with open(f"{work}/san", "w") as f:
        f.write("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "san", "-out", "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{work}/server.pem", f"{work}/server.key")
    return context


class Attempt:
    """The sink telling three mergers (12 messages) to a broker with these keys."""

    def __init__(self, work, name, port, keys, pause_us=1000, env=None):
        self.log, self.topic = f"{work}/{name}.log", f"test.{name}"
        yaml = (f"brokers: [{{name: {name}, bootstrap: '127.0.0.1:{port}', topic: {self.topic}, face: plain, send: candidates"
                f"{keys}}}]")
        self.began = time.monotonic()
        self.process = subprocess.Popen([DRIVER, f"{work}/{name}.sqlite", f"ipc://{work}/{name}", "none", "3", str(pause_us), yaml],
                                        stdout=subprocess.PIPE, stderr=open(self.log, "w"), text=True, env=env)

    def end(self):
        self.told = self.process.communicate(timeout=30)[0]
        self.status = self.process.returncode
        self.said = open(self.log).read()
        return self


def arrives(a, broker, gate, what, logins=1):
    a.end()
    n = len(once(read_topic(broker.address, a.topic)))
    check(a.status == 0 and n == 12 and gate.logins >= logins, f"{what}: {n} messages, {gate.logins} logins")
    if n != 12:
        print(a.said)


def refused(a, gate, words, what):
    a.end()
    lines = [x for x in a.said.splitlines() if " warn " in x and words in x]
    check(a.status == 0 and len(lines) == 1 and gate.logins == 0 and "12 messages not acknowledged" in a.said,
          f"{what}: one line: {lines[0][25:200] if lines else a.said}")
    troubles = [float(x.split()[2]) for x in a.told.splitlines() if x.startswith("gauge broker_troubles ")]
    check(troubles and troubles[0] > 0, f"{what}: {troubles[0] if troubles else 'no'} troubles counted")
    check(PASSWORD not in a.said, f"{what}: no secret in the log")


def token_script(work, name, seconds):
    """A token endpoint's answers, from a command: its command line, and how many it has given."""
    with open(f"{work}/{name}.sh", "w") as f:
        f.write(f"echo x >> {work}/{name}.given\nn=$(wc -l < {work}/{name}.given)\n"
                f'echo "{{\\"access_token\\": \\"secret-$n\\", \\"expires_in\\": {seconds}, \\"token_type\\": \\"Bearer\\"}}"\n')
    return f"sh {work}/{name}.sh", lambda: len(open(f"{work}/{name}.given").readlines())


class SteppedClock:
    """A wall clock that goes wrong while a program runs."""

    def __init__(self, work, library):
        self.stamp = f"{work}/stamp"
        self.step("+0")
        self.env = dict(os.environ, LD_PRELOAD=library, FAKETIME_TIMESTAMP_FILE=self.stamp, FAKETIME_NO_CACHE="1",
                        FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1")

    def step(self, seconds):
        with open(self.stamp + ".new", "w", encoding="ascii") as f:
            f.write(seconds)
        os.replace(self.stamp + ".new", self.stamp)


def main():
    with folder() as work:
        context, broker = certificates(work), Broker(MOCK)
        for name, text in (("good", PASSWORD), ("wrong", "guess")):
            with open(os.open(f"{work}/{name}", os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
                f.write(text + "\n")
        tls, login = f", tls: {{ca: {work}/ca.pem}}", f"username: {USER}, password_file: {work}"

        def gate(*args, **more):
            return Gate(broker.address, *args, **more)
        runs = []
        g = gate(context, None)
        runs.append((refused, Attempt(work, "otherca", g.port, f", tls: {{ca: {work}/other.pem}}"), g, "TLS fails", "a certificate of another authority"))
        for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"):
            g = gate(context, mechanism)
            sasl = f"{tls}, sasl: {{mechanism: {mechanism.lower()}, {login}"
            runs.append((arrives, Attempt(work, mechanism.lower(), g.port, f"{sasl}/good}}{DEBUG}"), broker, g, f"{mechanism} over TLS"))
            if mechanism != "SCRAM-SHA-256":
                g = gate(context, mechanism)
                runs.append((refused, Attempt(work, "wrong-" + mechanism.lower(), g.port, f"{sasl}/wrong}}"), g, "refuses the login",
                             f"{mechanism}, wrong password"))
        for call, *args in runs:
            call(*args)
        for a in (run[1] for run in runs if run[0] is arrives):
            check("librdkafka SASL" in a.said and PASSWORD not in a.said and base64.b64encode(PASSWORD.encode()).decode() not in a.said,
                  f"{a.topic}: librdkafka's own log, as asked for, without the secret")
        runs = []
        # A token that lives 3 s: fetched anew before it ends. The endpoint's answer comes from a command.
        command, given = token_script(work, "tokens", 3)
        g = gate(context, "OAUTHBEARER", token=lambda: f"secret-{given()}")
        bearer = f"{tls}, sasl: {{mechanism: oauthbearer, token_command: '{command}'}}{DEBUG}"
        runs.append((arrives, Attempt(work, "bearer", g.port, bearer, pause_us=350000), broker, g, "OAUTHBEARER over TLS"))
        g = gate(context, "OAUTHBEARER", token=lambda: "another")
        runs.append((refused, Attempt(work, "stale", g.port, f"{tls}, sasl: {{mechanism: oauthbearer, token_command: 'echo old'}}"), g,
                     "refuses the login", "OAUTHBEARER, a token that is not valid"))
        g = gate(context, "OAUTHBEARER", token=lambda: "another")
        runs.append((refused, Attempt(work, "endpoint", g.port, f"{tls}, sasl: {{mechanism: oauthbearer, token_command: "
                                      "'echo cannot resolve auth.example.org >&2; exit 6'}"), g, "cannot resolve auth.example.org",
                     "token endpoint unreachable"))
        # A token that lives an hour, on a clock that goes back by an hour: librdkafka would keep it for two. Without
        # TLS, whose certificates were not valid then.
        library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") if "--clock" in sys.argv else []
        if library:
            clock = SteppedClock(work, library[0])
            command, again = token_script(work, "hourly", 3600)
            g = gate(None, "OAUTHBEARER", token=lambda: f"secret-{again()}")
            a = Attempt(work, "stepped", g.port, f", sasl: {{mechanism: oauthbearer, token_command: '{command}'}}", 350000, clock.env)
            threading.Timer(2, clock.step, ["-3600"]).start()
            runs.append((arrives, a, broker, g, "OAUTHBEARER, the clock stepped back between two tokens", 2))
        for call, *args in runs:
            call(*args)
        if library:
            check(again() == 2 and a.said.count("this host's clock was stepped; connects anew with a new token") == 1,
                  f"the step is noticed once, and {again()} tokens were fetched")
        elif "--clock" in sys.argv:
            check(False, "libfaketime is not installed (Debian: faketime)")
        n = given()
        check(n >= 2, f"the token was fetched {n} times in one run of some 5 s; each lived 3 s")
        log = open(f"{work}/bearer.log").read()
        check("secret-" not in log, "no token in the log")
        broker.close()
    finish()


main()
