"""Rows S1 to S5: what comes from others is data and never code, and outputs stay where they belong."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from . import rows_security_code, rows_security_runs  # noqa: F401  # they declare their rows
from .bench import Bench, Workspace, command
from .evil import evil_files, evil_pickle, evil_zip, model_with, watch_for_code
from .rows import row

LORA = '\n[[plugins]]\nuse = "plugins.lora.Lora"\nstart_from = {}\n'
MARKED = '\n[[plugins]]\nuse = "tests.faults.plugins_for_security.Marker"\n'


def refused(
    bench: Bench, work: Workspace, *said: str, inject: Callable[[], object] | None = None, code: int = 2
) -> None:
    """`train` ends with the code and these words, and shows no traceback."""
    ended = bench.train(work, inject=inject)
    assert ended.code == code, f"{ended.code}: {ended.output}"
    for words in said:
        assert words in ended.output, f"{words!r} is not in: {ended.output}"
    assert "Traceback" not in ended.output, ended.output


@row("S1", "weights come from safetensors alone, by content", cut=3, short=11, long=11)
def weights(bench: Bench) -> None:
    """Pickles under any name, headers that lie and indices that lead elsewhere are refused, and nothing in them runs."""
    marker, hint = bench.folder / "marker", "python run.py convert"
    files = evil_files(marker)
    cases: dict[str, Callable[[], None]] = {name: lambda name=name: single(name) for name in files}  # type: ignore[misc]

    def single(name: str) -> None:
        path = bench.folder / name
        path.write_bytes(files[name]())
        said = () if name in ("huge.safetensors", "large.safetensors") else (hint,)
        refused(bench, bench.workspace(model=path), name, *said)
        path.unlink()

    def part(name: str, content: dict[str, object], *said: str) -> None:
        model = model_with(bench.folder / name, content)
        refused(bench, bench.workspace("model.from_scratch=['text_encoder']", model=model), *said)

    pickled = "unet/diffusion_pytorch_model"
    index = {"weight_map": {"conv_in.weight": "../../elsewhere.bin"}}
    cases |= {
        "a folder with .bin alone": lambda: part("bin", {f"{pickled}.bin": evil_zip(marker)}, hint, f"{pickled}.bin"),
        "a pickle within a folder": lambda: part(
            "named", {f"{pickled}.safetensors": evil_pickle(marker)}, hint, "is a pickle"
        ),
        "an index that leads out": lambda: part(
            "led", {f"{pickled}.safetensors.index.json": index, f"{pickled}.safetensors": b""}, "elsewhere.bin"
        ),
        "an adapter": lambda: _adapter(bench, marker, hint),
        "a checkpoint": lambda: _checkpoint(bench, marker),
    }
    chosen = ("pickle.safetensors", "a folder with .bin alone", "an adapter") if bench.size == "cut" else tuple(cases)
    for name in chosen:
        with bench.trial(name):
            cases[name]()
            assert not marker.exists(), f"{name} ran"


def _adapter(bench: Bench, marker: Path, hint: str) -> None:
    path = bench.folder / "adapter.safetensors"
    path.write_bytes(evil_pickle(marker))
    work = bench.workspace("model.train=['unet']", plugins=LORA.format(json.dumps(str(path))))
    refused(bench, work, "plugins[0].start_from", hint)


def _checkpoint(bench: Bench, marker: Path) -> None:
    """Whoever can write the manifest too can make its digests fit."""
    work = bench.workspace("train.steps=2")
    assert bench.train(work).code == 0
    for checkpoint in work.checkpoints:
        weights, manifest = checkpoint / "weights.safetensors", checkpoint / "manifest.json"
        weights.write_bytes(evil_pickle(marker))
        table = json.loads(manifest.read_text())
        data = weights.read_bytes()
        table["files"][weights.name] = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
        manifest.write_text(json.dumps(table))
    ended = bench.train(work, "train.steps=4")
    assert ended.code == 4, ended.output
    assert "Traceback" not in ended.output, ended.output


CODE = {
    "pipeline.py": ({"pipeline.py": "import os"}, "pipeline.py is a program"),
    "a part's own code": ({"unet/modeling.py": "import os"}, "modeling.py is a program"),
    "custom_pipeline": ({"model_index.json": {"custom_pipeline": "pipeline"}}, "'custom_pipeline'"),
    "auto_map": ({"text_encoder/config.json": {"auto_map": {"AutoModel": "evil.Model"}}}, "config.json has the key 'auto_map'"),
    "a tokenizer's auto_map": (
        {"tokenizer/tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.T", None]}}}, "'auto_map'",
    ),
    "a kernel": (
        {"text_encoder/config.json": {"_attn_implementation_internal": "someone/kernel"}}, "'_attn_implementation_internal'",
    ),
    "another library": ({"model_index.json": {"unet": ["evil", "UNet2DConditionModel"]}}, "unet = ['evil'"),
    "another base": ({"text_encoder/adapter_config.json": {"base_model_name_or_path": "x"}}, "adapter_config.json"),
    "a config that is the name of a model": (
        {"scheduler/scheduler_config.json": '"someone/model"'}, "scheduler_config.json is no table",
    ),
    "nested too deeply": ({"text_encoder/config.json": '{"a":' * 100_000}, "config.json is no JSON"),
}  # fmt: skip


@row("S3", "offline, and no code that comes with a model", cut=4, short=11, long=11)
def model_code(bench: Bench) -> None:
    """Folders with programs, or with settings that name some, are refused; an audit hook sees none of it imported."""
    for number, (name, (files, said)) in enumerate(list(CODE.items())[:: 4 if bench.size == "cut" else 1]):
        with bench.trial(name):
            model = model_with(bench.folder / f"model-{number}", dict(files))
            found = bench.folder / f"found-{number}"
            refused(bench, bench.workspace(model=model), said, inject=watch_for_code(model, found))
            assert found.read_text() == "", found.read_text()
    with bench.trial("the environment is offline"):
        ended = bench.fork(_print_environment)
        assert ended.output.split()[-3:] == ["1", "1", "1"], ended.output


def _print_environment() -> int:
    with suppress(SystemExit):
        command("check", "no-such-config.toml")
    names = ("HF_HUB_OFFLINE", "DIFFUSERS_DISABLE_REMOTE_CODE", "PYTHONSAFEPATH")
    print(*(os.environ[name] for name in names))
    return 0


USES = ("../x", "/abs/x.Y", "plugins\\x.Y", "os", "os.system", "x.Y\0", "", "..", "plugins.x.", "plugins/x.Y")


@row("S4", "only the plugins that the config names are imported", cut=5, short=15, long=15)
def plugin_code(bench: Bench) -> None:
    """Odd names and links out of the config's folder are refused before an import; the data's folder is not searched."""
    marker = bench.folder / "marker"
    for use in USES[:: 5 if bench.size == "cut" else 1]:
        with bench.trial(f"use = {use!r}"):
            refused(bench, bench.workspace(plugins=f"\n[[plugins]]\nuse = {json.dumps(use)}\n"), "plugins[0].use")
    with bench.trial("a link out of the folder"):
        _link_out(bench, marker)
    with bench.trial("the folder of the data"):
        _data_folder(bench, marker)
    with bench.trial("--no-plugins"):
        _no_plugins(bench, marker)
    if bench.size != "cut":
        with bench.trial("a worker in the folder of the data"):
            _data_folder(bench, marker, "data.workers=1", "data.start_method='spawn'")
        with bench.trial("each plugin is named with its file and digest"):
            _named_plugins(bench)


def _program(marker: Path) -> str:
    return f"import os\nos.mkdir({str(marker)!r})\nfrom events import Plugin\nclass P(Plugin):\n    pass\n"


def _link_out(bench: Bench, marker: Path) -> None:
    outside = bench.folder / "outside.py"
    outside.write_text(_program(marker))
    work = bench.workspace(plugins='\n[[plugins]]\nuse = "linked.P"\n')
    (work.path / "linked.py").symlink_to(outside)
    refused(bench, work, "linked.py is a link that leads out of", str(outside))
    assert not marker.exists()


def _data_folder(bench: Bench, marker: Path, *overrides: str) -> None:
    """A run that is started in the data's folder, which holds modules of all kinds of names."""
    from .bench import copy_pictures

    data = copy_pictures(bench.folder / f"pictures-{len(overrides)}")
    for name in ("sitecustomize", "usercustomize", "plugin", "torch", "multiprocessing", "json"):
        (data / f"{name}.py").write_text(_program(marker))
    work = bench.workspace("train.steps=1", *overrides, data=data)

    def inside() -> int:
        import run

        os.chdir(data)
        return command("train", str(work.config)) if run else 1

    ended = bench.fork(inside, timeout=90)
    assert ended.code == 0, ended.output
    assert not marker.exists(), "a module of the data's folder was imported"


def _no_plugins(bench: Bench, marker: Path) -> None:
    work = bench.workspace("train.steps=1", plugins='\n[[plugins]]\nuse = "beside.P"\n')
    (work.path / "beside.py").write_text(_program(marker))
    ended = bench.train(work, arguments=("--no-plugins",))
    assert ended.code == 0, ended.output
    assert not marker.exists(), "a plugin was imported"
    assert "--no-plugins leaves out: beside.P" in ended.output, ended.output
    assert work.said("plugins that are left out (enabled = false, or --no-plugins): beside.P")


def _named_plugins(bench: Bench) -> None:
    work = bench.workspace("train.steps=1", plugins='\n[[plugins]]\nuse = "beside_too.P"\nname = "mine"\n')
    file = work.path / "beside_too.py"
    file.write_text("from events import Plugin\nclass P(Plugin):\n    version = 7\n")
    assert bench.train(work).code == 0
    digest = sha256(file.read_bytes()).hexdigest()
    facts = json.loads((work.checkpoints[-1] / "manifest.json").read_text())["plugins"]
    assert facts == [
        {"name": "mine", "use": "beside_too.P", "version": 7, "file": str(file.resolve()), "sha256": digest}
    ]
    assert work.said(f"mine: beside_too.P version 7, {file.resolve()}, sha256 {digest[:16]}")


NAMES = ("..", ".", "../x", "/etc/x", "a/b", "a\\b", ".hidden", "a\0b", "x" * 65, "a b", "ä", "a\nb", "%2e%2e", "~", "~root",
         "$HOME", "a:b", "con*", "", "a/../../b")  # fmt: skip
ODD_PROMPTS = ("../../../etc/passwd", "/etc/passwd", "..", "a\\..\\b", "x" * 300, "%00 nul", "~/x", "\u202egnp.x")


@row("S5", "outputs stay in the folder of the run", cut=2, short=4, long=4)
def paths(bench: Bench) -> None:
    """Names that lead elsewhere are refused; a run with odd prompts, previews and exports writes in its folder alone."""
    with bench.trial("20 names of runs, plugins and validation sets"):
        from core.config.file import validate

        for name in NAMES:
            for tree in _named(name):
                assert validate(tree)[0] is None, tree
    if bench.size != "cut":
        with bench.trial("a run by name"):
            refused(bench, bench.workspace("run.name='..'"), "run.name", "is no name")
        with bench.trial("a plugin by name"):
            plugin = '\n[[plugins]]\nuse = "plugins.ema.Ema"\nname = "../x"\n'
            refused(bench, bench.workspace(plugins=plugin), "plugins[0].name", "is no name")
    with bench.trial("a run that writes all that there is"):
        _all_outputs(bench)


def _named(name: str) -> Sequence[dict[str, object]]:
    least = {"model": {"path": "m"}, "data": {"root": "d"}}
    named = [least | {"run": {"name": name}}, least | {"validation": {"sets": {name: "d"}}}]
    return named + ([least | {"plugins": [{"use": "a.B", "name": name}]}] if name else [])


def _all_outputs(bench: Bench) -> None:
    plugins = "".join(f'\n[[plugins]]\nuse = "plugins.{one}"\n' for one in (
        "preview_evolution.PreviewEvolution", "metrics_file.MetricsFile", "tensorboard.TensorBoard",
    ))  # fmt: skip
    work = bench.workspace(
        "train.steps=1", "preview.at_end=true", "preview.prompts=__PROMPTS__", "preview.steps=1", "export.at_end=true",
        "export.single_file=true", plugins=plugins,
    )  # fmt: skip
    prompts = work.path / "prompts.toml"
    prompts.write_text("".join(f"[[prompts]]\ntext = {json.dumps(text)}\n" for text in ODD_PROMPTS))
    work.config.write_text(work.config.read_text().replace("__PROMPTS__", json.dumps(str(prompts))))
    before = _files(bench.folder)
    written = bench.folder / "written"
    ended = bench.train(work, inject=_watch_writes(written))
    assert ended.code == 0, ended.output
    new = _files(bench.folder) - before - {written, *bench.folder.glob("child-*")}
    homes = (work.run, work.path / "cache")
    assert new
    assert [path for path in new if not any(path.is_relative_to(home) for home in homes)] == []
    opened = [Path(line) for line in written.read_text().splitlines()]
    strange = [path for path in opened if not any(path.is_relative_to(home) for home in (*homes, "/dev", "/proc"))]
    assert opened
    assert strange == []
    assert len(list((work.run / "previews" / "step-000001").glob("*.png"))) == len(ODD_PROMPTS) + 1


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def _watch_writes(found: Path) -> Callable[[], None]:
    """For a child: the real path of whatever Python opens to write is noted."""

    def begin() -> None:
        import sys

        descriptor = os.open(found, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event == "open" and isinstance(arguments[0], str | bytes) and int(str(arguments[2] or 0)) & (
                os.O_WRONLY | os.O_RDWR | os.O_CREAT
            ):  # fmt: skip
                os.write(descriptor, os.fsencode(os.path.realpath(arguments[0])) + b"\n")

        sys.addaudithook(hook)

    return begin
