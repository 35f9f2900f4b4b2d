"""`run.py new plugin NAME` writes a plugin and its test: they pass, type-check and lint as they are, anywhere."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import ConfigError
from core.scaffold.new_plugin import names_of, write_plugin
from tests.small_runs import ROOT

CONFIG = '[model]\npath = "."\n[data]\nroot = "."\n'
TYPES = "[mypy]\nstrict = true\nfollow_imports = silent\n[mypy-torch.*]\nfollow_imports = skip\n"


def command(*arguments: str, cwd: Path, code: int = 0, **environment: str) -> str:
    """The output of a Python command in a folder; the environment is empty but for this."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, outside the checkout, after `run.py new plugin`."""
    folder = tmp_path_factory.mktemp("elsewhere")
    told = command(str(ROOT / "run.py"), "new", "plugin", "SoftLight", cwd=folder)
    config = told[told.index("[[plugins]]") : told.index("test it with")]
    (folder / "config.toml").write_text(CONFIG + config)
    (folder / "mypy.ini").write_text(TYPES)
    (folder / "told.txt").write_text(told)
    return folder


def test_it_writes_a_plugin_and_a_test_and_says_so(project: Path) -> None:
    assert (project / "plugins" / "soft_light.py").is_file()
    told = (project / "told.txt").read_text()
    assert "plugins/soft_light.py is written, and tests/test_soft_light.py" in told
    assert "python -m pytest tests/test_soft_light.py" in told


def test_its_test_passes(project: Path) -> None:
    said = command("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", cwd=project)
    assert "6 passed" in said


def test_its_test_notices_a_plugin_that_does_something_else(project: Path, tmp_path: Path) -> None:
    for name in ("plugins/soft_light.py", "tests/test_soft_light.py"):
        (tmp_path / name).parent.mkdir()
        text = (project / name).read_text()
        (tmp_path / name).write_text(text.replace("sample.rng.py.random()", "hash(self)"))
    assert "failed" in command("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path, code=1)


def test_the_config_that_it_prints_attaches_it(project: Path) -> None:
    plan = command(str(ROOT / "run.py"), "plan", "config.toml", cwd=project)
    handlers = [line.split()[2] for line in plan.splitlines() if "soft_light.py:" in line]
    assert handlers == ["SoftLight.weigh", "SoftLight.add_word", "SoftLight.note", "SoftLight.tell"]
    assert "async  plugins/soft_light.py" in plan


def test_both_files_are_in_order_for_linter_and_formatter(project: Path) -> None:
    command("-m", "ruff", "check", "--isolated", "--no-cache", ".", cwd=project)
    command("-m", "ruff", "format", "--isolated", "--no-cache", "--check", ".", cwd=project)
    rules = ("--config", str(ROOT / "pyproject.toml"), "--no-cache")
    command("-m", "ruff", "check", *rules, "--ignore", "I", "plugins", cwd=project)
    command("-m", "ruff", "format", *rules, "--check", "plugins", cwd=project)


def test_in_a_clone_they_are_as_its_own_check_wants_them(tmp_path: Path) -> None:
    (tmp_path / "events").symlink_to(ROOT / "events")
    (tmp_path / "plugins").mkdir()
    for name in ("__init__.py", "loading.py"):
        (tmp_path / "plugins" / name).touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    list(write_plugin("soft_light", tmp_path, ()))
    command("-m", "ruff", "check", "--no-cache", "plugins", "tests", cwd=tmp_path)


def test_both_files_are_in_order_for_a_strict_type_checker(project: Path) -> None:
    files = ("plugins/soft_light.py", "tests/test_soft_light.py")
    assert "no issues found in 2 source files" in command("-m", "mypy", *files, cwd=project, MYPYPATH=str(ROOT))


def test_it_says_so_where_pytest_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest", None)
    assert "which needs pip install pytest" in "".join(write_plugin("soft_light", tmp_path, ()))


def test_nothing_is_overwritten(project: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*.py")}
    said = command(str(ROOT / "run.py"), "new", "plugin", "soft_light", cwd=project, code=2)
    assert "plugins/soft_light.py is there already, and nothing is overwritten" in said
    assert "tests/test_soft_light.py is there already" in said
    assert "Traceback" not in said
    assert {path: path.read_bytes() for path in before} == before


def test_a_plugin_is_not_written_where_only_its_test_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_hue.py").touch()
    with pytest.raises(ConfigError, match="is there already"):
        write_plugin("hue", tmp_path, [])
    assert not (tmp_path / "plugins").exists()


@pytest.mark.parametrize(
    ("name", "module", "kind"),
    [
        ("hue", "hue", "Hue"),
        ("soft_light_2", "soft_light_2", "SoftLight2"),
        ("SoftLight", "soft_light", "SoftLight"),
        ("HSLShift", "hsl_shift", "HSLShift"),
    ],
)
def test_module_and_class_follow_from_either_name(name: str, module: str, kind: str) -> None:
    assert names_of(name) == (module, kind)


@pytest.mark.parametrize(
    "name",
    ["", "soft-light", "soft light", "Soft_Light", "_soft", "soft_", "so__ft", "2soft", "söft", "a" * 41, "../x"],
)
def test_another_form_of_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no name of up to 40 letters such as soft_light or SoftLight"):
        write_plugin(name, tmp_path, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("class", "is a word of Python's own"),
        ("None", "is a word of Python's own"),
        ("captions", "is there already, beside the trainer, and is found first"),
        ("Batch", "is the name of something that the plugin needs"),
        ("plugin", "is the name of something that the plugin needs"),
    ],
)
def test_a_name_that_would_be_in_the_way_is_refused(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        write_plugin(name, tmp_path, ["captions"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        write_plugin("hue", tmp_path / "nowhere", [])


def test_the_command_knows_the_modules_of_the_trainer(tmp_path: Path) -> None:
    said = command(str(ROOT / "run.py"), "new", "plugin", "captions", "--folder", str(tmp_path), cwd=ROOT, code=2)
    assert "plugins.captions is there already, beside the trainer" in said
    command(str(ROOT / "run.py"), "new", "plugin", "hue", "--folder", str(tmp_path), cwd=ROOT)
    assert (tmp_path / "plugins" / "hue.py").is_file()
