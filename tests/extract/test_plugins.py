"""Backbones of one's own: the example of the documentation run through the command line, and what is refused."""

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image

from mmdf.cache.errors import UsageError
from mmdf.cache.manifest import Manifest
from mmdf.cache.store import FeatureStore
from mmdf.cli import main
from mmdf.extract import backbones
from mmdf.extract.backbones import CARDS, ENTRY_POINTS, FAMILIES, Card, card_of, load_plugin, register

DOCS = Path(__file__).parents[2] / "docs" / "backbones.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Whatever a test registers is gone after it."""
    cards, families, modules = dict(CARDS), dict(FAMILIES._targets), set(sys.modules)
    backbones.load_installed_plugins.cache_clear()
    yield
    backbones.load_installed_plugins.cache_clear()
    for known, before in ((CARDS, cards), (FAMILIES._targets, families)):
        known.clear()
        known.update(before)
    for name in set(sys.modules) - modules:
        if name.startswith(("mmdf_plugin_", "my_lab")):
            del sys.modules[name]


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str, name: str = "mine.py") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


CARD = "Card('mine', family='mine', view='frame', dim=4, paper='none', licence='none')"
IMPORT = "from mmdf.extract.backbones import Card, register\n"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def test_the_example_of_the_documentation_runs_from_the_shell(tmp_path: Path, make_image, plugin, capsys) -> None:
    pictures = [make_image(f"m/{label}/{n}.png", (70, 90), seed=n) for n, label in enumerate(("real", "fake", "real"))]
    Image.open(pictures[0]).convert("RGB").save(tmp_path / "m" / "fake" / "blocky.jpg", quality=5)
    model = torchvision.models.resnet18(weights=None).eval()
    model.fc = torch.nn.Identity()
    (tmp_path / "weights" / "my-resnet").mkdir(parents=True)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights" / "my-resnet" / "model.safetensors")
    (tmp_path / "weights" / "my-resnet" / "config.json").write_text("{}")
    file, manifest, store = plugin(blocks("python")[0]), tmp_path / "m.parquet", tmp_path / "store"
    assert run("manifest", "build", "--layout", "folders", tmp_path / "m", "-o", manifest) == 0
    code = run(
        *("extract", manifest, "-s", store, "--plugin", file, "--weights", tmp_path / "weights", "--workers", 0),
        *("-b", "blockiness,my-resnet", "--dtype", "float32"),
    )
    assert code == 0, capsys.readouterr().err
    found, opened = Manifest.read(manifest), FeatureStore.open(store)
    specs = {spec.alias: spec for spec in opened.specs()}
    assert set(specs) == {"blockiness/frame", "my-resnet/frame"}
    assert specs["blockiness/frame"].preprocessing == {"block_px": 8}
    assert len(specs["my-resnet/frame"].weights_digest) == 64
    names = [item.path for item in found.items()]
    blocky = opened.read(specs["blockiness/frame"], found).values.astype(np.float32)
    assert blocky.shape == (4, 16)
    steps = blocky[names.index("fake/blocky.jpg"), :8]
    assert steps.argmax() == 7, "a JPEG's steps are largest between its blocks"
    assert steps[7] > 1.5 * np.delete(steps, 7).mean()
    values = opened.read(specs["my-resnet/frame"], found).values.astype(np.float32)
    preset = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        expected = model(preset(Image.open(pictures[0]).convert("RGB"))[None]).numpy()[0]
    own = values[names.index("real/0.png")]
    assert own @ expected / np.linalg.norm(own) / np.linalg.norm(expected) > 0.999
    capsys.readouterr()
    assert run("list", "backbones", "--plugin", file) == 0
    assert re.search(r"^my-resnet +frame,face,mouth +512 +224 px, imagenet", capsys.readouterr().out, re.MULTILINE)


def test_the_example_is_short_typed_and_of_one_screen() -> None:
    (example,) = blocks("python")
    assert len(example.splitlines()) < 60
    functions = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.FunctionDef)]
    assert all(ast.get_docstring(function) and function.returns for function in functions)


def test_the_entry_point_of_the_documentation_is_the_one_that_is_read() -> None:
    (text,) = blocks("toml")
    assert list(tomllib.loads(text)["project"]["entry-points"]) == [ENTRY_POINTS]


def test_every_backbone_stands_in_the_documentation() -> None:
    table = DOCS.read_text().partition("## Built in")[2].partition("##")[0]
    rows = {row.split("|")[1].strip(" `"): row for row in table.splitlines() if row.startswith("| `")}
    assert list(rows) == list(CARDS)
    for name, card in CARDS.items():
        source = card.hub_id or card.package or card.url.rpartition("/")[2]
        views = ", ".join((card.view, *(view for view in card.views if view != card.view)))
        for part in (views, f"| {card.dim} |", card.licence, card.paper, source, f"| {card.n_layers or '–'} |"):
            assert part in rows[name], f"{name}: {part}"
    for view in backbones.VIEWS:
        assert f"`{view}`" in DOCS.read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def broken(:", "does not run (SyntaxError"),
        ("import no_such_module", "does not run (ModuleNotFoundError: No module named 'no_such_module')"),
        ("x = 1 / 0", "does not run (ZeroDivisionError"),
        ("answer = 42", "registers no backbone: call mmdf.extract.backbones.register(card, load)"),
        (
            IMPORT + f"register({CARD.replace('mine', 'lfcc')}, print)",
            "A backbone cannot be called 'lfcc': the name is",
        ),
        (IMPORT + f"register({CARD.replace(chr(39) + 'mine', chr(39) + 'a/b', 1)}, print)", "cannot be called 'a/b'"),
        (IMPORT + f"register({CARD.replace(chr(39) + 'mine', chr(39) + 'hf:a', 1)}, print)", "cannot be called 'hf:a'"),
        (IMPORT + f"register({CARD.replace(chr(39) + 'mine', chr(39) + 'a+b', 1)}, print)", "cannot be called 'a+b'"),
        (
            IMPORT + f"register({CARD.replace('frame', 'ear')}, print)",
            "'mine' wants the view 'ear'. Views: frame, face",
        ),
        (
            IMPORT + f"register({CARD.replace('=' + chr(39) + 'mine', '=' + chr(39) + 'clip')}, print)",
            "There is a backbone family called 'clip' already",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_told_in_words(text: str, told: str, plugin, capsys) -> None:
    assert run("list", "backbones", "--plugin", plugin(text)) == 2
    assert told in capsys.readouterr().err
    assert "mine" not in CARDS


def test_a_plugin_that_is_no_file(tmp_path: Path, plugin, capsys) -> None:
    assert run("list", "backbones", "--plugin", tmp_path / "none.py") == 2
    assert "There is no plugin" in capsys.readouterr().err
    for path in (tmp_path, plugin(IMPORT, "mine.txt")):
        with pytest.raises(UsageError, match=r"There is no plugin|is not a Python file"):
            load_plugin(path)


def test_a_plugin_may_be_named_twice_and_mended_after_it_failed(plugin) -> None:
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        load_plugin(plugin(IMPORT + "1 / 0"))
    file = plugin(IMPORT + f"register({CARD}, print)\n")
    load_plugin(file)
    load_plugin(file)
    assert card_of("mine").views == ("frame",)
    assert card_of("mine/frame").alias == "mine/frame"


def test_two_cards_may_share_a_family_and_its_loader() -> None:
    for name in ("one", "two"):
        register(Card(name, "shared", "frame", 4, "none", "none", views=("mouth",)), print)
    assert FAMILIES.get("shared") is print
    assert card_of("one").views == ("frame", "mouth")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make `my_lab_cards` with that text an installed plugin."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(text: str) -> None:
        (tmp_path / "my_lab_cards.py").write_text(text)
        point = EntryPoint("my-lab", "my_lab_cards", ENTRY_POINTS)
        monkeypatch.setattr(backbones, "entry_points", lambda group: [point] if group == ENTRY_POINTS else [])

    return install


def test_an_installed_plugin_is_found_when_it_is_named(installed, capsys) -> None:
    installed(IMPORT + f"register({CARD}, 'my_lab_nets:load')\n")
    assert "mine" not in CARDS
    assert card_of("mine/frame").dim == 4
    assert "mine" in CARDS
    assert card_of("lfcc").name == "lfcc"
    assert run("list", "backbones") == 0
    assert re.search(r"^mine +frame +4 ", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise OSError('no disk')", r"'my-lab' of my_lab_cards does not load \(OSError: no disk\)"),
        ("import no_such_module", "'my-lab' of my_lab_cards does not load .ModuleNotFoundError"),
        (
            IMPORT + f"register({CARD.replace('mine', 'lfcc')}, print)",
            "'my-lab' of my_lab_cards does not load. A backb",
        ),
    ],
)
def test_an_installed_plugin_that_fails_is_named(text: str, told: str, installed) -> None:
    installed(text)
    assert card_of("lfcc").name == "lfcc", "what is built in needs no plugin"
    for _ in range(2):
        sys.modules.pop("my_lab_cards", None)
        with pytest.raises(UsageError, match=told):
            card_of("mine")
