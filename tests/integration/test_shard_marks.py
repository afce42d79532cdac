"""Settings that do not fit the shards that are there: each said at the start, in one line, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from streammesh.embedded import EmbeddedServer
from streammesh.keys import Keys
from streammesh.redisio.inspector import Inspector, ask_server
from streammesh.redisio.shard_marks import ShardMarks
from streammesh.settings import MeshSettings

from tests.harness.processes import MeshProcess

SHARDS = 2


class Servers:
    """Two servers, and settings of a mesh over them."""

    def __init__(self, servers: list[EmbeddedServer]) -> None:
        self.servers = servers
        self.urls = [server.url for server in servers]

    def settings(self, shards: int = SHARDS, urls: list[str] | None = None) -> MeshSettings:
        return MeshSettings(_env_file=None, shards=shards, redis_url=" ".join(urls or self.urls))

    def begin(self, settings: MeshSettings | None = None) -> None:
        """Have a process of each shard look."""
        whole = settings or self.settings()
        for number in range(whole.shards):
            assert marks(whole, number).findings() == []

    def grow_old(self) -> None:
        """Let the marks be old enough to be on disk, and be looked at again."""
        for number in range(SHARDS):
            self.client(number).hset(Keys(f"mesh.{number}").format(), "since", 1)
        for number in range(SHARDS):
            assert marks(self.settings(), number).findings() == []

    def client(self, number: int) -> redis.Redis:
        return redis.Redis.from_url(self.urls[number])

    def contents(self) -> list[dict[bytes, bytes | None]]:
        return [{key: self.client(n).dump(key) for key in self.client(n).scan_iter()} for n in range(SHARDS)]


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("marks")
    with EmbeddedServer(folder / "a") as one, EmbeddedServer(folder / "b") as two:
        yield Servers([one, two])


@pytest.fixture
def servers(started: Servers) -> Servers:
    for number in range(SHARDS):
        started.client(number).flushall()
    return started


def marks(settings: MeshSettings, number: int) -> ShardMarks:
    return ShardMarks(settings.of_shard(number), ask_server)


def codes(settings: MeshSettings, number: int = 0) -> list[str]:
    return [one.code for one in marks(settings, number).findings()]


@pytest.mark.parametrize("first", [0, 1])
def test_a_mesh_that_begins_is_marked_in_every_shard_whoever_comes_first(servers, first):
    for number in (first, 1 - first):
        assert codes(servers.settings(), number) == []

    found = marks(servers.settings(), 0).all()
    assert [(one.shards, one.shard) for one in found] == [(2, 0), (2, 1)]
    assert found[0].birth == found[1].birth
    assert not any(one.is_whole for one in found)


def test_shards_are_whole_once_all_were_found_and_are_on_disk(servers):
    servers.begin()
    servers.begin()
    assert not any(one.is_whole for one in marks(servers.settings(), 0).all())

    servers.grow_old()

    assert all(one.is_whole for one in marks(servers.settings(), 0).all())


def test_what_does_not_fit_is_said_and_nothing_is_changed(servers):
    servers.begin()
    servers.grow_old()
    before = servers.contents()

    swapped = servers.settings(urls=servers.urls[::-1])
    more = servers.settings(3, [*servers.urls, servers.urls[0]])
    alone = servers.settings(1, servers.urls[:1])

    assert [codes(swapped, n) for n in (0, 1)] == [["shards-in-another-order"]] * 2
    assert [codes(more, n) for n in (0, 1)] == [["shards-differ"]] * 2
    assert codes(more, 2) in (["shard-empty"], ["shards-in-another-order"])
    assert codes(alone) == ["shards-differ"]
    assert "MESH_SHARDS is 1, and the mesh of this name has 2 shards" in marks(alone, 0).findings()[0].text
    assert servers.contents() == before


@pytest.mark.parametrize("number", [0, 1])
def test_a_shard_that_lost_its_data_is_not_begun_anew_unless_somebody_says_so(servers, number):
    servers.begin()
    servers.grow_old()
    servers.client(number).flushall()

    assert codes(servers.settings(), number) == ["shard-empty"]
    assert servers.client(number).dbsize() == 0
    assert codes(servers.settings(), 1 - number) == (["shard-empty"] if number == 0 else [])

    assert marks(servers.settings(), 0).accept() == [number]
    assert [codes(servers.settings(), n) for n in (0, 1)] == [[], []]


@pytest.mark.parametrize("number", [0, 1])
def test_a_shard_that_forgot_its_first_second_is_marked_again(servers, number):
    servers.begin()
    servers.client(number).flushall()

    servers.begin()

    assert len({one.birth for one in marks(servers.settings(), 0).all()}) == 1


def test_a_server_of_another_mesh_is_not_taken_for_a_shard(servers):
    servers.begin()
    key = Keys("mesh.1").format()
    servers.client(1).hset(key, "birth", "another")

    assert codes(servers.settings(), 1) == ["shard-of-another-mesh"]


def test_a_mesh_of_one_shard_is_not_begun_anew_in_several(servers):
    servers.client(0).hset(Keys("mesh").format(), "version", 1)

    assert [codes(servers.settings(), n) for n in (0, 1)] == [["shards-differ"]] * 2
    assert servers.client(1).dbsize() == 0


def test_a_first_shard_that_is_away_is_waited_for(servers):
    servers.begin()
    servers.servers[0].stop()
    try:
        assert codes(servers.settings(), 1) == []
    finally:
        servers.servers[0].start()


def test_no_process_starts_with_another_number_of_shards(servers, tmp_path):
    servers.begin()
    env = {"MESH_REDIS_URL": servers.urls[0], "MESH_SHARDS": "3", "MESH_SHARD": "0"}
    process = MeshProcess("refused", "services.dispatcher", env, tmp_path).start()

    assert process._process is not None
    assert process._process.wait(30) == 2
    said = process.log.read_text().strip().splitlines()[-1]
    assert "MESH_SHARDS is 3, and the mesh of this name has 2 shards" in said
    assert "set MESH_SHARDS=2" in said


def test_the_inspector_refuses_by_the_marks(servers, capsys):
    servers.begin()

    with pytest.raises(SystemExit) as ended:
        Inspector(servers.settings(1, servers.urls[:1])).start()

    assert ended.value.code == 2
    assert "has 2 shards" in capsys.readouterr().err
