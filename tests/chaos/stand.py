"""Everything that one scenario runs on: topics and models, slots, producer, reader, and the levers of its faults."""

from __future__ import annotations

import secrets
import subprocess
import time
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from models.bundle import Bundle
from models.repository import Repository
from tests.chaos.cluster import Cluster
from tests.chaos.events import ECHO, SCHEMA
from tests.chaos.load import Load
from tests.chaos.reader import Reader
from tests.chaos.scenario import Scenario
from tests.chaos.slots import Slots
from tests.chaos.supervised import SupervisedSlots
from tests.rig import Rig, Worker, sum_model
from tests.stub_registry import StubRegistry

DISK_BYTES = 256 << 10  # of the file system that `fill_disk` fills


class Stand:
    """A scenario's deployment on a running cluster. Make it, `begin`, hurt it, `close`."""

    def __init__(self, scenario: Scenario, cluster: Cluster, folder: Path) -> None:
        self.scenario, self.cluster, self.folder = scenario, cluster, folder
        self._prefix = f"{scenario.name}.{secrets.token_hex(3)}"
        self._lives = 0
        self._children: list[subprocess.Popen[bytes]] = []
        self._mounted = False
        self.low: dict[int, int] = {}  # per source partition, where the log begins after retention
        self.registry = StubRegistry(SCHEMA) if scenario.registry else None
        if self.registry is not None:
            self.registry.start()
        declared = {"limits": {"dead_letters_per_minute": 0}, **scenario.declared}
        self.rig = Rig(
            cluster.servers,
            folder,
            self._topic,
            partitions=scenario.partitions,
            outputs=scenario.outputs,
            schema=SCHEMA,
            output={"echo": list(ECHO)},
            **declared,
        )
        self.scales: dict[str, float] = {self.rig.version: 1.0}
        self._clock = folder / "clock"
        if scenario.tiny_disk:
            self._mount()
        self.reader = Reader(cluster.servers, self.rig.inferences, self.rig.dead_letters, isolation=scenario.isolation)
        self.load = Load(
            cluster.servers,
            self.rig.events,
            scenario.partitions,
            scenario.load,
            scenario.events,
            limit=scenario.limit,
        )
        self.slots: Slots | SupervisedSlots = Slots(self._start)
        if scenario.supervised:
            self.slots = SupervisedSlots(self._start_supervisor, folder / ".penstock" / "slots", self.group)

    def begin(self) -> None:
        """Start the slots, wait until they read every partition, then start the reader and the load."""
        self.slots.scale(self.scenario.slots)
        self.slots.wait_ready(self.scenario.partitions)
        self.reader.start()
        self.load.start()

    def close(self) -> None:
        """Leave nothing running and no topic behind."""
        self.slots.kill_all()
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()
        self.load.stop()
        self.rig.close()
        if self.registry is not None:
            self.registry.stop()
        if self._mounted:
            subprocess.run(["umount", "-l", str(self._state)], check=False)
        self._delete_topics()

    def _delete_topics(self) -> None:
        try:
            mine = [name for name in self.cluster.admin.list_topics(timeout=5).topics if name.startswith(self._prefix)]
            for deleted in self.cluster.admin.delete_topics(mine, request_timeout=10).values():
                deleted.result()
        except KafkaException:  # the cluster ends soon anyway
            pass

    def _topic(self, partitions: int, name: str) -> str:
        config = {"message.timestamp.type": "LogAppendTime"} if name == "events" else {}
        if name == "inferences" and self.scenario.output_bytes:
            config["max.message.bytes"] = str(self.scenario.output_bytes)
        whole = f"{self._prefix}.{name}"
        return self.cluster.topic(partitions, whole, **{key.replace(".", "_"): v for key, v in config.items()})

    # ---- workers

    @property
    def group(self) -> str:
        return f"penstock.{self.rig.name}"

    def coordinated(self, of: str) -> str:
        """Return the name whose coordinator a fault moves: the group, or slot 0's first transactional id."""
        return self.group if of == "group" else f"{self.group}.0-a"

    def keep(self, process: subprocess.Popen[bytes]) -> None:
        """End a process with the stand."""
        self._children.append(process)

    def _arguments(self) -> list[str]:
        arguments = [str(self.rig.file), "--bootstrap-servers", self.cluster.worker_servers]
        arguments += ["--repository", str(self.rig.folder / "models")]
        return arguments + (["--registry", self.registry.url] if self.registry is not None else [])

    def _start_supervisor(self, slots: int) -> Worker:
        arguments = [*self._arguments(), "--slots", str(slots), "--supervise"]
        return Worker(arguments, self.folder, self.folder / "slot-all.log", settings=self.scenario.settings)

    def _start(self, slot: str, folder: Path | None = None) -> Worker:
        self._lives += 1
        arguments = [*self._arguments(), "--slot", slot, "--metrics-port", "0"]
        log = self.folder / f"slot-{slot}-{self._lives:03}.log"
        return Worker(arguments, folder or self.folder, log, command=self._command(), settings=self.scenario.settings)

    def _command(self) -> tuple[str, ...]:
        options: list[str] = []
        if self.scenario.broken:
            options += ["--break", self.scenario.broken]
        if self.scenario.stepped:
            options += ["--clock", str(self._clock)]
        return ("tests.chaos.wrapped", *options, "--") if options else ("penstock.cli", "worker")

    def start_twin(self, slot: str) -> None:
        """Run the slot in another state folder, where no lock file keeps it out, and let it be the slot."""
        elsewhere = self.folder / f"elsewhere-{self._lives}"
        elsewhere.mkdir()
        assert isinstance(self.slots, Slots)
        self.slots.replace(slot, lambda: self._start(slot, elsewhere))

    # ---- levers

    def publish_model(self, scale: float) -> str:
        """Make a version that gives `scale` times the sum the production model; return the version."""
        built = Bundle.build(name="sum", model=scaled_model(scale), features=["a", "b"])
        self._repository.add(built, tags=["production"])
        self.scales[built.manifest.version] = scale
        return built.manifest.version

    def publish_bad_model(self) -> str:
        """Make a version that needs a field which events lack the production model; return the version before."""
        good = self._repository.resolve("sum@production").manifest.version
        built = Bundle.build(name="sum", model=sum_model(), features=["a", "no_such_field"])
        self._repository.add(built, tags=["production"])
        return good

    def tag(self, version: str) -> None:
        """Make a version the production model."""
        self._repository.tag("sum", version, "production")

    @property
    def _repository(self) -> Repository:
        return Repository(str(self.rig.folder / "models"), cache=self.folder / "cache")

    def step_clock(self, seconds: float) -> None:
        """Let the workers' clocks jump."""
        self._clock.write_text(str(_number(self._clock) + seconds))

    @property
    def _state(self) -> Path:
        return self.folder / ".penstock"

    def _mount(self) -> None:
        """Give the state folder a file system of its own. Raises RuntimeError without the right to mount."""
        self._state.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(self._state)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"a full disk needs the right to mount one: {done.stderr.strip()}")
        self._mounted = True

    def fill_disk(self) -> None:
        """Write until the state folder's file system is full."""
        with (self._state / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                return

    def empty_disk(self) -> None:
        (self._state / "filler").unlink(missing_ok=True)

    # ---- how far it is

    def settled(self) -> bool:
        """Say whether every partition has a result for its last event, and there are as many results as events."""
        ledger, highest = self.load.ledger, dict(self.reader.results.highest)
        for partition, sequences in ledger.sequences.items():
            if highest.get(partition, -1) < len(sequences) - 1:
                return False
        return True

    def committed(self) -> dict[int, int]:
        """Return per source partition the offset that the group has committed."""
        wanted = [TopicPartition(self.rig.events, p) for p in range(self.load.partitions)]
        asked = self.cluster.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self.group, wanted)])
        found = asked[self.group].result().topic_partitions or []
        return {each.partition: max(0, each.offset) for each in found}

    def owed(self) -> int:
        """How many acknowledged events have no result yet, at least."""
        return self.load.ledger.count - len(self.reader.results) - sum(self.low.values())

    def lost_counted(self) -> int:
        """Return how many events the workers say that retention took."""
        total = 0.0
        for name in self.slots.names:
            worker = self.slots.worker(name)
            if worker is not None and worker.process.poll() is None:
                total += worker.metric("penstock_events_lost_total")
        return int(total)

    def logs(self) -> str:
        """Return what every worker said."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("slot-*.log")))

    def wait_settled(self, seconds: float) -> bool:
        """Block until everything has a result, at most so long; return whether it has."""
        deadline, quiet = time.monotonic() + seconds, 0.0
        seen = -1
        while time.monotonic() < deadline:
            count = len(self.reader.results)
            if count != seen:
                seen, quiet = count, time.monotonic()
            if self.settled() and (self.owed() <= 0 or time.monotonic() - quiet > 5):
                return True
            if self.reader.failure is not None:
                raise self.reader.failure
            time.sleep(0.05)
        return False


def scaled_model(scale: float) -> bytes:
    """An ONNX model of the matrix [a, b] whose score is `scale` times a + b."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
            helper.make_node("Mul", ["sum", "scale"], ["score"]),
        ],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
            helper.make_tensor("scale", TensorProto.FLOAT, [1], [scale]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def _number(path: Path) -> float:
    try:
        return float(path.read_text())
    except OSError:
        return 0.0
