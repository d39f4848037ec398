"""Starting a real PostgreSQL server from the binaries installed on this machine."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

ACCOUNT = "postgres"  # runs the server where we are root, as which it refuses to run
START_SECONDS = 60.0
SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB")


@dataclass(frozen=True)
class PostgresServer:
    """A running one, on loopback. Nothing of it outlives the tests."""

    port: int
    password: str

    def connect(self) -> psycopg.Connection:
        """A connection as its superuser."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=ACCOUNT, password=self.password, dbname="postgres", autocommit=True
        )

    def url(self, database: str) -> str:
        """As --storage takes it."""
        return f"postgresql+psycopg://{ACCOUNT}:{self.password}@127.0.0.1:{self.port}/{database}"


def find_binaries() -> Path | None:
    """The folder of initdb and postgres: pg_config's, or else the newest version's that a package installed."""
    candidates: list[Path] = []
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        candidates.append(Path(answer.stdout.strip()))
    found = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(found, key=lambda path: (len(path.parent.name), path.parent.name), reverse=True)
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


def find_account() -> pwd.struct_passwd | None:
    """Who runs the server: an account of its own where we are root, ourselves otherwise."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    with suppress(KeyError):
        return pwd.getpwnam(ACCOUNT)
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def own(account: pwd.struct_passwd, *paths: Path) -> None:
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, account.pw_uid, account.pw_gid)


def start(binaries: Path, folder: Path, account: pwd.struct_passwd, server: PostgresServer) -> subprocess.Popen[bytes]:
    """Initialise a cluster in the folder and start its server."""
    password, data, log = folder / "password", folder / "data", folder / "server.log"
    password.write_text(server.password)
    own(account, folder, password)
    user, group, groups = (account.pw_uid, account.pw_gid, []) if os.geteuid() == 0 else (None, None, None)
    initdb = [str(binaries / "initdb"), "--pgdata", str(data), "--username", ACCOUNT, "--pwfile", str(password)]
    initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(
        initdb, capture_output=True, text=True, cwd=folder, user=user, group=group, extra_groups=groups, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"initdb: {done.stderr.strip()}")
    command = [str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(server.port), "-k", ""]
    command += [word for setting in SETTINGS for word in ("-c", setting)]
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=output, cwd=folder, user=user, group=group, extra_groups=groups
        )


def wait_until_it_answers(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.connect().close()
            return
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not answer: {log.read_text()[-2000:]}") from error
        time.sleep(0.1)
