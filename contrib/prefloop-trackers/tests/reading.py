"""What each tracker has of a run, read back with its own library: numbers, tables and files by name."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from attrs import field, frozen

Points = list[tuple[int, float]]


@frozen
class Tracked:
    """What was found."""

    ids: set[str] = field(factory=set)
    numbers: dict[str, Points] = field(factory=lambda: defaultdict(list))
    config: dict[str, Any] = field(factory=dict)
    tables: dict[str, list[int]] = field(factory=lambda: defaultdict(list))
    """The steps of each."""
    files: list[str] = field(factory=list)
    status: str = ""


def wandb(run: Path) -> Tracked:
    """The transaction logs of offline mode: a LevelDB log of W&B's own protocol buffers."""
    from prefloop_trackers.wandb_files import records

    found = Tracked()
    for file in sorted((run / "wandb").glob("offline-run-*/*.wandb")):
        for record in records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                found.ids.add(record.run.run_id)
                for item in record.run.config.update:
                    found.config[item.key or item.nested_key[0]] = json.loads(item.value_json)
            elif kind == "artifact":
                found.files.append(record.artifact.name)
            elif kind == "history":
                row = {i.key or i.nested_key[0]: i for i in record.history.item}
                step = json.loads(row["step"].value_json)
                for name, item in row.items():
                    if len(item.nested_key) > 1:  # what is no number has a mapping about it
                        found.tables[name].append(step)
                    else:
                        found.numbers[name].append((step, json.loads(item.value_json)))
    return found


def tensorboard(run: Path) -> Tracked:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    found = Tracked({str(run / "tensorboard")})
    for name in events.Tags()["scalars"]:
        found.numbers[name] += [(event.step, event.value) for event in events.Scalars(name)]
    texts = {
        name.removesuffix("/text_summary"): [
            (e.step, e.tensor_proto.string_val[0]) for e in events.Tensors(name)
        ]
        for name in events.Tags()["tensors"]
    }
    for line in texts["config"][0][1].decode().splitlines()[2:]:
        key, value = line.strip("| ").split(" | ")
        found.config[key] = value
    for name in (name for name in texts if name.startswith("pairs/")):
        found.tables[name] += [step for step, _ in texts[name]]
    return Tracked(
        found.ids,
        found.numbers,
        found.config,
        found.tables,
        [Path(texts["report"][0][1].decode()).name],
        texts["status"][-1][1].decode(),
    )


def mlflow(run: Path) -> Tracked:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(_option(run, "mlflow", "tracking_uri"))
    experiment = client.get_experiment_by_name("prefloop")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    found = Tracked({one.info.run_id for one in runs}, config=runs[0].data.params, status=runs[0].info.status)
    id = runs[0].info.run_id
    for name in runs[0].data.metrics:
        found.numbers[name] += [(m.step, m.value) for m in client.get_metric_history(id, name)]
    found.files.extend(file.path for file in client.list_artifacts(id))
    for file in client.list_artifacts(id, "pairs"):
        table = json.loads(Path(client.download_artifacts(id, file.path)).read_text())
        place = table["columns"].index("step")
        name = file.path.removesuffix(".json")
        found.tables[name] += sorted({row[place] for row in table["data"]})
    return found


def trackio(run: Path) -> Tracked:
    from trackio.sqlite_storage import SQLiteStorage

    project = _option(run, "trackio", "project")
    found = Tracked(config=SQLiteStorage.get_run_config(project, run.name) or {})
    for record in SQLiteStorage.get_run_records(project):
        found.ids.add(str(record["id"]))
    for row in SQLiteStorage.get_logs(project, run.name):
        for name, value in row.items():
            if isinstance(value, dict) and value.get("_type") == "trackio.table":
                found.tables[name].append(row["step"])
            elif isinstance(value, float | int) and name != "step":
                found.numbers[name].append((row["step"], value))
    found.files.extend(artifact["name"] for artifact in SQLiteStorage.get_artifacts(project))
    return found


def _option(run: Path, tracker: str, name: str) -> Any:
    from prefloop import open_run

    observers = open_run(run).settings["observers"]
    return next(o for o in observers if o["use"] == f"prefloop-trackers:{tracker}")[name]


def swanlab(run: Path) -> Tracked:
    import yaml
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record
    from swanlab.sdk.internal.core_python.store import DataStoreReader

    found, status = Tracked(), ""
    for folder in sorted((run / "swanlog").glob("run-*")):
        for key, value in yaml.safe_load((folder / "files" / "config.yaml").read_text()).items():
            found.config[key] = value["value"]
        reader = DataStoreReader()
        reader.open(next(folder.glob("*.swanlab")))
        for data in reader:
            record = Record()
            record.ParseFromString(data)
            kind = next(
                kind.name for kind, _ in record.ListFields() if kind.message_type and kind.name != "timestamp"
            )
            if kind == "start":
                found.ids.add(record.start.id)
            elif kind == "scalar":
                found.numbers[record.scalar.key].append((record.scalar.step, record.scalar.value.number))
            elif kind == "media" and record.media.key == "report":
                found.files.append(record.media.key)
            elif kind == "media":
                found.tables[record.media.key].append(record.media.step)
            elif kind == "finish":
                status = str(record.finish.state)
    return Tracked(found.ids, found.numbers, found.config, found.tables, found.files, status)
